//! Asking the gateway about payments, because its events (webhooks) may be lost.
//!
//! A schedule starts an instance every quarter of an hour. It takes page after page of the payments that have waited longest, and ends when none is
//! due or when it has asked about [`AT_MOST`]. Whatever it leaves is taken by the next one, because each payment's row says when it is due. The questions
//! of a page are asked side by side. An answer that says what the books say only puts the next question off. Any other is applied as that to an event is
//! ([`crate::order::outside`]), and only if the payment has not changed since it was chosen.
//!
//! A payment that the gateway cannot be asked about while it answers others is put off ([`crate::order::reconcile::put_off`]). If it answers nothing for ten minutes, the
//! instance unwinds, which takes nothing back: an hour after they were chosen its payments are due again. So it is with a payment that is alone on its page
//! and about which the gateway says nothing: that looks like a gateway that is away, so nobody is told until the page has another one that is answered.
//!
//! Deliberately absent: payments that are being authorized, captured or given back. Their sagas ask by themselves. A void or refund whose saga was
//! ended by an operator is withdrawn, and its payment asked about like any other.

mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use stepwise_engine::{
    CatchUp, Engine, Never, Next, Overlap, Part, Saga, Schedule, ScheduleError, Start, Terms,
    Unexpected, UpcastError, steps, to,
};
use uuid::Uuid;

use crate::order::{outside::Truth, reconcile::Question};

/// The most payments that one instance asks about: 300 pages, fewer commits than an instance may make in a minute.
pub const AT_MOST: u16 = 300 * PAGE;

/// How many payments are chosen and asked about together.
pub const PAGE: u16 = 25;

/// The minutes between two instances, unless configured otherwise.
pub const EVERY_MINUTES: u8 = 15;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);

/// How many questions are asked side by side.
const SIDE_BY_SIDE: u16 = 5;

/// How long the gateway is tried that answers nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// The definition.
pub struct ReconcilePayments;

/// Its states, named after what it waits for. The number is that of the payments that it may still ask about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Payments are chosen.
    Choosing(u16),
    /// The gateway answers.
    Asking(u16),
    /// The answers are applied.
    Applying(u16),
    /// The end.
    Over,
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// These payments are due.
    Due(Vec<Question>),
    /// No payment is due.
    NoneDue,
    /// The gateway has answered.
    Answered(Answers),
    /// The answers are applied.
    Applied,
}

/// The answers of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The books may say something else.
    pub differ: Vec<(Question, Truth)>,
    /// The gateway has answered about others, and not about these.
    pub unanswered: Vec<Question>,
    /// The payments about which the gateway says what the books say. Left out by earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<Uuid>,
}

steps! {
    /// The steps. None has anything to take back: an answer is true, whatever becomes of the question.
    #[derive(PartialEq, Eq)]
    pub enum Step done by ReconcilePaymentsSteps -> Event, undone for String {
        /// Choose the payments that have waited longest, so many at most.
        Choose(at_most: u16) => tx(choose).no_undo(),
        /// Ask the gateway. A question changes nothing, so it may be asked again.
        Ask(page: Vec<Question>) => call(ask, asking()).repeatable().no_undo(),
        /// Bring the payments into agreement with the answers.
        Apply(answers: Answers) => tx(apply).no_undo(),
    }
}

fn asking() -> Terms {
    let rounds = u32::from(PAGE.div_ceil(SIDE_BY_SIDE));
    Terms { within: PATIENCE, timeout: QUESTION * rounds + QUESTION, ..Terms::new() }
}

impl Saga for ReconcilePayments {
    const NAME: &'static str = "reconcile-payments";
    const VERSION: u16 = 2;
    type Input = u16;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(at_most: u16) -> Next<Self> {
        choosing(at_most)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Choosing(left), E::Due(page)) => {
                let asked = u16::try_from(page.len()).unwrap_or(u16::MAX);
                to(S::Asking(left.saturating_sub(asked))).run(Step::Ask(page))
            }
            (S::Choosing(_), E::NoneDue) => to(S::Over).done(),
            (S::Asking(left), E::Answered(answers)) if answers == Answers::default() => {
                choosing(left)
            }
            (S::Asking(left), E::Answered(answers)) => {
                to(S::Applying(left)).run(Step::Apply(answers))
            }
            (S::Applying(left), E::Applied) => choosing(left),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// Version 1 asked about one payment at a time.
    fn upcast(_: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        Ok(match part {
            Part::State => match json.get("Asking").and_then(|asking| asking.get(0)) {
                Some(left) => json!({ "Asking": left }),
                None => json,
            },
            Part::Event => match (json.get("Due"), json.get("Answered")) {
                (Some(due), _) => json!({ "Due": [due] }),
                // Its question is not in it. The payment is asked about again later.
                (_, Some(_)) => json!({ "Answered": Answers::default() }),
                _ => json,
            },
            Part::Step => match (json.get("Ask"), json.get("Apply")) {
                (Some(question), _) => json!({ "Ask": [question] }),
                (_, Some(answer)) => json!({ "Apply": { "differ": [answer], "unanswered": [] } }),
                _ if json == "Choose" => json!({ "Choose": PAGE }),
                _ => json,
            },
            _ => json,
        })
    }
}

/// Goes on with the next page, if it may still ask about some.
fn choosing(left: u16) -> Next<ReconcilePayments> {
    match left.min(PAGE) {
        0 => to(State::Over).done(),
        at_most => to(State::Choosing(left)).run(Step::Choose(at_most)),
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
