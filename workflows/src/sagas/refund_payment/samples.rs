//! Samples of everything that may happen to a refund, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Refund, RefundPayment, Step};
use crate::{
    money::{Currency, Money},
    payment::gateway::{Reason as GatewayReason, Reference},
};

fn amount() -> Money {
    Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount")
}

pub(super) fn refund() -> Refund {
    let reference = Reference("pi_1".to_owned());
    Refund { order: Uuid::nil(), row: Uuid::max(), reference, amount: amount() }
}

pub(super) fn given_back() -> E {
    E::GivenBack(amount(), "re_1".to_owned(), "key".to_owned())
}

pub(super) fn refused() -> E {
    E::Refused(GatewayReason::new("expired_card"), "key".to_owned())
}

impl Samples for RefundPayment {
    fn inputs() -> Vec<Refund> {
        vec![refund()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Refund(_) => vec![Sample::done(given_back()), Sample::refused(refused())],
            Step::Record { .. } => vec![Sample::done(E::Recorded)],
        }
    }
}
