//! Cancelling an order and giving its money back.
//!
//! Two ways lead here, both decided under the lock of the order's row by the command that starts the saga. A placed order is
//! cancelled and its stock freed at once: that is the pivot, the saga only goes forward, until the money is back or a person is needed.
//! An order that is still being placed is cancelled by its placement, which unwinds; the saga waits for the placement's end, however it
//! comes, so that the cancellation is an operation of its own. Then it looks at the order: a placement may have ended for another reason,
//! been ended by a person, or been faster.

mod samples;
pub mod steps;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stepwise_engine::{
    CalledOff, EffectKind, Next, Part, Saga, Step, Terms, Undo, Unexpected, UpcastError,
    WhenUnknown, to, unwind,
};
use uuid::Uuid;

use super::place_order::{KEY_LIFETIME, TELL_AFTER};
use crate::{money::Money, payment::gateway::Reference};

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

/// Whose money, by which reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveBack {
    /// The cancelled order.
    pub order: Uuid,
    /// The gateway's reference of the authorization.
    pub reference: Reference,
    /// Was the money taken, or only reserved?
    pub captured: bool,
}

/// What it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The gateway gives the money back.
    GivingBack(Money, GiveBack),
    /// It is told that the money is back.
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

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The money is back: how much, under which reference of the gateway and which key of ours.
    GivenBack(Money, String, String),
    /// It had been taken meanwhile: only a refund brings it back.
    Captured,
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

/// Steps in the transition's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tx {
    /// Cancel the placed order and free its stock; the command does it before the saga starts, unless the order was being placed then.
    Cancel(Uuid),
    /// Look what became of an order whose placement has ended; end one that was left `placing`.
    Look(Uuid),
    /// Record and publish that the money is back.
    RecordRefund {
        /// The order.
        order: Uuid,
        /// How much came back.
        amount: Money,
        /// The gateway's reference of the void or refund.
        refund_id: String,
        /// Our key.
        key: String,
    },
}

/// Calls of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Release what is reserved.
    Void(Money, GiveBack),
    /// Give back what was taken.
    Refund(Money, GiveBack),
}

/// Why the order is not cancelled. Nothing is to be taken back then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The order had failed for another reason.
    OrderFailed,
    /// The order was on its way.
    OrderShipped,
    /// The gateway could not be made to give the money back (only asked for before the pivot, which is passed at the start).
    GaveUp,
}

impl GiveBack {
    fn way(self, amount: Money) -> Activity {
        if self.captured { Activity::Refund(amount, self) } else { Activity::Void(amount, self) }
    }
}

impl Saga for CancelOrder {
    const NAME: &'static str = "cancel-order";
    const VERSION: u16 = 2;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::GiveBack(amount, back) => {
                let to = to(State::GivingBack(amount, back.clone())).begun(Tx::Cancel(back.order));
                to.call(back.way(amount))
            }
            Input::NothingToGiveBack(order) => {
                to(State::Cancelled(order)).begun(Tx::Cancel(order)).done()
            }
            Input::PlacementUnwinds(order) => to(State::AwaitingUnwind(order)).wait(),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::GivingBack(_, back), E::GivenBack(amount, refund_id, key)) => {
                to(S::Recording(back.order)).run(Tx::RecordRefund {
                    order: back.order,
                    amount,
                    refund_id,
                    key,
                })
            }
            (S::GivingBack(amount, back), E::Captured) => {
                to(S::GivingBack(amount, back.clone())).call(Activity::Refund(amount, back))
            }
            (S::Recording(order), E::Recorded) => to(S::Cancelled(order)).done(),
            (S::AwaitingUnwind(order), E::PlacementEnded) => {
                to(S::Looking(order)).run(Tx::Look(order))
            }
            (S::Looking(order), E::OrderCancelled) => to(S::Cancelled(order)).done(),
            (S::Looking(_), E::OrderFailed) => unwind(Reason::OrderFailed),
            (S::Looking(_), E::OrderShipped) => unwind(Reason::OrderShipped),
            (S::Looking(order), E::OrderPlaced) => to(S::Cancelling(order)).run(Tx::Cancel(order)),
            (S::Cancelling(_), E::MoneyToGiveBack(amount, back)) => {
                to(S::GivingBack(amount, back.clone())).call(back.way(amount))
            }
            (S::Cancelling(order), E::NothingToGiveBack) => to(S::Cancelled(order)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Cancel(_)) => Undo::Pivot,
            // An order that was left `placing` has ended, which nobody takes back.
            Step::Tx(Tx::Look(_) | Tx::RecordRefund { .. })
            | Step::Activity(Activity::Void(..) | Activity::Refund(..)) => Undo::Nothing,
        }
    }

    fn terms(activity: &Activity) -> Terms {
        let (kind, amount) = match activity {
            Activity::Void(amount, _) => ("void", amount),
            Activity::Refund(amount, _) => ("refund", amount),
        };
        let amount = Some((amount.amount().to_string(), amount.currency().code().to_owned()));
        // A void repeats itself, a refund acts once per key.
        Terms {
            effect: Some(EffectKind { kind, amount }),
            within: KEY_LIFETIME,
            slow_after: TELL_AFTER,
            unknown: WhenUnknown::Repeat,
            ..Terms::new()
        }
    }

    /// Version 1 knew only of placements that unwind.
    fn upcast(_: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        Ok(match part {
            Part::Event if json == "PlacementUnwound" => json!("PlacementEnded"),
            _ => json,
        })
    }

    fn called_off(_: CalledOff<Activity>) -> Reason {
        Reason::GaveUp
    }
}
