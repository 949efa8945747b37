//! Sending a customer a mail about the password: the token that resets it, or the news that it was changed.
//!
//! The command starts the saga in its own transaction (`command.rs`), so neither a crash nor a mail system that is away can lose the mail.
//! 1. `Issue` makes the token of a reset, which takes the place of an earlier one. Before it the saga goes to sleep for no time, so that a worker and
//!    not the request looks the customer up: the request takes as long for an address without an account.
//! 2. `Send` sends the mail. A token that has expired meanwhile is not sent: the customer may ask again.
//!
//! A mail cannot be called back, so the saga only goes forward. If it cannot be sent for a week, an operator decides. The token is made from the
//! customer's key at each attempt ([`crate::customer::password`]), so no state has it.

mod command;
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
pub use super::mailing::MAILING;
pub use command::{
    AskError, ChangePasswordError, ResetError, change_password, request_password_reset,
    reset_password,
};

/// How long the saga tries to send the mail before it needs an operator.
pub const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The definition.
pub struct AccountMail;

/// A mail to a customer. Perhaps nobody has the id: then there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The customer.
    pub customer: Uuid,
    /// The mail.
    pub letter: Letter,
}

/// The kinds of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter {
    /// The token with this id resets the password.
    ResetPassword(Uuid),
    /// The password was changed.
    PasswordChanged,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A worker takes the request.
    Accepted(Post),
    /// The token is made.
    Issuing(Post),
    /// The mail system accepts the mail.
    Sending(Post),
    /// The end.
    Over(Post),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A worker has taken the request.
    Taken,
    /// The token is there.
    Issued,
    /// The mail was accepted.
    Sent,
    /// There is nothing to send: no such customer, or the token is no longer valid.
    NotNeeded,
}

steps! {
    /// The steps. A mail cannot be called back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by AccountMailSteps -> Event, undone for String {
        /// Make a token that resets the customer's password, in place of an earlier one.
        Issue(customer: Uuid, token: Uuid) => tx(issue).no_undo(),
        /// Send the mail. Repeating it sends the same mail under the same key.
        Send(post: Post) => call(send, mailing::terms(PATIENCE)).repeatable().no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The request is counted, or the password was changed.
        Ask(customer: Uuid) => pivot(),
    }
}

impl Saga for AccountMail {
    const NAME: &'static str = "account-mail";
    type Input = Post;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(post: Post) -> Next<Self> {
        let asked = CallerStep::Ask(post.customer);
        to(State::Accepted(post)).caller_did(asked).sleep(Duration::ZERO, Event::Taken)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Accepted(post), E::Taken) => match post.letter {
                Letter::ResetPassword(token) => {
                    to(S::Issuing(post)).run(Step::Issue(post.customer, token))
                }
                Letter::PasswordChanged => to(S::Sending(post)).run(Step::Send(post)),
            },
            (S::Issuing(post), E::Issued) => to(S::Sending(post)).run(Step::Send(post)),
            (S::Issuing(post), E::NotNeeded) | (S::Sending(post), E::Sent | E::NotNeeded) => {
                to(S::Over(post)).done()
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn skipped(step: &Step) -> Option<Event> {
        match step {
            Step::Send(_) => Some(Event::NotNeeded),
            Step::Issue(..) => None,
        }
    }
}
