//! Domain events: what has happened in the shop, in the words of the catalogue.
//!
//! An event is recorded in the transaction that makes it true ([`crate::shop::Context::record`]). Its number `n` is a counter on
//! the aggregate's own row, raised by the very statement that changes the row: numbers of one aggregate have no gaps and no
//! doubles (a primary key says so), and counting costs no row operation. Events are never changed or deleted; a trigger
//! refuses it.
//!
//! A personal field has the type [`Sealed`]: it cannot be written in plain. It is ciphertext under
//! the customer's key wherever events are kept or copied.

mod catalogue;
#[cfg(any(test, feature = "testing"))]
mod samples;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

pub use catalogue::{Aggregate, Change, DomainEvent, LineItem, MergedItem, VERSION};

use crate::privacy::{self, CustomerKey};

/// A personal value of a customer, encrypted: `{"sealed": "v1…"}` in JSON.
///
/// Bound to its customer and to the field's name; [`Sealed::open`] needs both again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    sealed: String,
}

impl Sealed {
    /// Seals the JSON of `value` for the field of that name.
    pub fn new(key: &CustomerKey, customer_id: Uuid, field: &str, value: &impl Serialize) -> Self {
        let plain = serde_json::to_vec(value).expect("texts and addresses are valid JSON");
        Self { sealed: privacy::seal(key, customer_id, field, &plain) }
    }

    /// Takes ciphertext from the column where it was kept.
    pub fn from_text(sealed: String) -> Self {
        Self { sealed }
    }

    /// The ciphertext, to be kept in a column.
    pub fn as_text(&self) -> &str {
        &self.sealed
    }

    /// Opens it; `None`: another key, customer or field, or not of this type.
    pub fn open<T: DeserializeOwned>(
        &self,
        key: &CustomerKey,
        customer_id: Uuid,
        field: &str,
    ) -> Option<T> {
        let plain = privacy::open(key, customer_id, field, &self.sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}

/// Events of one aggregate that one statement makes true. The statement raises the counter on the aggregate's row by their
/// [`count`](Told::count), and the counter numbers them: the list is the only place that says how many they are.
#[derive(Debug, Clone)]
#[must_use = "record them"]
pub struct Told(Vec<DomainEvent>);

/// An event with its number in its aggregate.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// 1, 2, 3, … per aggregate: the counter on the aggregate's row after this event.
    pub n: i64,
    /// The event.
    pub event: DomainEvent,
}

/// Events of one aggregate, in their order.
pub fn tell(events: impl IntoIterator<Item = DomainEvent>) -> Told {
    Told(events.into_iter().collect())
}

impl Told {
    /// By how much the statement raises the aggregate's counter.
    pub fn count(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    /// Numbers them from the counter of the locked row, as it was before the statement; 0 for a new row.
    pub fn after(self, counter: i64) -> Vec<Numbered> {
        (counter + 1..).zip(self.0).map(|(n, event)| Numbered { n, event }).collect()
    }

    /// Numbers them up to the counter that the statement has returned.
    pub fn up_to(self, counter: i64) -> Vec<Numbered> {
        let before = counter - self.count();
        self.after(before)
    }
}

/// An event as it was recorded.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Recorded {
    /// Its number in the aggregate.
    pub n: i64,
    /// Its own id.
    pub event_id: Uuid,
    /// Its name in the catalogue.
    pub name: String,
    /// The catalogue's fields; personal ones are [`Sealed`].
    pub payload: Value,
    /// When it was recorded, business time.
    pub recorded_at: DateTime<Utc>,
    /// The version of the payload's form.
    pub version: i16,
    /// The actor: `customer:…`, `admin:…`, `system`. `None` for events that were recorded before actors were.
    pub actor: Option<String>,
    /// The request, or else the saga, that it belongs to.
    pub correlation: Option<Uuid>,
    /// The request or the event that led to it.
    pub causation: Option<Uuid>,
    /// The saga whose step recorded it.
    pub saga_id: Option<Uuid>,
}

/// The most events that [`of_aggregate`] reads: a cart of many years has tens of thousands.
const SHOWN_AT_MOST: i64 = 1_000;

/// The last 1,000 events of one aggregate, oldest first.
pub async fn of_aggregate(
    connection: &mut PgConnection,
    aggregate_id: Uuid,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(
        "-- events: of an aggregate
        select * from (
            select n, event_id, name, payload, recorded_at, version, actor, correlation, causation,
                   saga_id
            from shop.domain_event where aggregate_id = $1 order by n desc limit $2
        ) newest order by n",
    )
    .bind(aggregate_id)
    .bind(SHOWN_AT_MOST)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests;
