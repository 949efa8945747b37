//! What may happen to a cancellation, by samples: for exploring it and for trying it.

use stepwise_engine::{
    Step,
    testing::{Sample, Samples},
};
use uuid::Uuid;

use super::{Activity, CancelOrder, Event as E, GiveBack, Input, Tx};
use crate::{
    money::{Currency, Money},
    payment::gateway::Reference,
};

fn amount() -> Money {
    Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount")
}

pub(super) fn back(captured: bool) -> Input {
    let reference = Reference("pi_1".to_owned());
    Input::GiveBack(amount(), GiveBack { order: Uuid::nil(), reference, captured })
}

pub(super) fn given_back() -> E {
    E::GivenBack(amount(), "void_1".to_owned(), "key".to_owned())
}

impl Samples for CancelOrder {
    fn inputs() -> Vec<Input> {
        vec![
            back(false),
            back(true),
            Input::NothingToGiveBack(Uuid::nil()),
            Input::PlacementUnwinds(Uuid::nil()),
        ]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<E>> {
        match step {
            Step::Activity(Activity::Void(..)) => {
                vec![Sample::done(given_back()), Sample::refused(E::Captured)]
            }
            Step::Activity(Activity::Refund(..)) => vec![Sample::done(given_back())],
            Step::Tx(Tx::RecordRefund { .. }) => vec![Sample::done(E::Recorded)],
            Step::Tx(Tx::Cancel(_)) => Vec::new(),
        }
    }

    fn signals() -> Vec<E> {
        vec![E::PlacementUnwound]
    }
}
