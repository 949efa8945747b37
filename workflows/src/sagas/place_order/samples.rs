//! Samples of everything that may happen to a placement, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Patience, PlaceOrder, Placement, Signal, State, Step};
use crate::{
    money::{Currency, Money},
    payment::{
        PaymentFailure,
        gateway::{Reason as GatewayReason, Reference},
    },
};

pub(super) fn placement() -> Placement {
    Placement {
        order: Uuid::nil(),
        payment_method: Uuid::nil(),
        amount: Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount"),
        patience: Patience::default(),
    }
}

pub(super) fn reference() -> Reference {
    Reference("pi_1".to_owned())
}

pub(super) fn declined() -> PaymentFailure {
    PaymentFailure::Declined(GatewayReason::new("insufficient_funds"))
}

pub(super) fn approval() -> E {
    E::ApprovalRequired { url: "http://127.0.0.1/approve".to_owned(), expires_at: None }
}

pub(super) fn confirmed() -> E {
    E::Confirmed("key".to_owned())
}

impl Samples for PlaceOrder {
    fn inputs() -> Vec<Placement> {
        vec![placement()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Create(_) => {
                vec![Sample::done(E::Created(reference())), Sample::refused(E::Refused(declined()))]
            }
            Step::Confirm(..) | Step::Ask(..) => vec![
                Sample::done(confirmed()),
                Sample::refused(E::Refused(declined())),
                Sample::done(approval()),
                Sample::refused(E::Voided),
            ],
            Step::PlaceOrder { .. } => vec![Sample::done(E::OrderPlaced)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::CancelRequested, Signal::GatewayReported]
    }

    fn position(state: &State) -> String {
        Self::name(state)
    }
}
