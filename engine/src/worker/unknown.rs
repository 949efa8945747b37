//! Instances that no living worker can drive: a newer version wrote them before a roll-back, their saga is not deployed any more, or a newer build of
//! the same version wrote data that older builds cannot read.
//!
//! They do not fail. When they are due they are marked (`waiting_on = 'version'`, due at infinity), so that they do not delay other instances. The
//! same statement writes a [notice](crate::notice) of each. A worker that knows them takes them back.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{base::build, record::kinds::Kinds};

// Writes one notice for each instance that is marked.
macro_rules! told {
    () => {
        " returning i.shard, i.saga_id, i.seq, i.name, i.version, i.unread_by
),
told as (
    insert into saga.notice (shard, saga_id, seq, kind, detail, at)
    select shard, saga_id, seq, 'version',
        jsonb_build_object('saga', name, 'why', format(case when unread_by is null then 'no worker knows version %s of %s'
            else 'no worker can read what a newer build of version %s of %s wrote' end, version, name)), clock_timestamp()
    from marked
    on conflict do nothing
)
select (select pg_notify('saga_notice', '')) from marked"
    };
}

// The worker that runs this counts as living, whatever its lease row says now.
macro_rules! known {
    () => {
        "with known as materialized (
    select k.*, $3::bigint as build from unnest($1::text[], $2::smallint[]) as k(name, version)
    union all
    select k ->> 0, (k ->> 1)::smallint, coalesce(w.build, 0) from saga.worker w, jsonb_array_elements(w.kinds) k
    where w.lease_until > clock_timestamp()
)"
    };
}

/// Looks at the 1,000 instances of each priority that have been due the longest: claims meet those first.
const MARK_DUE: &str = concat!(
    "-- name: mark due of no known version\n",
    known!(),
    ",
head as materialized (
    select h.* from generate_series(0, 2) as class(priority), lateral (
        select i.shard, i.saga_id, i.name, i.version, i.unread_by from saga.instance i
        where i.priority = class.priority and i.wake_at <= (select saga.now())
        order by i.wake_at limit 1000) h
),
stranger as materialized (
    select i.shard, i.saga_id from head h
    join saga.instance i on i.shard = h.shard and i.saga_id = h.saga_id
    where i.wake_at <= (select saga.now())
        and not exists (select from known k where k.name = h.name and k.version >= h.version
            and (h.unread_by is null or h.unread_by < k.build))
    for no key update of i skip locked
),
marked as (
    update saga.instance i set waiting_on = 'version', wake_at = 'infinity', updated_at = clock_timestamp()
    from stranger s where i.shard = s.shard and i.saga_id = s.saga_id",
    told!()
);

const MARK_ORPHANS: &str = concat!(
    "-- name: mark orphans of no known version\n",
    known!(),
    ",
orphan as materialized (
    select i.shard, i.saga_id from saga.instance i
    where i.owner = any($4)
        and not exists (select from known k where k.name = i.name and k.version >= i.version
            and (i.unread_by is null or i.unread_by < k.build))
    limit 512
    for no key update skip locked
),
marked as (
    update saga.instance i
    set owner = null, epoch = i.epoch + 1, waiting_on = 'version', wake_at = 'infinity',
        unsettled = i.unsettled or i.pending -> 'call' is not null,
        timer_at = case when i.pending -> 'call' is not null then null else i.timer_at end, updated_at = clock_timestamp()
    from orphan o where i.shard = o.shard and i.saga_id = o.saga_id",
    told!()
);

const TAKE_BACK: &str = "-- name: take back what waits for a version
with known as (select * from unnest($1::text[], $2::smallint[]) as k(name, version)),
again as materialized (
    select i.shard, i.saga_id from saga.instance i
    where i.priority in (0, 1, 2) and i.wake_at = 'infinity'
        and exists (select from known k where k.name = i.name and k.version >= i.version)
        and (i.unread_by is null or i.unread_by < $3)
    limit 512
    for no key update skip locked
)
update saga.instance i set waiting_on = 'worker', wake_at = saga.now(), updated_at = clock_timestamp()
from again a where i.shard = a.shard and i.saga_id = a.saga_id";

/// Marks what is due, or was left by these dead, and no living worker knows. Only a worker that may judge leases can say who lives: see
/// [`crate::worker::lease`]. Round trips: 1, and 1 more where somebody has died or after a full batch. Row operations: 2 an instance (its mark,
/// its notice).
pub(crate) async fn mark(
    connection: &mut PgConnection,
    known: &Kinds,
    dead: &[Uuid],
) -> Result<(), sqlx::Error> {
    let mut marked = repeat(connection, MARK_DUE, known, None).await?;
    if !dead.is_empty() {
        marked += repeat(connection, MARK_ORPHANS, known, Some(dead)).await?;
    }
    if marked > 0 {
        tracing::warn!(marked, "instances wait for a worker that knows their version");
    }
    Ok(())
}

/// Makes the marked instances due again that this worker knows. Round trips: 1, and 1 more after each batch of 512.
pub(crate) async fn take_back(
    connection: &mut PgConnection,
    known: &Kinds,
) -> Result<(), sqlx::Error> {
    let again = repeat(connection, TAKE_BACK, known, None).await?;
    if again > 0 {
        tracing::info!(again, "instances that waited for this version continue");
    }
    Ok(())
}

/// Repeats the statement until it finds less than a batch, and returns the number of rows.
async fn repeat(
    connection: &mut PgConnection,
    statement: &'static str,
    known: &Kinds,
    owners: Option<&[Uuid]>,
) -> Result<u64, sqlx::Error> {
    let mut all = 0;
    loop {
        let mut asked =
            sqlx::query(statement).bind(&known.names).bind(&known.versions).bind(build::made_at());
        if let Some(owners) = owners {
            asked = asked.bind(owners);
        }
        let done = asked.execute(&mut *connection).await?.rows_affected();
        all += done;
        if done < 512 {
            return Ok(all);
        }
    }
}
