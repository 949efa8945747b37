//! Samples of everything that may happen to a shipment, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, ShipOrder, Shipment, Step};
use crate::{
    money::{Currency, Money},
    payment::gateway::{Reason as GatewayReason, Reference},
};

pub(super) fn shipment() -> Shipment {
    Shipment {
        order: Uuid::nil(),
        reference: Reference("pi_1".to_owned()),
        amount: Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount"),
    }
}

pub(super) fn captured() -> E {
    E::Captured("key".to_owned())
}

pub(super) fn refused() -> E {
    E::Refused(GatewayReason::new("authorization_expired"))
}

impl Samples for ShipOrder {
    fn inputs() -> Vec<Shipment> {
        vec![shipment()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Capture(_) => vec![Sample::done(captured()), Sample::refused(refused())],
            Step::Ship(..) => vec![Sample::done(E::Shipped)],
        }
    }
}
