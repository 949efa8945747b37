//! Sending a new customer the mail that proves their address, as an earlier release did it.
//!
//! A registration now starts [`super::register_customer`], which also reminds the customer. Nothing starts this saga any more: it is here so that
//! the instances that an earlier release has started still send their mails.
//!
//! Neither a crash nor a mail system that is away can lose the mail: it is sent when the mail system is back. The account stays in any case, so the registration is the pivot and the saga only goes forward. If the mail cannot be sent
//! for a week, an operator decides. The token in the mail is made from the customer's key at each attempt ([`crate::customer::verification`]), so no
//! state has it. A token that would soon expire is prolonged before the mail is sent.
//!
//! Deliberately absent: the address, the name and the token (states hold the customer's id), and sending the mail once more because the
//! customer asks for it.

mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Never, Next, Saga, Unexpected, steps, to};
use uuid::Uuid;

use super::mailing;

/// How long the saga tries to send the mail before it needs an operator.
pub const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The definition.
pub struct VerifyEmail;

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The mail system accepts the mail.
    Sending(Uuid),
    /// The token is made valid for longer.
    Prolonging(Uuid),
    /// The end.
    Over(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The mail was accepted.
    Sent,
    /// The mail is not needed: the address is proved, or the customer is being erased.
    NotNeeded,
    /// The token would expire too soon.
    TokenExpires,
    /// The token is valid for its whole lifetime again.
    TokenProlonged,
}

steps! {
    /// The steps. A mail cannot be called back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by VerifyEmailSteps -> Event, undone for String {
        /// Send the mail. Repeating it sends the same mail under the same key.
        Send(customer: Uuid) => call(send, mailing::terms(PATIENCE)).repeatable().no_undo(),
        /// Make the customer's token valid for its whole lifetime again.
        Prolong(customer: Uuid) => tx(prolong).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The account is open.
        Register(customer: Uuid) => pivot(),
    }
}

impl Saga for VerifyEmail {
    const NAME: &'static str = "verify-email";
    type Input = Uuid;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(customer: Uuid) -> Next<Self> {
        to(State::Sending(customer))
            .caller_did(CallerStep::Register(customer))
            .run(Step::Send(customer))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Sending(customer), E::Sent | E::NotNeeded) => to(S::Over(customer)).done(),
            (S::Sending(customer), E::TokenExpires) => {
                to(S::Prolonging(customer)).run(Step::Prolong(customer))
            }
            (S::Prolonging(customer), E::TokenProlonged) => {
                to(S::Sending(customer)).run(Step::Send(customer))
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn skipped(step: &Step) -> Option<Event> {
        match step {
            Step::Send(_) => Some(Event::NotNeeded),
            Step::Prolong(_) => None,
        }
    }
}
