//! The outbox's statements.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Failing, FeedTroubles, Lag, Message, Outgoing, lease::Epochs};
use crate::base::id::shard_of;

/// The channel on which a sleeping relay is woken.
pub(super) const WAKE: &str = "saga_outbox";

/// The first waiting message of a subject.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Head {
    #[sqlx(flatten)]
    pub(super) message: Outgoing,
    /// How often it was not taken.
    pub(super) tries: i32,
}

/// A message that was published.
pub(super) struct Confirmed {
    pub(super) message: Outgoing,
    /// Why a receiver did not take its copy, if one did not.
    pub(super) refusal: Option<String>,
}

/// 1 row operation a message, 1 round trip. Notifies only while a relay sleeps, because a notification
/// takes a lock on the whole database at commit.
pub(super) async fn insert(tx: &mut PgConnection, messages: &[Message]) -> Result<(), sqlx::Error> {
    fn all<'a, T>(messages: &'a [Message], pick: impl Fn(&'a Message) -> T) -> Vec<T> {
        messages.iter().map(pick).collect()
    }
    sqlx::query(
        "-- outbox: publish
         with written as (
             insert into saga.outbox (shard, subject, sequence, type_sequence, message_id, kind,
                 routing_key,
                 source, data, sealed_for, correlation, causation, traceparent, happened_at)
             select shard, subject, sequence, type_sequence, message_id, kind, routing_key,
                 source, data::json, sealed_for, correlation, causation, traceparent, saga.now()
             from unnest($1::smallint[], $2::text[], $3::bigint[], $4::uuid[], $5::text[],
                 $6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[], $11::text[],
                 $12::text[], $13::bigint[])
                 as message (shard, subject, sequence, message_id, kind, routing_key,
                     source, data, sealed_for, correlation, causation, traceparent, type_sequence)
         )
         select pg_notify('saga_outbox', '') from saga.outbox_relay
         where asleep and alive_until > clock_timestamp()",
    )
    .bind(all(messages, Message::shard))
    .bind(all(messages, |m| m.subject.as_str()))
    .bind(all(messages, |m| m.sequence))
    .bind(all(messages, |m| m.id))
    .bind(all(messages, |m| m.kind.as_str()))
    .bind(all(messages, |m| m.routing_key.as_str()))
    .bind(all(messages, |m| m.source.as_str()))
    .bind(all(messages, |m| m.data.to_string()))
    .bind(all(messages, |m| m.sealed_for))
    .bind(all(messages, |m| m.correlation.as_deref()))
    .bind(all(messages, |m| m.causation.as_deref()))
    .bind(all(messages, |m| m.traceparent.as_deref()))
    .bind(all(messages, |m| m.type_sequence))
    .execute(tx)
    .await?;
    Ok(())
}

/// The first waiting message of each subject, at most 32 a shard and 512 in all. A head whose next
/// try is not due stays its subject's head.
pub(super) async fn heads(pool: &PgPool, shards: &[i16]) -> Result<Vec<Head>, sqlx::Error> {
    sqlx::query_as(
        "-- outbox: heads
         select head.*
         from unnest($1::smallint[]) as held (shard)
         cross join lateral (
             select first.* from (
                 select distinct on (subject) shard, subject, sequence, type_sequence, message_id,
                     kind,
                     routing_key, source, data::text as data, sealed_for, correlation, causation,
                     traceparent, happened_at, tries, next_try_at
                 from saga.outbox
                 where shard = held.shard
                 order by subject, sequence
             ) first
             where first.next_try_at <= clock_timestamp()
             limit 32
         ) head
         limit 512",
    )
    .bind(shards)
    .fetch_all(pool)
    .await
}

/// Moves confirmed messages to the feed by one statement, numbers them in the given order within each
/// shard, and records which copies were not taken. Returns the ids that were moved. A missing one was
/// moved before, or belongs to a shard that another relay has taken over.
pub(super) async fn mark_published(
    pool: &PgPool,
    owner: Uuid,
    epochs: &Epochs,
    confirmed: &[Confirmed],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut places: BTreeMap<i16, i64> = BTreeMap::new();
    let place: Vec<i64> = confirmed
        .iter()
        .map(|one| {
            let last = places.entry(one.message.shard).or_default();
            *last += 1;
            *last
        })
        .collect();
    let (shards, counts): (Vec<i16>, Vec<i64>) = places.into_iter().unzip();
    let epochs: Vec<i64> = shards.iter().map(|shard| epochs.of(*shard)).collect();
    sqlx::query_scalar(
        "-- outbox: mark published
         with ours as materialized (
             select lease.shard, lease.feed_n, part.many
             from saga.outbox_shard lease
             join unnest($5::smallint[], $6::bigint[], $7::bigint[]) as part (shard, many, epoch)
                 on part.shard = lease.shard and part.epoch = lease.epoch
             where lease.owner = $1
             order by lease.shard
             for update of lease
         ), raised as (
             update saga.outbox_shard lease set feed_n = ours.feed_n + ours.many
             from ours where lease.shard = ours.shard
         ), confirmed as materialized (
             select ours.shard, message.subject, message.sequence, message.refusal,
                 ours.feed_n + message.place as n
             from unnest($2::smallint[], $3::text[], $4::bigint[], $8::bigint[], $9::text[])
                 as message (shard, subject, sequence, place, refusal)
             join ours on ours.shard = message.shard
         ), taken as (
             delete from saga.outbox waiting using confirmed
             where waiting.shard = confirmed.shard and waiting.subject = confirmed.subject
                 and waiting.sequence = confirmed.sequence
             returning confirmed.n, confirmed.refusal, waiting.*
         ), refused as (
             insert into saga.feed_trouble (shard, n, kind, reason)
             select shard, n, 'refused', refusal from taken where refusal is not null
         )
         insert into saga.feed (shard, n, subject, sequence, type_sequence, message_id, kind,
             routing_key, source,
             data, sealed_for, correlation, causation, traceparent, happened_at)
         select shard, n, subject, sequence, type_sequence, message_id, kind, routing_key, source,
             data, sealed_for, correlation, causation, traceparent, happened_at
         from taken
         returning message_id",
    )
    .bind(owner)
    .bind(confirmed.iter().map(|one| one.message.shard).collect::<Vec<_>>())
    .bind(confirmed.iter().map(|one| one.message.subject.as_str()).collect::<Vec<_>>())
    .bind(confirmed.iter().map(|one| one.message.sequence).collect::<Vec<_>>())
    .bind(shards)
    .bind(counts)
    .bind(epochs)
    .bind(place)
    .bind(confirmed.iter().map(|one| one.refusal.as_deref()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
}

/// Records on the rows why they were not taken and when to try again: after 1 s, doubling to 60 s,
/// with jitter.
pub(super) async fn postpone(
    pool: &PgPool,
    owner: Uuid,
    rejected: &[(Outgoing, String)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: postpone
         update saga.outbox waiting
         set tries = waiting.tries + 1,
             error = rejected.error,
             next_try_at = clock_timestamp() + make_interval(
                 secs => least(60, power(2, least(waiting.tries, 6))) * (0.5 + random() / 2))
         from unnest($2::smallint[], $3::text[], $4::bigint[], $5::text[])
                 as rejected (shard, subject, sequence, error)
             join saga.outbox_shard lease on lease.shard = rejected.shard and lease.owner = $1
         where waiting.shard = rejected.shard and waiting.subject = rejected.subject
             and waiting.sequence = rejected.sequence",
    )
    .bind(owner)
    .bind(rejected.iter().map(|(m, _)| m.shard).collect::<Vec<_>>())
    .bind(rejected.iter().map(|(m, _)| m.subject.as_str()).collect::<Vec<_>>())
    .bind(rejected.iter().map(|(m, _)| m.sequence).collect::<Vec<_>>())
    .bind(rejected.iter().map(|(_, error)| error.as_str()).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// Says that a relay goes to sleep and wants to be notified, or that it is awake.
pub(super) async fn sleep(pool: &PgPool, owner: Uuid, asleep: bool) -> Result<(), sqlx::Error> {
    sqlx::query("-- outbox: sleep\n update saga.outbox_relay set asleep = $2 where owner = $1")
        .bind(owner)
        .bind(asleep)
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn lag(pool: &PgPool) -> Result<Lag, sqlx::Error> {
    let (messages, oldest_s, failing) = sqlx::query_as(
        "-- outbox: lag
         select count(*),
             coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8,
             count(*) filter (where tries > 0)
         from (select recorded_at, tries from saga.outbox limit 10000) waiting",
    )
    .fetch_one(pool)
    .await?;
    Ok(Lag { messages, oldest_s, failing })
}

pub(super) async fn failing(pool: &PgPool, limit: i64) -> Result<Vec<Failing>, sqlx::Error> {
    sqlx::query_as(
        "-- outbox: failing
         select subject, sequence, message_id, kind, tries, coalesce(error, '') as error,
             extract(epoch from clock_timestamp() - recorded_at)::float8 as age_s
         from (select * from saga.outbox limit 10000) waiting
         where tries > 0
         order by recorded_at
         limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(super) async fn feed_troubles(pool: &PgPool) -> Result<FeedTroubles, sqlx::Error> {
    type Row = (String, i64, f64, String);
    let rows: Vec<Row> = sqlx::query_as(
        "-- outbox: feed troubles
         select kind, count(*),
             extract(epoch from clock_timestamp() - max(noted_at))::float8,
             (array_agg(format('%s.%s: %s', shard, n, reason) order by noted_at desc))[1]
         from saga.feed_trouble
         group by kind",
    )
    .fetch_all(pool)
    .await?;
    let mut troubles = FeedTroubles::default();
    for (kind, count, ago_s, reason) in rows {
        if kind == "refused" {
            troubles.refused = count;
            troubles.refused_s_ago = Some(ago_s);
            troubles.refused_reason = Some(reason);
        } else {
            troubles.unreadable = count;
            troubles.unreadable_reason = Some(reason);
        }
    }
    Ok(troubles)
}

/// 1 round trip.
pub(super) async fn waiting_about(
    tx: &mut PgConnection,
    subjects: &[String],
) -> Result<i64, sqlx::Error> {
    let shards: Vec<i16> = subjects.iter().map(|subject| shard_of(subject)).collect();
    sqlx::query_scalar(
        "-- outbox: waiting about
        select count(*) from unnest($1::smallint[], $2::text[]) as s (shard, subject)
        join saga.outbox using (shard, subject)",
    )
    .bind(shards)
    .bind(subjects)
    .fetch_one(tx)
    .await
}
