//! Samples of everything that may happen to a cancellation, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{CancelOrder, Event as E, GiveBack, Input, Signal, Step};
use crate::{
    money::{Currency, Money},
    payment::gateway::Reference,
};

fn amount() -> Money {
    Money::from_minor(4_200, Currency::USD).expect("42 dollars are an amount")
}

pub(super) fn back(captured: bool) -> Input {
    Input::GiveBack(amount(), give_back(captured))
}

fn give_back(captured: bool) -> GiveBack {
    let (reference, row) = (Reference("pi_1".to_owned()), Some(Uuid::max()));
    GiveBack { order: Uuid::nil(), reference, captured, row, taken: None }
}

pub(super) fn to_give_back() -> E {
    E::MoneyToGiveBack(amount(), give_back(false))
}

pub(super) fn given_back() -> E {
    E::GivenBack(amount(), "void_1".to_owned(), "key".to_owned())
}

pub(super) fn left() -> E {
    let left = Money::from_minor(2_000, Currency::USD).expect("20 dollars are an amount");
    E::Left(amount(), left)
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

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Void(..) => {
                vec![Sample::done(given_back()), Sample::refused(E::Captured)]
            }
            Step::Refund(..) => {
                vec![Sample::done(given_back()), Sample::refused(E::Captured)]
            }
            Step::Ask(_) => vec![Sample::done(left()), Sample::done(E::NothingLeft)],
            Step::RecordRefund(_) | Step::RecordNothing(..) => vec![Sample::done(E::Recorded)],
            Step::Look(_) => vec![
                Sample::done(E::OrderCancelled),
                Sample::refused(E::OrderFailed),
                Sample::refused(E::OrderShipped),
                Sample::done(E::OrderPlaced),
            ],
            Step::Cancel(_) => {
                vec![Sample::done(to_give_back()), Sample::done(E::NothingToGiveBack)]
            }
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::PlacementEnded]
    }
}
