//! Proving the address of a new customer: the mail with a token, one reminder, and the end of the token.
//!
//! The saga follows from the event of the registration ([`crate::reactions`]), in its transaction. So neither a crash nor a mail system that is away
//! can lose the mail. A customer who asks for another mail gets another instance. It first goes to sleep for no time, so that a worker and not the request
//! looks the customer up: the request takes as long for an address without an account. Then `Issue` makes a new token and voids the old one.
//!
//! For both:
//! 1. `Send` sends the mail. A token that would soon expire, because the mail system was away, is prolonged first.
//! 2. Some hours before the token expires, `Remind` sends the token once more.
//! 3. The instance ends when the address is verified, or quietly when the token has expired. The account stays as it is, and the customer may ask
//!    for another mail.
//!
//! The account is there in any case, so the registration is the pivot and the saga only goes forward. While the mail system is
//! away, the saga tries again and prolongs the token. A mail to an address that the mail system refuses for good is not sent. The token in the mail is made from the customer's key at each attempt ([`crate::customer::verification`]), so no state has it.
//!
//! Deliberately absent: the address, the name and the token (states hold ids), and a signal to the instance of an earlier token, which finds out
//! when it wakes up.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Next, Saga, Unexpected, signals, steps, to};
use uuid::Uuid;

pub use command::{VerifyError, resend_verification, verify_customer_email};

use super::mailing;

/// How long one step is tried before it needs an operator: the reminder, and a mail whose token lives for longer than two weeks.
pub const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The definition.
pub struct RegisterCustomer;

/// The occasion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A customer has registered. The token is there.
    Registered(Uuid),
    /// Somebody has asked for another mail, perhaps for an address that has no account or is verified.
    AskedAgain(Proof),
}

/// A customer, and the token that proves the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The customer.
    pub customer: Uuid,
    /// The token's id. The token of the registration has the customer's.
    pub token: Uuid,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A worker takes the request.
    Accepted(Proof),
    /// A new token is made.
    Issuing(Proof),
    /// The mail system accepts the mail.
    Sending(Proof),
    /// The token is made valid for longer.
    Prolonging(Proof),
    /// The customer verifies the address, or the reminder is due.
    AwaitingReminder(Proof),
    /// The mail system accepts the reminder.
    Reminding(Proof),
    /// The customer verifies the address, or the token expires.
    AwaitingVerification(Proof),
    /// The end.
    Over(Proof),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A worker has taken the request.
    Taken,
    /// The new token is there.
    Issued,
    /// The mail was accepted.
    Sent {
        /// When the reminder is due.
        remind_after: Duration,
        /// When the token expires.
        expires_after: Duration,
    },
    /// The mail is not needed: the address is verified, another token is in force, or the customer is being erased.
    NotNeeded,
    /// The token would expire too soon.
    TokenExpires,
    /// The token is valid for its whole lifetime again.
    TokenProlonged,
    /// The customer has not used the token for a long time.
    ReminderDue,
    /// The reminder was accepted.
    Reminded {
        /// When the token expires.
        expires_after: Duration,
    },
    /// The address is verified.
    Verified,
    /// The token has expired.
    Expired,
}

steps! {
    /// The steps. A mail cannot be called back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by RegisterCustomerSteps -> Event, undone for String {
        /// Make a new token, and void the old ones.
        Issue(proof: Proof) => tx(issue).no_undo(),
        /// Send the mail. Repeating it sends the same mail under the same key.
        Send(proof: Proof) => call(send, mailing::terms(PATIENCE)).repeatable().no_undo(),
        /// Make the customer's token valid for its whole lifetime again.
        Prolong(proof: Proof) => tx(prolong).no_undo(),
        /// Send the reminder.
        Remind(proof: Proof) => call(remind, mailing::terms(PATIENCE)).repeatable().no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The account is open, or the request is counted.
        Ask(customer: Uuid) => pivot(),
    }
}

signals! {
    /// The signals, and what happens to one that comes before the saga waits for it.
    pub enum Signal as Event {
        /// The address is verified.
        Verified => keep,
    }
}

impl Saga for RegisterCustomer {
    const NAME: &'static str = "register-customer";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Registered(customer) => {
                let proof = Proof { customer, token: customer };
                let begun = to(State::Sending(proof)).caller_did(CallerStep::Ask(customer));
                begun.run(Step::Send(proof))
            }
            Input::AskedAgain(proof) => {
                let begun = to(State::Accepted(proof)).caller_did(CallerStep::Ask(proof.customer));
                begun.sleep(Duration::ZERO, Event::Taken)
            }
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Accepted(proof), E::Taken) => to(S::Issuing(proof)).run(Step::Issue(proof)),
            (S::Issuing(proof), E::Issued) | (S::Prolonging(proof), E::TokenProlonged) => {
                to(S::Sending(proof)).run(Step::Send(proof))
            }
            (S::Sending(proof), E::TokenExpires) => {
                to(S::Prolonging(proof)).run(Step::Prolong(proof))
            }
            (S::Sending(proof), E::Sent { remind_after, expires_after }) => {
                if remind_after < expires_after {
                    to(S::AwaitingReminder(proof)).or_after(remind_after, E::ReminderDue)
                } else {
                    to(S::AwaitingVerification(proof)).or_after(expires_after, E::Expired)
                }
            }
            (S::AwaitingReminder(proof), E::ReminderDue) => {
                to(S::Reminding(proof)).run(Step::Remind(proof))
            }
            (S::Reminding(proof), E::Reminded { expires_after }) => {
                to(S::AwaitingVerification(proof)).or_after(expires_after, E::Expired)
            }
            (S::Issuing(proof) | S::Sending(proof) | S::Reminding(proof), E::NotNeeded)
            | (S::AwaitingReminder(proof), E::Verified)
            | (S::AwaitingVerification(proof), E::Verified | E::Expired) => {
                to(S::Over(proof)).done()
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn skipped(step: &Step) -> Option<Event> {
        match step {
            Step::Send(_) | Step::Remind(_) => Some(Event::NotNeeded),
            Step::Issue(_) | Step::Prolong(_) => None,
        }
    }
}
