use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use stepwise_workflows::payment::gateway::{
    AuthorizationStatus, DisputeStatus, GatewayEvent, GatewayEventKind, News, RefundStatus,
};

use super::webhook::{WebhookRefusal, receive, sign, verify};
use super::*;

mod calls;

fn secret(text: &str) -> SecretString {
    text.into()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_764_000_000, 0).expect("a time")
}

#[test]
fn a_genuine_webhook_is_accepted_within_five_minutes_both_ways() {
    let secrets = [secret("whsec_1")];
    let header = sign(b"{}", &secrets, now());
    for seconds in [-300, 0, 300] {
        let at = now() + TimeDelta::seconds(seconds);
        assert_eq!(verify(Some(&header), b"{}", &secrets, at), Ok(()), "{seconds}");
    }
    for seconds in [-301, 301, 1_000_000] {
        let at = now() + TimeDelta::seconds(seconds);
        let refused = verify(Some(&header), b"{}", &secrets, at);
        assert_eq!(refused, Err(WebhookRefusal::OutOfTime), "{seconds}");
    }
}

#[test]
fn a_time_is_read_in_the_years_1970_to_9999_only() {
    for (unix_s, year) in [(0, "1970-01-01"), (253_402_300_799, "9999-12-31")] {
        assert!(wire::time(unix_s).is_some_and(|at| at.to_string().starts_with(year)), "{unix_s}");
    }
    for unix_s in [i64::MIN, -1, 253_402_300_800, 8_210_266_876_799, i64::MAX] {
        assert_eq!(wire::time(unix_s), None, "{unix_s}");
        let intent = serde_json::json!({
            "id": "pi_1", "amount": 1, "currency": "usd", "status": "requires_action",
            "next_action": {"redirect_to_url": {"url": "https://bank.example"}, "expires_at": unix_s},
        });
        let intent: wire::Intent = serde_json::from_value(intent).expect("an intent");
        let Some(AuthorizationStatus::ApprovalRequired(approval)) = intent.status() else {
            panic!("the customer must approve");
        };
        assert_eq!(approval.expires_at, None);
    }
}

#[test]
fn a_webhook_of_another_secret_body_or_time_is_refused() {
    let secrets = [secret("whsec_1")];
    let header = sign(b"{}", &secrets, now());
    let wrong = Err(WebhookRefusal::WrongSignature);
    assert_eq!(verify(Some(&header), b"{ }", &secrets, now()), wrong);
    assert_eq!(verify(Some(&header), b"{}", &[secret("whsec_2")], now()), wrong);
    assert_eq!(verify(Some(&header), b"{}", &[], now()), wrong);
    let moved = header.replace("t=1764000000", "t=1764000001");
    assert_eq!(verify(Some(&moved), b"{}", &secrets, now()), wrong);
}

#[test]
fn during_a_rotation_either_secret_will_do_on_either_side() {
    let (old, new) = (secret("whsec_old"), secret("whsec_new"));
    let both = [new.clone(), old.clone()];
    for (signed_with, known) in [
        (vec![old.clone()], both.to_vec()),
        (vec![new.clone()], both.to_vec()),
        (both.to_vec(), vec![old]),
        (both.to_vec(), vec![new]),
    ] {
        let header = sign(b"{}", &signed_with, now());
        assert_eq!(verify(Some(&header), b"{}", &known, now()), Ok(()));
    }
}

#[test]
fn the_signature_is_the_one_that_stripe_documents() {
    // openssl dgst -sha256 -hmac whsec_test over `1764000000.{"id":"evt_1"}`
    let header = sign(br#"{"id":"evt_1"}"#, &[secret("whsec_test")], now());
    assert_eq!(header, SIGNED);
}

const SIGNED: &str =
    "t=1764000000,v1=76728ba9029660ebc0a14b80fefcffcc0ad9c7139948290090e9bb71e97d5918";

#[test]
fn a_header_that_is_not_a_signature_is_refused_before_the_body_is_read() {
    let secrets = [secret("whsec_1")];
    let good = sign(b"{}", &secrets, now());
    let (_, v1) = good.split_once(',').expect("two parts");
    for header in ["", "t=1", v1, "t=x,v1=00", "t=1764000000,v1=zz", "nonsense", "t=,v1="] {
        let refused = receive(Some(header), b"not json", &secrets, now());
        assert_eq!(refused, Err(WebhookRefusal::NotSigned), "{header}");
    }
    assert_eq!(receive(None, b"{}", &secrets, now()), Err(WebhookRefusal::NotSigned));
}

fn read(body: &str) -> GatewayEvent {
    let secrets = [secret("whsec_1")];
    let signature = sign(body.as_bytes(), &secrets, now());
    receive(Some(&signature), body.as_bytes(), &secrets, now()).expect("genuine")
}

const CAPTURED: &str = r#"{"id":"evt_2","created":1764000000,"type":"payment_intent.succeeded","data":
    {"object":{"id":"pi_1","amount":4999,"amount_received":4000,"currency":"usd",
    "status":"succeeded","latest_charge":"ch_1",
    "metadata":{"orderId":"01970000-0000-7000-8000-000000000001"}}}}"#;

#[test]
fn an_event_about_an_authorization_is_read() {
    let event = read(CAPTURED);
    assert_eq!((&*event.id, &*event.name), ("evt_2", "payment_intent.succeeded"));
    assert_eq!(event.at, Some(now()));
    let News::Authorization(GatewayEventKind::Captured, found) = event.news else {
        panic!("{event:?}")
    };
    assert_eq!(found.amount.to_string(), "49.99 USD");
    let AuthorizationStatus::Captured { captured, .. } = found.status else { panic!("captured") };
    assert_eq!(captured.minor(), 4000);
    let News::Authorization(_, yen) = read(&CAPTURED.replace("usd", "jpy")).news else {
        panic!("read")
    };
    assert_eq!(yen.amount.to_string(), "4999 JPY");
}

const CHARGE: &str = r#"{"id":"ch_1","payment_intent":"pi_1","amount":4999,"amount_captured":4999,
    "amount_refunded":1000,"currency":"usd","metadata":{}}"#;
const REFUND: &str = r#"{"id":"re_1","payment_intent":"pi_1","amount":1000,"currency":"usd",
    "status":"failed","failure_reason":"lost_or_stolen_card","metadata":{"key":"k"}}"#;

fn news(kind: &str, object: &str) -> News {
    read(&format!(r#"{{"id":"evt","created":1,"type":"{kind}","data":{{"object":{object}}}}}"#))
        .news
}

#[test]
fn events_about_charges_refunds_and_disputes_are_read() {
    let News::Authorization(GatewayEventKind::Refunded, found) = news("charge.refunded", CHARGE)
    else {
        panic!("a refund")
    };
    let AuthorizationStatus::Captured { refunded, .. } = found.status else { panic!("captured") };
    assert_eq!(refunded.minor(), 1000);
    let News::Authorization(GatewayEventKind::Cancelled, found) = news("charge.expired", CHARGE)
    else {
        panic!("lapsed")
    };
    assert_eq!(found.status, AuthorizationStatus::Cancelled);
    // Stripe tells of a void in this way as well.
    let voided = CHARGE.replace("captured\":4999", "captured\":0").replace("1000", "4999");
    let News::Authorization(_, found) = news("charge.refunded", &voided) else { panic!("a void") };
    assert_eq!(found.status, AuthorizationStatus::Cancelled);
    for kind in ["charge.refund.updated", "refund.created", "refund.updated", "refund.failed"] {
        let News::Refund { authorization, refund } = news(kind, REFUND) else { panic!("{kind}") };
        assert_eq!((&*authorization.0, &*refund.reference.0), ("pi_1", "re_1"));
        assert_eq!(refund.status, RefundStatus::Failed(Reason::new("lost_or_stolen_card")));
        assert_eq!(refund.key.as_deref(), Some("k"));
    }
    for (status, expected) in [
        ("needs_response", DisputeStatus::Open),
        ("won", DisputeStatus::Won),
        ("lost", DisputeStatus::Lost),
    ] {
        let dispute = format!(
            r#"{{"id":"dp_1","payment_intent":"pi_1","amount":4999,"currency":"usd","status":"{status}"}}"#
        );
        let news = news("charge.dispute.updated", &dispute);
        assert!(matches!(news, News::Dispute { status, .. } if status == expected), "{news:?}");
    }
}

#[test]
fn events_about_other_things_are_of_no_concern() {
    for (kind, object) in [
        ("customer.created", "{}"),
        ("charge.succeeded", CHARGE),
        ("charge.refunded", &*CHARGE.replace("\"pi_1\"", "null")),
        ("charge.refund.updated", &*REFUND.replace("\"pi_1\"", "null")),
    ] {
        assert_eq!(news(kind, object), News::NoConcern, "{kind}");
    }
}

#[test]
fn an_event_of_any_shape_is_recorded_with_an_id_that_can_be_stored() {
    for broken in [
        CAPTURED.replace("4999", "\"x\""),
        CAPTURED.replace("usd", "us"),
        CAPTURED.replace("\"succeeded\",", "\"a_new_one\","),
        CAPTURED.replace("4999", "9223372036854775807"),
    ] {
        let event = read(&broken);
        assert_eq!((&*event.id, event.news), ("evt_2", News::Unreadable), "{broken}");
    }
    for body in ["", "{", "[]", "7", "{\"id\":1}", "{\"type\":{}}", "\u{feff}{}"] {
        let event = read(body);
        assert_eq!(event.news, News::Unreadable, "{body}");
        assert!(event.id.starts_with("sha256:") && event.id.len() == 71, "{}", event.id);
        assert_eq!(read(body).id, event.id, "copies have the same id");
    }
    let strange = r#"{"id":"evt\u0000\u001bX","created":8210266876799,"type":"strange\u0000.kind","data":null}"#;
    let event = read(&strange.replace('X', &"x".repeat(100_000)));
    assert_eq!((event.id.len(), event.id.contains(char::is_control)), (255, false));
    assert_eq!((&*event.name, event.at), ("strange.kind", None));
}

#[test]
fn an_amount_is_sent_as_stripe_counts_its_currency_or_not_at_all() {
    for (amount, code, units) in [
        ("49.99", "USD", Some(4_999)),
        ("49", "JPY", Some(49)),
        ("5", "ISK", Some(500)),
        ("5", "UGX", Some(500)),
        ("5.00", "MGA", Some(5)),
        ("5.01", "MGA", None),
        ("5.120", "KWD", Some(5_120)),
        ("5.124", "KWD", None),
        ("5.125", "BHD", None),
        ("5.125", "JOD", None),
        ("5.125", "OMR", None),
        ("5.125", "TND", None),
    ] {
        let currency = code.parse().expect("a currency");
        let money = Money::new(amount.parse().expect("a number"), currency).expect("an amount");
        assert_eq!(to_units(money), units, "{money}");
        if let Some(units) = units {
            assert_eq!(from_units(units, currency), Ok(money), "{units} {code}");
        }
    }
    let krona = "ISK".parse().expect("a currency");
    assert!(from_units(550, krona).is_err(), "there is no half krona");
    assert!(from_units(i64::MAX, "MGA".parse().expect("a currency")).is_err(), "too large");
    let News::Authorization(_, found) =
        read(&CAPTURED.replace("4999", "4900").replace("usd", "isk")).news
    else {
        panic!("read")
    };
    assert_eq!(found.amount.to_string(), "49 ISK");
}

#[test]
fn the_api_key_does_not_show_in_debug_output() {
    let config = GatewayConfig::new("http://127.0.0.1".parse().expect("a URL"), "sk_x".into());
    assert!(!format!("{config:?}").contains("sk_x"));
    let gateway = StripeGateway::new(config).expect("made");
    assert!(!format!("{gateway:?}").contains("sk_x"));
}
