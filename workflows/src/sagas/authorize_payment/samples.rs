//! Samples of everything that may happen to an authorization, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{AuthorizePayment, Event as E, Request, Signal, State, Step};
use crate::{
    money::{Currency, Money},
    payment::{
        PaymentFailure,
        gateway::{Reason as GatewayReason, Reference},
    },
    sagas::authorizing::Patience,
};

pub(super) fn request() -> Request {
    Request {
        order: Uuid::nil(),
        payment: Uuid::nil(),
        payment_method: Uuid::nil(),
        amount: Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount"),
        patience: Patience::default(),
    }
}

pub(super) fn created() -> E {
    E::Created(Reference("pi_1".to_owned()))
}

pub(super) fn declined() -> PaymentFailure {
    PaymentFailure::Declined(GatewayReason::new("insufficient_funds"))
}

pub(super) fn approval() -> E {
    let url = "http://127.0.0.1/approve".to_owned();
    E::ApprovalRequired { url, expires_at: None }
}

pub(super) fn confirmed() -> E {
    E::Confirmed("key".to_owned())
}

impl Samples for AuthorizePayment {
    fn inputs() -> Vec<Request> {
        vec![request()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Create(_) => {
                vec![Sample::done(created()), Sample::refused(E::Refused(declined()))]
            }
            Step::Confirm(..) | Step::Ask(..) => vec![
                Sample::done(confirmed()),
                Sample::refused(E::Refused(declined())),
                Sample::done(approval()),
                Sample::refused(E::Voided),
            ],
            Step::Book { .. } => {
                vec![Sample::done(E::Booked), Sample::refused(E::OrderCancelled)]
            }
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::OrderCancelled, Signal::GatewayReported]
    }

    fn position(state: &State) -> String {
        Self::name(state)
    }
}
