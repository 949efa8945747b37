//! What may happen to a placement, by samples: for exploring it and for trying it.

use stepwise_engine::{
    Step,
    testing::{Sample, Samples},
};
use uuid::Uuid;

use super::{Activity, Event as E, Patience, PlaceOrder, Placement, State, Tx};
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

    fn outcomes(step: &Step<Self>) -> Vec<Sample<E>> {
        match step {
            Step::Activity(Activity::Create(_)) => {
                vec![Sample::done(E::Created(reference())), Sample::refused(E::Refused(declined()))]
            }
            Step::Activity(Activity::Confirm(..) | Activity::Ask(..)) => vec![
                Sample::done(confirmed()),
                Sample::refused(E::Refused(declined())),
                Sample::done(approval()),
                Sample::refused(E::Voided),
            ],
            Step::Tx(Tx::PlaceOrder { .. }) => vec![Sample::done(E::OrderPlaced)],
            Step::Tx(Tx::ReserveStock(_) | Tx::ReleaseStock(_))
            | Step::Activity(Activity::Void(..) | Activity::Cancel(_)) => Vec::new(),
        }
    }

    fn signals() -> Vec<E> {
        vec![E::CancelRequested, E::GatewayReported]
    }

    fn position(state: &State) -> String {
        Self::name(state)
    }
}
