//! Sending a new customer the mail that proves their address.
//!
//! It starts in the registration's own transaction, so no crash and no mail system that is away can lose the mail: it is sent once that is
//! back. The account exists and stays, so the registration is the pivot and the saga only goes forward; a mail that could not be sent for a
//! week needs a person. The token in the mail is made from the customer's key at each attempt ([`crate::customer::verification`]), so no
//! state holds it; one that would soon expire is prolonged before the mail goes out.
//!
//! Deliberately absent: the address, the name and the token (states hold the customer's id), and sending the mail once more because the
//! customer asks for it.

mod samples;
pub mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Next, Retry, Saga, Step, Terms, Undo, Unexpected, WhenUnknown, to,
};
use uuid::Uuid;

/// So long the mail is tried to be sent before a person is told.
pub const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The definition.
pub struct VerifyEmail;

/// What it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The mail system accepts the mail.
    Sending(Uuid),
    /// The token is made valid for longer.
    Prolonging(Uuid),
    /// The end.
    Over(Uuid),
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The mail was accepted.
    Sent,
    /// Nobody needs it: the address is proved, or the customer is being erased.
    NotNeeded,
    /// The token would expire too soon.
    TokenExpires,
    /// The token is valid for its whole lifetime again.
    TokenProlonged,
}

/// Steps in the transition's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tx {
    /// Open the account; the command does it before the saga starts.
    Register(Uuid),
    /// Make the customer's token valid for its whole lifetime again.
    Prolong(Uuid),
}

/// Calls of the mail system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Send the mail.
    Send(Uuid),
}

/// Nothing unwinds here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Only asked for before the pivot, which is passed at the start.
    GaveUp,
}

impl Saga for VerifyEmail {
    const NAME: &'static str = "verify-email";
    const VERSION: u16 = 1;
    type Input = Uuid;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = Reason;

    fn start(customer: Uuid) -> Next<Self> {
        to(State::Sending(customer)).begun(Tx::Register(customer)).call(Activity::Send(customer))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Sending(customer), E::Sent | E::NotNeeded) => to(S::Over(customer)).done(),
            (S::Sending(customer), E::TokenExpires) => {
                to(S::Prolonging(customer)).run(Tx::Prolong(customer))
            }
            (S::Prolonging(customer), E::TokenProlonged) => {
                to(S::Sending(customer)).call(Activity::Send(customer))
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Register(_)) => Undo::Pivot,
            // A mail cannot be called back.
            Step::Tx(Tx::Prolong(_)) | Step::Activity(Activity::Send(_)) => Undo::Nothing,
        }
    }

    fn terms(activity: &Activity) -> Terms {
        match activity {
            // Repeating it sends the same mail under the same key.
            Activity::Send(_) => Terms {
                within: PATIENCE,
                retry: Retry { cap: Duration::from_secs(300), ..Retry::default() },
                unknown: WhenUnknown::Repeat,
                ..Terms::new()
            },
        }
    }

    fn called_off(_: CalledOff<Activity>) -> Reason {
        Reason::GaveUp
    }

    fn skipped(step: &Step<Self>) -> Option<Event> {
        match step {
            Step::Activity(Activity::Send(_)) => Some(Event::NotNeeded),
            Step::Tx(_) => None,
        }
    }
}
