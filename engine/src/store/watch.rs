//! Watched effects: the table `saga.watch`.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    base::json::JsonText,
    record::{commit::Commit, kinds::SagaVersion},
};

/// A watch whose time to look has come.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Watched {
    pub(crate) shard: i16,
    pub(crate) saga_id: Uuid,
    pub(crate) step_no: i32,
    /// The version that stored the step.
    #[sqlx(flatten)]
    pub(crate) saga: SagaVersion,
    pub(crate) activity: String,
    pub(crate) undo: String,
    /// The watch has lasted long enough, and its instance has ended: this look is the last, if it tells.
    pub(crate) over: bool,
    /// The instance has unwound and its ledger says that there is nothing.
    pub(crate) look: bool,
    /// How often somebody has looked, this time included.
    pub(crate) attempt: i16,
}

/// Round trips: 1. Row operations: 1 a member.
///
/// # Errors
/// The database's.
pub(crate) async fn insert(tx: &mut PgConnection, members: &[&Commit]) -> Result<(), sqlx::Error> {
    let watched = || members.iter().filter_map(|c| Some((*c, c.watch.as_ref()?)));
    sqlx::query(
        "-- name: watch effects
        insert into saga.watch (shard, saga_id, step_no, version, activity, undo, until, next_at)
        select w.shard, w.saga_id, w.step_no, w.version, w.step::jsonb, to_jsonb('step'::text), saga.now() + w.ms * interval '1 ms',
            least(saga.now() + w.ms * interval '1 ms', saga.now() + interval '30 s')
        from unnest($1::smallint[], $2::uuid[], $3::integer[], $4::smallint[], $5::json[], $6::bigint[])
            as w(shard, saga_id, step_no, version, step, ms)
        on conflict do nothing",
    )
    .bind(watched().map(|(c, _)| c.shard).collect::<Vec<_>>())
    .bind(watched().map(|(c, _)| c.id).collect::<Vec<_>>())
    .bind(watched().map(|(_, w)| w.step_no).collect::<Vec<_>>())
    .bind(watched().map(|(c, _)| c.version).collect::<Vec<_>>())
    .bind(watched().map(|(_, w)| JsonText(&w.step)).collect::<Vec<_>>())
    .bind(watched().map(|(_, w)| w.lasts_ms).collect::<Vec<_>>())
    .execute(tx)
    .await
    .map(|_| ())
}

/// After a look, no other worker looks for 30 s; then for twice as long each time, up to an hour. The provider is asked only about instances that
/// have unwound. A watch waits for that, however long it takes.
pub(crate) const DUE: &str = "-- name: look at watched effects
with known as (select * from unnest($1::text[], $2::smallint[]) as k(name, version)),
due as materialized (
    select w.shard, w.saga_id, w.step_no, i.name, w.until <= (select saga.now()) as past,
        i.status in ('completed', 'unwound', 'abandoned') as ended,
        i.status = 'unwound' and coalesce(e.status, 'refuted') = 'refuted' as look
    from saga.watch w
    join saga.instance i on i.shard = w.shard and i.saga_id = w.saga_id
    left join saga.effect e on e.shard = w.shard and e.saga_id = w.saga_id and e.step_no = w.step_no
    where w.next_at <= (select saga.now())
        and exists (select from known k where k.name = i.name and k.version >= greatest(i.version, w.version))
    order by w.next_at limit 64
    for no key update of w skip locked
)
update saga.watch w set attempt = least(w.attempt + 1, 100),
    next_at = least(case when not d.past then w.until end,
        saga.now() + least(3600, 30 * 2 ^ least(w.attempt, 7)) * interval '1 s')
from due d where w.shard = d.shard and w.saga_id = d.saga_id and w.step_no = d.step_no
returning w.shard, w.saga_id, w.step_no, w.version, w.activity::text, w.undo::text, d.name, d.past and d.ended as over, d.look, w.attempt";

/// Another instance may be open about the subject by now: this one gets a start key of its own.
pub(crate) async fn make_room(tx: &mut PgConnection, watched: &Watched) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: make room for a reopened instance
        update saga.instance i set start_key = i.start_key || ' reopened ' || i.saga_id
        where i.shard = $1 and i.saga_id = $2 and exists (
            select from saga.instance o
            where o.shard = i.shard and o.name = i.name and o.subject = i.subject and o.start_key = i.start_key
                and o.status not in ('completed', 'unwound', 'abandoned'))",
    )
    .bind(watched.shard)
    .bind(watched.saga_id)
    .execute(tx)
    .await
    .map(|_| ())
}
