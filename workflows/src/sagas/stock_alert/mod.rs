//! Telling partners that a stock is low or used up.
//!
//! The stock crosses its threshold in the transaction that changes it ([`crate::inventory::Movement`] decides that under the lock of the stock's row),
//! and the saga follows from the event of the crossing ([`crate::reactions`]), in the same transaction. So each crossing is told once, and neither a
//! crash nor a worker that is away loses it. A change of stock that crosses nothing costs nothing.
//!
//! The customer who buys the last item waits for none of this: the saga publishes the message in a transaction of its own, because the message is counted
//! on the product's row. The instances of one product wait in a queue with one place ([`put_quota`]), so partners learn of its crossings in their order.
//!
//! A message cannot be called back, and nothing else is done, so there is nothing to take back. Deliberately absent: saying that there is enough again.

mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{Engine, Never, Next, Quota, Saga, Scope, Start, Unexpected, steps, to};
use uuid::Uuid;

/// The definition.
pub struct StockAlert;

/// A stock that has crossed its threshold, or is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The product.
    pub product: Uuid,
    /// The stock of the product, or of one of its variants.
    pub inventory: Uuid,
    /// The kind of crossing.
    pub crossing: Crossing,
}

/// The kinds of crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crossing {
    /// Fewer are available than the threshold.
    Low {
        /// How many were available after the crossing.
        available: i32,
        /// The threshold.
        threshold: i32,
    },
    /// None is available.
    Out,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The transaction that has changed the stock is over.
    Waiting(Alert),
    /// The message is published.
    Publishing(Alert),
    /// The end.
    Over(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It is time to publish.
    Due,
    /// The message is published.
    Published,
}

steps! {
    /// The steps.
    #[derive(PartialEq, Eq)]
    pub enum Step done by StockAlertSteps -> Event, undone for String {
        /// Publish the message.
        Publish(alert: Alert) => tx(publish).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The stock has changed.
        ChangeStock(inventory: Uuid) => pivot(),
    }
}

impl Saga for StockAlert {
    const NAME: &'static str = "stock-alert";
    type Input = Alert;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(alert: Alert) -> Next<Self> {
        // A tx step at the start would run in the transaction of the customer who buys.
        to(State::Waiting(alert))
            .caller_did(CallerStep::ChangeStock(alert.inventory))
            .sleep(Duration::from_millis(1), Event::Due)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Waiting(alert), E::Due) => to(S::Publishing(alert)).run(Step::Publish(alert)),
            (S::Publishing(alert), E::Published) => to(S::Over(alert.product)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn skipped(_: &Step) -> Option<Event> {
        Some(Event::Published)
    }
}

/// The start of the saga that tells of a crossing, in the queue of its product.
#[must_use]
pub fn start(alert: Alert) -> Start<Alert> {
    let product = alert.product.to_string();
    Start::new(&product, alert).key(Uuid::now_v7().to_string()).queued(product)
}

/// Lets the crossings of one product be told one after the other, in the caller's transaction. 1 round trip.
///
/// # Errors
/// The database's.
pub async fn put_quota(engine: &Engine, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    engine.set_quota(tx, StockAlert::NAME, Scope::EachKey, Quota::at_once(1)).await
}
