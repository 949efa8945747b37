//! Keeping a customer's payment methods at the gateway: each is attached to the account that the gateway has of the customer, and detached when the
//! customer removes it.
//!
//! The command that saves a method starts the saga, and answers at once: the method is saved, whether or not the gateway answers. An order that is paid
//! with it waits in its placement until the method is attached ([`super::place_order`]), as it would wait for the gateway anyway. The account is opened
//! with the customer's first method, under a key of the customer, so that there is one for each customer. If the gateway refuses the account or the method,
//! or does not answer for an hour, the method is used as its token came, as those that were saved by earlier versions are.
//!
//! The command that removes a method starts a second instance, which detaches it. It waits for the first one.
//!
//! Deliberately absent: the token, which is read from the method's row at each attempt and is in no state.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Never, Next, Saga, Terms, Unexpected, steps, to};
use uuid::Uuid;

pub(in crate::sagas) use command::detach;
pub use command::{KeepMethodError, add_payment_method, remove_payment_method};

use super::calling;
use crate::payment::gateway::Reference;

/// How long it is tried to attach a method.
const ATTACHING: Duration = Duration::from_secs(3_600);

/// How long it is tried to detach a method before an operator is needed.
const DETACHING: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The definition.
pub struct KeepPaymentMethod;

/// The task: the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Attach this payment method, which was just saved.
    Attach(Uuid),
    /// Detach this payment method, which was just removed.
    Detach(Uuid),
}

/// Its states, named after what it waits for. Each has the payment method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The gateway opens an account for the customer.
    Opening(Uuid),
    /// The account is written down.
    Keeping(Uuid),
    /// The gateway attaches the method.
    Attaching(Uuid),
    /// The result is noted.
    Noting(Uuid),
    /// The gateway detaches the method.
    Detaching(Uuid),
    /// The end.
    Over(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The customer has this account at the gateway.
    Opened(Reference),
    /// This is the account that counts.
    Kept(Reference),
    /// The method is attached.
    Attached,
    /// The method is not attached: the gateway refuses it, or it is gone.
    NotAttached,
    /// The method is not attached any more.
    Detached,
    /// The result is noted.
    Noted,
}

steps! {
    /// The steps.
    #[derive(PartialEq, Eq)]
    pub enum Step done by KeepPaymentMethodSteps -> Event, undone for String {
        /// Open an account for the customer. Repeating it opens no second one.
        Open(method: Uuid) => call(open, attaching()).repeatable().no_undo(),
        /// Write the account down.
        Keep(method: Uuid, account: Reference) => tx(keep).no_undo(),
        /// Attach the method. A repeated attachment has the same result.
        Attach(method: Uuid, account: Reference) => call(attach, attaching()).repeatable().no_undo(),
        /// Note whether the method is attached.
        Note(method: Uuid, is_attached: bool) => tx(note).no_undo(),
        /// Detach the method. A repeated detachment has the same result.
        Detach(method: Uuid) => call(detach, detaching()).repeatable().no_undo(),
        /// Note that the method is detached.
        Forget(method: Uuid) => tx(forget).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The method is saved. The undo notes that it is used with the customer's account, or, if there is none, as its token came.
        Save(method: Uuid) => undo_tx(leave),
        /// The method is removed.
        Remove(method: Uuid) => pivot(),
    }
}

fn attaching() -> Terms {
    Terms { within: ATTACHING, ..calling::terms() }
}

fn detaching() -> Terms {
    Terms { within: DETACHING, ..calling::terms() }
}

impl Saga for KeepPaymentMethod {
    const NAME: &'static str = "keep-payment-method";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Attach(method) => to(State::Opening(method))
                .caller_did(CallerStep::Save(method))
                .run(Step::Open(method)),
            Input::Detach(method) => to(State::Detaching(method))
                .caller_did(CallerStep::Remove(method))
                .run(Step::Detach(method)),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Opening(method), E::Opened(account)) => {
                to(S::Keeping(method)).run(Step::Keep(method, account))
            }
            (S::Keeping(method), E::Kept(account)) => {
                to(S::Attaching(method)).run(Step::Attach(method, account))
            }
            (S::Attaching(method), E::Attached) => {
                to(S::Noting(method)).run(Step::Note(method, true))
            }
            (S::Opening(method) | S::Keeping(method) | S::Attaching(method), E::NotAttached) => {
                to(S::Noting(method)).run(Step::Note(method, false))
            }
            (S::Detaching(method), E::Detached) => to(S::Noting(method)).run(Step::Forget(method)),
            (S::Detaching(method), E::NotAttached) | (S::Noting(method), E::Noted) => {
                to(S::Over(method)).done()
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// A person has detached the method, or leaves it.
    fn skipped(step: &Step) -> Option<Event> {
        match step {
            Step::Detach(_) => Some(Event::Detached),
            _ => None,
        }
    }
}
