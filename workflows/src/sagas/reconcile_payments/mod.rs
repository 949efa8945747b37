//! Asking the gateway about payments, because its events (webhooks) may be lost.
//!
//! A schedule starts an instance every quarter of an hour. It takes one payment after the other, those that have waited longest, and ends when none is
//! due or when it has asked about [`AT_MOST`]. Whatever it leaves is taken by the next one, because each payment's row says when it is due. An answer is
//! applied as that to an event is ([`crate::order::outside`]), and only if the payment has not changed since it was chosen.
//!
//! If the gateway cannot be asked for ten minutes, the instance unwinds, which takes nothing back: the next one tries again.
//!
//! Deliberately absent: payments that are being authorized, captured or given back. Their sagas ask by themselves.

mod operation;
#[cfg(feature = "testing")]
mod samples;
pub mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    CatchUp, Engine, Never, Next, Overlap, Saga, Schedule, ScheduleError, Start, Terms, Unexpected,
    steps, to,
};

use crate::order::{outside::Truth, reconcile::Question};

/// The most payments that one instance asks about.
pub const AT_MOST: u16 = 200;

/// The minutes between two instances, unless configured otherwise.
pub const EVERY_MINUTES: u8 = 15;

/// How long the gateway is tried about one payment.
const PATIENCE: Duration = Duration::from_secs(600);

/// The definition.
pub struct ReconcilePayments;

/// Its states, named after what it waits for. The number is that of the payments that it may still ask about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A payment is chosen.
    Choosing(u16),
    /// The gateway answers.
    Asking(u16, Question),
    /// The answer is applied.
    Applying(u16),
    /// The end.
    Over,
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// This payment is due.
    Due(Question),
    /// No payment is due.
    NoneDue,
    /// The gateway has answered.
    Answered(Truth),
    /// The answer is applied.
    Applied,
}

steps! {
    /// The steps. None has anything to take back: an answer is true, whatever becomes of the question.
    #[derive(PartialEq, Eq)]
    pub enum Step done by ReconcilePaymentsSteps -> Event, undone for String {
        /// Choose the payment that has waited longest.
        Choose => tx(choose).no_undo(),
        /// Ask the gateway. A question changes nothing, so it may be asked again.
        Ask(question: Question) => call(ask, asking()).repeatable().no_undo(),
        /// Bring the payment into agreement with the answer.
        Apply(question: Question, truth: Truth) => tx(apply).no_undo(),
    }
}

fn asking() -> Terms {
    Terms { within: PATIENCE, ..Terms::new() }
}

impl Saga for ReconcilePayments {
    const NAME: &'static str = "reconcile-payments";
    type Input = u16;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(at_most: u16) -> Next<Self> {
        to(State::Choosing(at_most)).run(Step::Choose)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Choosing(left), E::Due(question)) => {
                to(S::Asking(left.saturating_sub(1), question.clone())).run(Step::Ask(question))
            }
            (S::Choosing(_), E::NoneDue) | (S::Applying(0), E::Applied) => to(S::Over).done(),
            (S::Asking(left, question), E::Answered(truth)) => {
                to(S::Applying(left)).run(Step::Apply(question, truth))
            }
            (S::Applying(left), E::Applied) => to(S::Choosing(left)).run(Step::Choose),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

/// Puts the schedule that starts the saga every so many minutes, a divisor of 60, in the caller's transaction. 0 removes it. 2 round trips.
///
/// # Errors
/// The engine's or the database's.
pub async fn put_schedule(
    engine: &Engine,
    tx: &mut PgConnection,
    minutes: u8,
) -> Result<(), ScheduleError> {
    let name = ReconcilePayments::NAME;
    let cron = match minutes {
        0 => {
            engine.remove_schedule(tx, name).await?;
            return Ok(());
        }
        1..60 => format!("*/{minutes} * * * *"),
        _ => "0 * * * *".to_owned(),
    };
    let start = Start::new("payments", AT_MOST);
    let schedule = Schedule::of::<ReconcilePayments>(name, cron, "UTC", start)
        .map_err(|error| ScheduleError::Input(error.to_string()))?;
    // A tick that was missed is not made up for: the next one finds the same payments.
    let schedule = Schedule { catch_up: CatchUp::Skip, overlap: Overlap::Skip, ..schedule };
    engine.put_schedule(tx, &schedule).await
}
