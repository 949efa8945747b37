//! Tests of the port's values.

use super::*;

#[test]
fn a_reason_keeps_only_what_a_code_may_consist_of() {
    assert_eq!(Reason::new("Insufficient Funds").as_str(), "insufficient_funds");
    assert_eq!(Reason::new("<script>\u{0}").as_str(), "script");
    assert_eq!(Reason::new("\u{0}").as_str(), "refused");
    assert_eq!(Reason::new(&"x".repeat(1000)).as_str().len(), 64);
}

#[test]
fn a_method_token_does_not_show_in_debug_output() {
    assert!(!format!("{:?}", MethodToken("pm_secret".into())).contains("secret"));
}

#[test]
fn the_port_can_be_held_as_an_object() {
    fn _takes(_: std::sync::Arc<dyn PaymentGateway>) {}
}
