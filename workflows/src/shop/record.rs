//! Recording what has happened, with everything that follows from it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow as _, Postgres, postgres::PgArguments, query::Query, types::Json};
use stepwise_engine::{
    StartError,
    outbox::{self, Message, PublishError},
};
use uuid::Uuid;

use super::{
    Context,
    reaction::{Reaction, Starting},
};
use crate::{
    events::{DomainEvent, Numbered, VERSION},
    integration::{Notification, Subject},
};

impl Context<'_> {
    /// Records events in the caller's transaction, and does what follows from them ([`crate::reactions`]).
    ///
    /// Round trips: 1; 1 more if messages follow; those of each saga that is started. Row operations: 1 an event, 1 a message, and 1 for the row of
    /// the messages' subject, which counts them.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(
        &mut self,
        told: impl IntoIterator<Item = Numbered>,
    ) -> Result<(), sqlx::Error> {
        self.record_and_publish(told, None).await
    }

    /// The same, with a message that follows from no event. Cost: as [`Context::record`].
    ///
    /// # Errors
    /// The database's.
    pub async fn record_and_publish(
        &mut self,
        told: impl IntoIterator<Item = Numbered>,
        beside: Option<Notification>,
    ) -> Result<(), sqlx::Error> {
        self.record_all(told, beside, None).await
    }

    /// Records events by the statement that makes them true. Cost: as [`Context::record`], with that statement in the same round trip.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn record_by(
        &mut self,
        making: Making<'_>,
        told: impl IntoIterator<Item = Numbered>,
    ) -> Result<(), sqlx::Error> {
        self.record_all(told, None, Some(making)).await
    }

    async fn record_all(
        &mut self,
        told: impl IntoIterator<Item = Numbered>,
        beside: Option<Notification>,
        making: Option<Making<'_>>,
    ) -> Result<(), sqlx::Error> {
        let mut happened = Happened { cause: self.cause.causation, ..Happened::default() };
        for numbered in told {
            happened.add(numbered, self);
        }
        happened.messages.extend(beside.map(|message| (happened.cause, message)));
        if making.is_none() && happened.ids.is_empty() && happened.messages.is_empty() {
            return Ok(());
        }
        let now = self.now().await?;
        let starts = std::mem::take(&mut happened.starts);
        let messages = self.write(happened, now, making).await?;
        outbox::publish_all(self, &messages).await.map_err(unpublished)?;
        for (event, start) in starts {
            let caused_by = std::mem::replace(&mut self.cause.causation, event);
            let started = start(self).await;
            self.cause.causation = caused_by;
            started.map_err(unstarted)?;
        }
        Ok(())
    }

    /// Writes the events, counts the messages on the row of their subject, and numbers them by it. 1 round trip for each subject.
    async fn write(
        &mut self,
        happened: Happened,
        now: DateTime<Utc>,
        making: Option<Making<'_>>,
    ) -> Result<Vec<Message>, sqlx::Error> {
        let mut by_subject: Vec<(Subject, Vec<(Uuid, Notification)>)> = Vec::new();
        for (causation, message) in happened.messages {
            let subject = message.subject();
            match by_subject.iter_mut().find(|(known, _)| *known == subject) {
                Some((_, messages)) => messages.push((causation, message)),
                None => by_subject.push((subject, vec![(causation, message)])),
            }
        }
        let (statement, counted) = match making {
            Some(Making { statement, counts }) => {
                let of = counts.map(Subject::Order);
                let known = by_subject.iter().position(|(subject, _)| Some(*subject) == of);
                let messages = known.map(|at| by_subject.remove(at).1).unwrap_or_default();
                (statement, of.map(|subject| (subject, messages)))
            }
            None => match by_subject.iter().position(|(of, _)| matches!(of, Subject::Order(_))) {
                Some(at) => (sqlx::query(RECORD_AND_COUNT), Some(by_subject.remove(at))),
                None => (sqlx::query(RECORD), None),
            },
        };
        let recording = statement
            .bind(happened.aggregate_ids)
            .bind(happened.numbers)
            .bind(happened.ids)
            .bind(happened.aggregates)
            .bind(happened.names)
            .bind(happened.payloads)
            .bind(now)
            .bind(VERSION)
            .bind(self.cause.actor.to_string())
            .bind(self.cause.correlation)
            .bind(self.cause.causation)
            .bind(self.cause.saga);
        let mut numbered = Vec::new();
        if let Some((Subject::Order(order), messages)) = counted {
            let recording = recording.bind(order).bind(kinds(&messages));
            let counted = Counted::from_row(&recording.fetch_one(&mut **self).await?)?;
            numbered.extend(self.numbered(order, messages, counted));
        } else {
            recording.execute(&mut **self).await?;
        }
        for (subject, messages) in by_subject {
            let (count, id) = match subject {
                Subject::Order(order) => (COUNT, order),
                Subject::Customer(customer) => (COUNT_OF_CUSTOMER, customer),
            };
            let counted = sqlx::query_as(count)
                .bind(id)
                .bind(kinds(&messages))
                .fetch_one(&mut **self)
                .await?;
            numbered.extend(self.numbered(id, messages, counted));
        }
        Ok(numbered)
    }

    /// The messages about one subject with their numbers: those up to the counters as they are now.
    fn numbered(
        &self,
        subject: Uuid,
        messages: Vec<(Uuid, Notification)>,
        Counted { published_count, published_types: Json(mut types) }: Counted,
    ) -> Vec<Message> {
        let numbering = (1..=published_count).rev().zip(messages.into_iter().rev());
        let mut numbered: Vec<Message> = numbering
            .map(|(sequence, (causation, message))| {
                let (kind, source) = (message.kind(), message.source());
                let of_kind = types.entry(kind.to_owned()).or_default();
                let type_sequence = *of_kind;
                *of_kind -= 1;
                Message {
                    type_sequence: Some(type_sequence),
                    sealed_for: message.sealed_for(),
                    correlation: Some(self.cause.correlation.to_string()),
                    causation: Some(causation.to_string()),
                    traceparent: Some(self.cause.traceparent.as_str().to_owned()),
                    ..Message::new(kind, source, subject.to_string(), sequence, message.payload())
                }
            })
            .collect();
        numbered.reverse();
        numbered
    }
}

/// A statement that makes events true, with its own arguments bound. It records the events by [`insert_events`], whose parameters follow its own.
pub(crate) struct Making<'q> {
    pub(crate) statement: Query<'q, Postgres, PgArguments>,
    /// The order about which it counts messages by [`counted`], whose parameters come last: the order, and the kinds. It returns the counters.
    pub(crate) counts: Option<Uuid>,
}

/// The counters on a subject's row, after they were raised.
#[derive(sqlx::FromRow)]
struct Counted {
    published_count: i64,
    published_types: Json<BTreeMap<String, i64>>,
}

fn kinds(messages: &[(Uuid, Notification)]) -> Vec<&'static str> {
    messages.iter().map(|(_, message)| message.kind()).collect()
}

/// Events as columns, and what follows from them, each with the id of what leads to it.
#[derive(Default)]
struct Happened {
    cause: Uuid,
    aggregate_ids: Vec<Uuid>,
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    aggregates: Vec<&'static str>,
    names: Vec<&'static str>,
    payloads: Vec<serde_json::Value>,
    messages: Vec<(Uuid, Notification)>,
    starts: Vec<(Uuid, Starting)>,
}

impl Happened {
    fn add(&mut self, Numbered { n, event }: Numbered, ctx: &Context<'_>) {
        let id = Uuid::now_v7();
        for (_, reaction) in (ctx.shop.reactions)(&event) {
            match reaction {
                Reaction::Nothing(_) => {}
                Reaction::Tell(message) => self.messages.push((id, message)),
                Reaction::Start(start) => self.starts.push((id, start)),
            }
        }
        let (aggregate, aggregate_id) = event.aggregate();
        self.aggregate_ids.push(aggregate_id);
        self.numbers.push(n);
        self.ids.push(id);
        self.aggregates.push(aggregate.name());
        self.names.push(event.name());
        self.payloads.push(DomainEvent::payload(&event));
    }
}

/// Inserts events. The parameters are those that [`Context::record`] binds, in this order.
macro_rules! insert_events {
    ($aggregate:literal, $n:literal, $event:literal, $kind:literal, $name:literal, $payload:literal, $now:literal, $version:literal,
     $actor:literal, $correlation:literal, $causation:literal, $saga:literal) => {
        concat!(
            "insert into shop.domain_event
            (aggregate_id, n, event_id, aggregate, name, payload, recorded_at, version, actor,
             correlation, causation, saga_id)
        select e.aggregate_id, e.n, e.event_id, e.aggregate, e.name, e.payload, ",
            $now,
            ", ",
            $version,
            ", ",
            $actor,
            ",
               ",
            $correlation,
            ", ",
            $causation,
            ", ",
            $saga,
            "
        from unnest(",
            $aggregate,
            "::uuid[], ",
            $n,
            "::bigint[], ",
            $event,
            "::uuid[], ",
            $kind,
            "::text[], ",
            $name,
            "::text[], ",
            $payload,
            "::jsonb[])
            as e (aggregate_id, n, event_id, aggregate, name, payload)"
        )
    };
}
pub(crate) use insert_events;

/// Sets the counters of messages on the row of order `o`. The caller has locked the row, or the statement locks it: two transactions never count
/// at the same time.
macro_rules! counted {
    ($kinds:literal) => {
        concat!(
            "published_count = published_count + cardinality(",
            $kinds,
            "::text[]),
                published_types = published_types || coalesce((
                    select jsonb_object_agg(kind,
                        coalesce((o.published_types ->> kind)::bigint, 0) + many)
                    from (select kind, count(*) as many
                          from unnest(",
            $kinds,
            "::text[]) as k (kind) group by kind) t), '{}')"
        )
    };
}
pub(crate) use counted;

macro_rules! count_messages {
    ($order:literal, $kinds:literal) => {
        count_messages!("shop.\"order\"", "order_id", $order, $kinds)
    };
    ($table:literal, $key:literal, $id:literal, $kinds:literal) => {
        concat!(
            "update ",
            $table,
            " o
            set ",
            counted!($kinds),
            "
            where ",
            $key,
            " = ",
            $id,
            "
            returning published_count, published_types"
        )
    };
}

macro_rules! record_events {
    () => {
        insert_events!("$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12")
    };
}

const RECORD: &str = concat!("-- events: record\n", record_events!());

const RECORD_AND_COUNT: &str = concat!(
    "-- events: record, and count the messages about an order
    with counted as (
        ",
    count_messages!("$13", "$14"),
    "
    ), recorded as (
        ",
    record_events!(),
    "
    )
    select published_count, published_types from counted"
);

const COUNT: &str =
    concat!("-- events: count the messages about an order\n", count_messages!("$1", "$2"));

const COUNT_OF_CUSTOMER: &str = concat!(
    "-- events: count the messages about a customer\n",
    count_messages!("shop.customer", "customer_id", "$1", "$2")
);

/// A refusal does not happen: the kinds are the routing keys, and all are short.
fn unpublished(error: PublishError) -> sqlx::Error {
    match error {
        PublishError::Database(error) => error,
        refused @ (PublishError::RoutingKey { .. } | PublishError::Unstorable(_)) => {
            sqlx::Error::Encode(Box::new(refused))
        }
    }
}

/// A refusal does not happen: an event starts a saga that is registered, about a subject that has none yet.
fn unstarted(error: StartError) -> sqlx::Error {
    match error {
        StartError::Database(error) => error,
        refused => sqlx::Error::Encode(Box::new(refused)),
    }
}
