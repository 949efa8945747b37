//! Stories of a shipment.

use stepwise_engine::{Status, StepTable as _, testing::walk};

use super::{
    Event as E, Reason, ShipOrder, Step,
    samples::{captured, refused, shipment},
};
use crate::payment::gateway::OPERATION;

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

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    assert!(Step::Capture(shipment()).terms().timeout > OPERATION);
}
