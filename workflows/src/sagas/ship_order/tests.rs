//! Stories of a shipment.

use stepwise_engine::{Status, testing::walk};

use super::{
    Event as E, Reason, ShipOrder,
    samples::{captured, refused, shipment},
};

#[test]
fn the_money_is_taken_before_the_order_goes() {
    let mut order = walk::<ShipOrder>(shipment());
    order.answers(captured()).answers(E::Shipped);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Capture", "Ship"]);
}

#[test]
fn an_order_whose_money_is_refused_stays_here() {
    let mut order = walk::<ShipOrder>(shipment());
    order.refuses(refused()).takes_all_back();
    assert_eq!(order.status(), Status::Unwound);
    assert_eq!(order.steps(), ["Capture", "withdraw"]);
    let E::Refused(why) = refused() else { unreachable!("the sample is a refusal") };
    assert_eq!(Reason::CaptureFailed(why).code(), "authorization_expired");
}

#[test]
fn an_order_whose_money_the_gateway_never_took_stays_here() {
    let mut order = walk::<ShipOrder>(shipment());
    order.is_given_up().takes_all_back();
    assert_eq!((order.status(), order.reason()), (Status::Unwound, Some(&Reason::CalledOff)));
}
