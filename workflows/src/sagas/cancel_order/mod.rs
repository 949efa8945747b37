//! Cancelling an order and giving its money back.
//!
//! The command that starts the saga decides under the lock of the order's row which way it takes:
//! - A placed order is cancelled and its stock released at once, by the command. That is the pivot: the saga only goes forward, until the money is
//!   back or an operator is needed.
//! - An order that is still being placed is cancelled by its placement, which unwinds. The saga waits for the placement's end, so that the
//!   cancellation is an operation of its own. Then it looks at the order, because the placement may have failed for another reason, been ended by an
//!   operator, or been placed before the signal came.
//!
//! The gateway decides how much is given back. If it says that less was taken, or is left, than the books have, the saga asks it and refunds that.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stepwise_engine::{
    CalledOff, Next, Part, Saga, Unexpected, UpcastError, signals, steps, to, unwind,
};
use uuid::Uuid;

pub use command::{CancelOrderError, cancel_order};

use super::{calling, giving_back::moving};
use crate::{money::Money, payment::gateway::Reference, refusal::refusals};

/// The definition.
pub struct CancelOrder;

/// How the cancellation was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The order is cancelled: give its money back.
    GiveBack(Money, GiveBack),
    /// The order is cancelled and no money is reserved or taken.
    NothingToGiveBack(Uuid),
    /// The placement was told to unwind: the saga is signalled when it has ended.
    PlacementUnwinds(Uuid),
}

/// The order whose money is given back, and the reference for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveBack {
    /// The cancelled order.
    pub order: Uuid,
    /// The gateway's reference of the authorization.
    pub reference: Reference,
    /// Was the money taken, or only reserved?
    pub captured: bool,
    /// The row of the void or refund in the books. Absent in what earlier builds have stored.
    #[serde(default)]
    pub row: Option<Uuid>,
    /// How much was taken, if the gateway was asked.
    #[serde(default)]
    pub taken: Option<Money>,
}

/// Money that is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The order.
    pub order: Uuid,
    /// How much came back.
    pub amount: Money,
    /// The gateway's reference of the void or refund.
    pub refund_id: String,
    /// Our key.
    pub key: String,
    /// Was it taken before, and not only reserved? Absent in what earlier builds have stored: then the books tell.
    #[serde(default)]
    pub captured: bool,
    /// [`GiveBack::row`].
    #[serde(default)]
    pub row: Option<Uuid>,
    /// [`GiveBack::taken`].
    #[serde(default)]
    pub taken: Option<Money>,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The gateway gives the money back.
    GivingBack(Money, GiveBack),
    /// The returned money is recorded and published.
    Recording(Uuid),
    /// The placement is to end.
    AwaitingUnwind(Uuid),
    /// It has ended: what became of the order?
    Looking(Uuid),
    /// The order was placed all the same: it is cancelled as a placed one.
    Cancelling(Uuid),
    /// The end.
    Cancelled(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The money is back: how much, under which reference of the gateway and which key of ours.
    GivenBack(Money, String, String),
    /// The money had been taken meanwhile, or less of it is left than the books say: ask, and refund that.
    Captured,
    /// The gateway was asked: this much was taken, and this much of it is left.
    Left(Money, Money),
    /// Nothing is left: somebody outside of the shop was faster.
    NothingLeft,
    /// The notifications are written.
    Recorded,
    /// The placement has ended, in whatever way.
    PlacementEnded,
    /// The order is cancelled, as was asked for.
    OrderCancelled,
    /// The order has failed for another reason.
    OrderFailed,
    /// The order was placed, and can be cancelled.
    OrderPlaced,
    /// The order was placed, and is on its way.
    OrderShipped,
    /// The placed order is cancelled: this money is to be given back.
    MoneyToGiveBack(Money, GiveBack),
    /// The placed order is cancelled, and no money is reserved or taken.
    NothingToGiveBack,
}

steps! {
    /// The steps. From the cancellation on it only goes forward.
    #[derive(PartialEq, Eq)]
    pub enum Step done by CancelOrderSteps -> Event, undone for Reason {
        /// Look at the order after its placement has ended. End it if it was left `placing`, because nothing else would.
        Look(order: Uuid) => tx(look).no_undo(),
        /// Cancel the order that was placed all the same, and free its stock.
        Cancel(order: Uuid) => tx(cancel).pivot(),
        /// Release the reserved money. A repeated void has the same result.
        Void(amount: Money, back: GiveBack) => call(void, moving("void", *amount)).probe(find).no_undo(),
        /// Give back the money that was taken. A refund acts once per key.
        Refund(amount: Money, back: GiveBack) => call(refund, moving("refund", *amount)).repeatable().no_undo(),
        /// Ask how much was taken and is left.
        Ask(back: GiveBack) => call(ask, calling::terms()).repeatable().no_undo(),
        /// Record and publish that the money is back.
        RecordRefund(returned: Returned) => tx(record_refund).no_undo(),
        /// Note that there was nothing to give back any more.
        RecordNothing(order: Uuid, row: Option<Uuid>) => tx(record_nothing).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga, unless the order was being placed then.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The placed order is cancelled and its stock freed.
        Cancel(order: Uuid) => pivot(),
    }
}

refusals! {
    /// Why the order is not cancelled although the cancellation had been accepted. Nothing is to be taken back then.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// The order had failed for another reason.
        #[error("The order had failed before it could be cancelled; nothing was charged.")]
        OrderFailed => Conflict "invalid_status_transition",
        /// The order was on its way.
        #[error("The order was already shipped.")]
        OrderShipped => Conflict "already_shipped",
        /// The gateway could not be made to give the money back (only asked for before the pivot, which is passed at the start).
        #[error("The operation was undone.")]
        GaveUp => Conflict "operation_failed",
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::GaveUp
    }
}

signals! {
    /// The signals.
    pub enum Signal as Event {
        /// The placement has ended, in whatever way.
        PlacementEnded => refuse,
    }
}

impl GiveBack {
    fn step(self, amount: Money) -> Step {
        if self.captured { Step::Refund(amount, self) } else { Step::Void(amount, self) }
    }

    fn returned(self, amount: Money, refund_id: String, key: String) -> Step {
        let Self { order, captured, row, taken, .. } = self;
        Step::RecordRefund(Returned { order, amount, refund_id, key, captured, row, taken })
    }
}

impl Saga for CancelOrder {
    const NAME: &'static str = "cancel-order";
    const VERSION: u16 = 3;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::GiveBack(amount, back) => to(State::GivingBack(amount, back.clone()))
                .caller_did(CallerStep::Cancel(back.order))
                .run(back.step(amount)),
            Input::NothingToGiveBack(order) => {
                to(State::Cancelled(order)).caller_did(CallerStep::Cancel(order)).done()
            }
            Input::PlacementUnwinds(order) => to(State::AwaitingUnwind(order)).wait(),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::GivingBack(_, back), E::GivenBack(amount, refund_id, key)) => {
                to(S::Recording(back.order)).run(back.returned(amount, refund_id, key))
            }
            (S::GivingBack(amount, back), E::Captured) => {
                let back = GiveBack { captured: true, ..back };
                to(S::GivingBack(amount, back.clone())).run(Step::Ask(back))
            }
            (S::GivingBack(_, back), E::Left(taken, left)) => {
                let back = GiveBack { taken: Some(taken), ..back };
                to(S::GivingBack(left, back.clone())).run(Step::Refund(left, back))
            }
            (S::GivingBack(_, back), E::NothingLeft) => {
                to(S::Recording(back.order)).run(Step::RecordNothing(back.order, back.row))
            }
            (S::Recording(order), E::Recorded) => to(S::Cancelled(order)).done(),
            (S::AwaitingUnwind(order), E::PlacementEnded) => {
                to(S::Looking(order)).run(Step::Look(order))
            }
            (S::Looking(order), E::OrderCancelled) => to(S::Cancelled(order)).done(),
            (S::Looking(_), E::OrderFailed) => unwind(Reason::OrderFailed),
            (S::Looking(_), E::OrderShipped) => unwind(Reason::OrderShipped),
            (S::Looking(order), E::OrderPlaced) => {
                to(S::Cancelling(order)).run(Step::Cancel(order))
            }
            (S::Cancelling(_), E::MoneyToGiveBack(amount, back)) => {
                to(S::GivingBack(amount, back.clone())).run(back.step(amount))
            }
            (S::Cancelling(order), E::NothingToGiveBack) => to(S::Cancelled(order)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// Version 1 knew only of placements that unwind. Version 2 did not ask how much is left; its data can be read as it is.
    fn upcast(_: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        Ok(match part {
            Part::Event | Part::Signal if json == "PlacementUnwound" => json!("PlacementEnded"),
            _ => json,
        })
    }
}
