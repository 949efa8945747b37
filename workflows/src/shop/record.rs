//! Recording what has happened, with everything that follows from it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{FromRow as _, Postgres, postgres::PgArguments, query::Query};
use stepwise_engine::{
    StartError,
    outbox::{self, Message, PublishError},
};
use uuid::Uuid;

use super::{
    Cause, Context,
    column::column,
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
        let mut happened = Happened::of(&self.cause, told, self);
        let beside = beside.map(|message| Telling::new(self.cause.clone(), message));
        happened.messages.extend(beside);
        self.record_all(happened, None).await
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
        let happened = Happened::of(&self.cause, told, self);
        self.record_all(happened, Some(making)).await
    }

    /// The same for events of several causes, each with its own. Cost: as [`Context::record_by`], 1 round trip for the messages of all.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn record_each_by<'c>(
        &mut self,
        making: Making<'_>,
        told: impl IntoIterator<Item = (&'c Cause, Vec<Numbered>)>,
    ) -> Result<(), sqlx::Error> {
        let mut happened = Happened::default();
        for (cause, told) in told {
            happened.add(cause, told, self);
        }
        self.record_all(happened, Some(making)).await
    }

    async fn record_all(
        &mut self,
        mut happened: Happened,
        making: Option<Making<'_>>,
    ) -> Result<(), sqlx::Error> {
        if making.is_none() && happened.ids.is_empty() && happened.messages.is_empty() {
            return Ok(());
        }
        let now = self.now().await?;
        let starts = std::mem::take(&mut happened.starts);
        let messages = self.write(happened, now, making).await?;
        outbox::publish_all(self, &messages).await.map_err(unpublished)?;
        for (cause, start) in starts {
            let own = std::mem::replace(&mut self.cause, cause);
            let started = start(self).await;
            self.cause = own;
            started.map_err(unstarted)?;
        }
        Ok(())
    }

    /// Writes the events, counts the messages on the rows of their subjects, and numbers them by it. 1 round trip, and 1 for each further kind of subject.
    async fn write(
        &mut self,
        happened: Happened,
        now: DateTime<Utc>,
        making: Option<Making<'_>>,
    ) -> Result<Vec<Message>, sqlx::Error> {
        let mut by_kind: Vec<Vec<Telling>> = Vec::new();
        for telling in happened.messages {
            match by_kind.iter_mut().find(|known| known[0].is_about_such_as(&telling)) {
                Some(known) => known.push(telling),
                None => by_kind.push(vec![telling]),
            }
        }
        let (statement, counted) = match making {
            Some(Making { statement, counts: false }) => (statement, None),
            Some(Making { statement, counts: true }) => {
                let of_orders =
                    |known: &Vec<Telling>| matches!(known[0].subject, Subject::Order(_));
                let at = by_kind.iter().position(of_orders);
                (statement, Some(at.map(|at| by_kind.remove(at)).unwrap_or_default()))
            }
            None if by_kind.is_empty() => (sqlx::query(RECORD), None),
            None => {
                let first = by_kind.remove(0);
                (sqlx::query(record_and_count(first[0].subject)), Some(first))
            }
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
            .bind(happened.actors)
            .bind(happened.correlations)
            .bind(happened.causations)
            .bind(happened.sagas);
        let mut messages = Vec::new();
        if let Some(told) = counted {
            let recording = recording
                .bind(column(&told, |telling| telling.subject.id()))
                .bind(column(&told, |telling| telling.message.kind()));
            let rows = recording.fetch_all(&mut **self).await?;
            let counted = rows.iter().map(Counted::from_row).collect::<Result<_, _>>()?;
            messages.extend(numbered(told, counted)?);
        } else {
            recording.execute(&mut **self).await?;
        }
        for told in by_kind {
            let counted = sqlx::query_as(count(told[0].subject))
                .bind(column(&told, |telling| telling.subject.id()))
                .bind(column(&told, |telling| telling.message.kind()))
                .fetch_all(&mut **self)
                .await?;
            messages.extend(numbered(told, counted)?);
        }
        Ok(messages)
    }
}

/// The messages with their numbers: those about one subject get the numbers up to its counters as they are now.
fn numbered(told: Vec<Telling>, counted: Vec<Counted>) -> Result<Vec<Message>, sqlx::Error> {
    let mut counters: HashMap<Uuid, Counted> =
        counted.into_iter().map(|counted| (counted.subject, counted)).collect();
    let mut messages = Vec::with_capacity(told.len());
    for Telling { cause, subject, message } in told.into_iter().rev() {
        let counted = counters.get_mut(&subject.id()).ok_or(sqlx::Error::RowNotFound)?;
        let (kind, source) = (message.kind(), message.source());
        let of_kind = counted.published_types.entry(kind.to_owned()).or_default();
        let (sequence, type_sequence) = (counted.published_count, *of_kind);
        counted.published_count -= 1;
        *of_kind -= 1;
        messages.push(Message {
            type_sequence: Some(type_sequence),
            sealed_for: message.sealed_for(),
            correlation: Some(cause.correlation.to_string()),
            causation: Some(cause.causation.to_string()),
            traceparent: Some(cause.traceparent.as_str().to_owned()),
            ..Message::new(kind, source, subject.id().to_string(), sequence, message.payload())
        });
    }
    messages.reverse();
    Ok(messages)
}

/// A statement that makes events true, with its own arguments bound. It records the events by [`insert_events`], whose parameters follow its own.
pub(crate) struct Making<'q> {
    pub(crate) statement: Query<'q, Postgres, PgArguments>,
    /// Whether it counts the messages about its orders by [`counted`], whose parameters come last: for each message its order, and its kind. It returns
    /// the counters of its orders.
    pub(crate) counts: bool,
}

/// The counters on a subject's row, after they were raised.
#[derive(sqlx::FromRow)]
struct Counted {
    subject: Uuid,
    published_count: i64,
    #[sqlx(json)]
    published_types: BTreeMap<String, i64>,
}

/// A message that follows from what has happened. Its cause is the event, or that of the transaction.
struct Telling {
    cause: Cause,
    subject: Subject,
    message: Notification,
}

impl Telling {
    fn new(cause: Cause, message: Notification) -> Self {
        Self { cause, subject: message.subject(), message }
    }

    fn is_about_such_as(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.subject) == std::mem::discriminant(&other.subject)
    }
}

/// Events as columns, and what follows from them, each with its cause.
#[derive(Default)]
struct Happened {
    aggregate_ids: Vec<Uuid>,
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    aggregates: Vec<&'static str>,
    names: Vec<&'static str>,
    payloads: Vec<serde_json::Value>,
    actors: Vec<String>,
    correlations: Vec<Uuid>,
    causations: Vec<Uuid>,
    sagas: Vec<Option<Uuid>>,
    messages: Vec<Telling>,
    starts: Vec<(Cause, Starting)>,
}

impl Happened {
    /// The events of one cause.
    fn of(cause: &Cause, told: impl IntoIterator<Item = Numbered>, ctx: &Context<'_>) -> Self {
        let mut happened = Self::default();
        happened.add(cause, told, ctx);
        happened
    }

    fn add(&mut self, cause: &Cause, told: impl IntoIterator<Item = Numbered>, ctx: &Context<'_>) {
        for Numbered { n, event } in told {
            let id = Uuid::now_v7();
            for (_, reaction) in (ctx.shop.reactions)(&event) {
                let by_event = || Cause { causation: id, ..cause.clone() };
                match reaction {
                    Reaction::Nothing(_) => {}
                    Reaction::Tell(message) => {
                        self.messages.push(Telling::new(by_event(), message));
                    }
                    Reaction::Start(start) => self.starts.push((by_event(), start)),
                }
            }
            let (aggregate, aggregate_id) = event.aggregate();
            self.aggregate_ids.push(aggregate_id);
            self.numbers.push(n);
            self.ids.push(id);
            self.aggregates.push(aggregate.name());
            self.names.push(event.name());
            self.payloads.push(DomainEvent::payload(&event));
            self.actors.push(cause.actor.to_string());
            self.correlations.push(cause.correlation);
            self.causations.push(cause.causation);
            self.sagas.push(cause.saga);
        }
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
            ", e.actor, e.correlation,
               e.causation, e.saga_id
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
            "::jsonb[], ",
            $actor,
            "::text[], ",
            $correlation,
            "::uuid[], ",
            $causation,
            "::uuid[], ",
            $saga,
            "::uuid[])
            as e (aggregate_id, n, event_id, aggregate, name, payload, actor, correlation,
                  causation, saga_id)"
        )
    };
}
pub(crate) use insert_events;

/// Sets the counters of messages on the rows `o` of their subjects. The caller has locked the rows, or the statement locks them: two transactions never
/// count at the same time.
macro_rules! counted {
    ($id:literal, $subjects:literal, $kinds:literal) => {
        concat!(
            "(published_count, published_types) = (
            select o.published_count + coalesce(sum(many), 0)::bigint,
                o.published_types || coalesce(jsonb_object_agg(kind,
                    coalesce((o.published_types ->> kind)::bigint, 0) + many), '{}')
            from (select kind, count(*) as many
                  from unnest(",
            $subjects,
            "::uuid[], ",
            $kinds,
            "::text[]) as m (subject, kind)
                  where subject = o.",
            $id,
            " group by kind) k)"
        )
    };
}
pub(crate) use counted;

/// Locks the rows of the subjects, in no order: whoever tells of several orders, customers or products has locked them before.
macro_rules! count_messages {
    ($table:literal, $id:literal, $subjects:literal, $kinds:literal) => {
        concat!(
            "update ",
            $table,
            " o
            set ",
            counted!($id, $subjects, $kinds),
            "
            where ",
            $id,
            " = any(",
            $subjects,
            ")
            returning ",
            $id,
            " as subject, published_count, published_types"
        )
    };
}

macro_rules! record_events {
    () => {
        insert_events!("$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12")
    };
}

const RECORD: &str = concat!("-- events: record\n", record_events!());

/// The statements that count messages about a kind of subject: beside the events that are recorded, and alone.
macro_rules! counting {
    ($recording:ident, $counting:ident, $subject:literal, $table:literal, $id:literal) => {
        const $recording: &str = concat!(
            "-- events: record, and count the messages about ",
            $subject,
            "
    with counted as (
        ",
            count_messages!($table, $id, "$13", "$14"),
            "
    ), recorded as (
        ",
            record_events!(),
            "
    )
    select * from counted"
        );

        const $counting: &str = concat!(
            "-- events: count the messages about ",
            $subject,
            "\n",
            count_messages!($table, $id, "$1", "$2")
        );
    };
}

counting!(RECORD_AND_COUNT_ORDER, COUNT_ORDER, "an order", "shop.\"order\"", "order_id");
counting!(RECORD_AND_COUNT_CUSTOMER, COUNT_CUSTOMER, "a customer", "shop.customer", "customer_id");
counting!(RECORD_AND_COUNT_PRODUCT, COUNT_PRODUCT, "a product", "shop.product", "product_id");

fn record_and_count(subject: Subject) -> &'static str {
    match subject {
        Subject::Order(_) => RECORD_AND_COUNT_ORDER,
        Subject::Customer(_) => RECORD_AND_COUNT_CUSTOMER,
        Subject::Product(_) => RECORD_AND_COUNT_PRODUCT,
    }
}

fn count(subject: Subject) -> &'static str {
    match subject {
        Subject::Order(_) => COUNT_ORDER,
        Subject::Customer(_) => COUNT_CUSTOMER,
        Subject::Product(_) => COUNT_PRODUCT,
    }
}

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
