//! Domain events: what has happened in the shop, in the words of the catalogue.
//!
//! An event is recorded in the transaction that makes it true. Its number `n` is a counter on the
//! aggregate's own row, raised by the very statement that changes the row: numbers of one aggregate
//! have no gaps and no doubles (a primary key says so), and counting costs no row operation.
//!
//! A personal field has the type [`Sealed`]: it cannot be written in plain. It is ciphertext under
//! the customer's key wherever events are kept or copied.

mod catalogue;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

pub use catalogue::{Aggregate, Change, DomainEvent, LineItem, MergedItem};

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

/// An event with its number in its aggregate.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// 1, 2, 3, … per aggregate: the counter on the aggregate's row after this event.
    pub n: i64,
    /// The event.
    pub event: DomainEvent,
}

impl DomainEvent {
    /// Gives the event its number: the counter on its aggregate's row.
    pub fn at(self, n: i64) -> Numbered {
        Numbered { n, event: self }
    }
}

/// Records events in the caller's transaction. 1 round trip, 1 row operation an event.
pub async fn record(tx: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let (mut aggregate_ids, mut numbers, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let (mut aggregates, mut names, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
    for Numbered { n, event } in events {
        let (aggregate, aggregate_id) = event.aggregate();
        aggregate_ids.push(aggregate_id);
        numbers.push(*n);
        ids.push(Uuid::now_v7());
        aggregates.push(aggregate.name());
        names.push(event.name());
        payloads.push(event.payload());
    }
    sqlx::query(
        "-- events: record
        insert into shop.domain_event
            (aggregate_id, n, event_id, aggregate, name, payload, recorded_at)
        select e.aggregate_id, e.n, e.event_id, e.aggregate, e.name, e.payload, saga.now()
        from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[])
            as e (aggregate_id, n, event_id, aggregate, name, payload)",
    )
    .bind(aggregate_ids)
    .bind(numbers)
    .bind(ids)
    .bind(aggregates)
    .bind(names)
    .bind(payloads)
    .execute(tx)
    .await?;
    Ok(())
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
}

/// Everything that has happened to one aggregate, oldest first.
pub async fn of_aggregate(
    connection: &mut PgConnection,
    aggregate_id: Uuid,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(
        "-- events: of an aggregate
        select n, event_id, name, payload, recorded_at
        from shop.domain_event where aggregate_id = $1 order by n",
    )
    .bind(aggregate_id)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests;
