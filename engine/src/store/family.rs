//! Writing one commit with everything that it does to other instances: children, a successor, kept signals.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    record::commit::Commit,
    store::{
        self,
        commit::{self, Mode, WrittenMembers},
        join::expect_children,
        new_instance,
    },
};

/// Writes one commit with everything it does to other instances; false if its fence did not hold.
///
/// Round trips: 1, and 1 each for effects that tx undos took back, a wait for children, new instances and letting go.
///
/// # Errors
/// The database's.
pub(crate) async fn write_own(tx: &mut PgConnection, commit: &Commit) -> Result<bool, sqlx::Error> {
    Ok(write_all(tx, std::slice::from_ref(commit)).await?.len() == 1)
}

/// The same for many, of which the round trips beyond the first are each one's own; answers who was written.
///
/// # Errors
/// The database's.
pub(crate) async fn write_all(
    tx: &mut PgConnection,
    commits: &[Commit],
) -> Result<WrittenMembers, sqlx::Error> {
    let written = commit::write(tx, commits, Mode::Waiting).await?;
    for commit in commits.iter().filter(|c| written.contains(&(c.id, c.epoch))) {
        write_beside(tx, commit).await?;
    }
    Ok(written)
}

async fn write_beside(tx: &mut PgConnection, commit: &Commit) -> Result<(), sqlx::Error> {
    if !commit.undone.is_empty() {
        store::take_effects_back(tx, commit).await?;
    }
    if !commit.taken.is_empty() {
        store::take_signals(tx, commit).await?;
    }
    let Some(family) = commit.family.as_deref() else { return Ok(()) };
    if family.joins {
        expect_children(tx, &[(commit.shard, commit.id)]).await?;
    }
    new_instance::insert(tx, &family.new_instances, false).await?;
    if family.succeeded {
        succeed(tx, commit, &family.new_instances[0].commit).await?;
    }
    if family.lets_go {
        let_go(tx, commit.shard, commit.id).await?;
    }
    Ok(())
}

async fn let_go(tx: &mut PgConnection, shard: i16, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: let children go
        insert into saga.child_release (shard, saga_id) values ($1, $2) on conflict do nothing",
    )
    .bind(shard)
    .bind(id)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Gives the successor what it has from its predecessor: the place in a family, the deadline, the signals of late, the waits for an
/// end.
async fn succeed(tx: &mut PgConnection, old: &Commit, new: &Commit) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: succeed
        with signal as (
            -- Those of late as well: a sender that repeats one is told so.
            update saga.signal set saga_id = $3
            where shard = $1 and saga_id = $2 and (answer = 'kept' or at > clock_timestamp() - interval '72 hours')
        ),
        awaiting as (
            -- The end that somebody waits for is the successor's, and the end that the instance waits for is told to the successor.
            update saga.end_wait set saga_id = case when shard = $1 and saga_id = $2 then $3 else saga_id end,
                waiter_id = case when waiter_id = $2 then $3 else waiter_id end
            where (shard = $1 and saga_id = $2) or waiter_id = $2
        ),
        left_behind as (
            -- Its parent counts the one that goes on.
            update saga.instance set parent_id = null, parent_step = null
            where shard = $1 and saga_id = $2 and parent_id is not null
        )
        update saga.instance n
        set priority = o.priority, tags = o.tags, queue_key = o.queue_key, parent_id = o.parent_id, parent_step = o.parent_step,
            held = o.held, deadline_at = o.deadline_at,
            -- Kept signals are offered to it.
            wake_at = case when n.kept > 0 and n.status = 'running' and not n.queued then saga.now() else n.wake_at end,
            waiting_on = case when n.kept > 0 and n.status = 'running' and not n.queued then 'worker' else n.waiting_on end
        from saga.instance o
        where n.shard = $1 and n.saga_id = $3 and o.shard = $1 and o.saga_id = $2",
    )
    .bind(old.shard)
    .bind(old.id)
    .bind(new.id)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Makes ended children final whose parents may no longer take them back, up to 500, and returns how many. Their own children follow.
pub(crate) const FINISH_CHILDREN: &str = "-- name: finish children
with parent as materialized (select shard, saga_id from saga.child_release limit 16 for update skip locked),
child as materialized (
    select c.shard, c.saga_id, c.parent_id from parent p
    join saga.instance c on c.shard = p.shard and c.parent_id = p.saga_id
    where c.waiting_on = 'parent'
    limit 500
    for no key update of c skip locked
),
finished as (
    update saga.instance i set status = 'completed', waiting_on = null, undos = '[]', held = false, seq = i.seq + 1,
        updated_at = clock_timestamp()
    from child c where i.shard = c.shard and i.saga_id = c.saga_id
    returning i.shard, i.saga_id, i.seq, i.epoch
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, epoch)
    select shard, saga_id, seq, clock_timestamp(), 'released', epoch from finished
),
grown as (
    insert into saga.child_release (shard, saga_id)
    select f.shard, f.saga_id from finished f
    where exists (
        select from saga.instance g where g.shard = f.shard and g.parent_id = f.saga_id and g.waiting_on = 'parent')
    on conflict do nothing
),
emptied as (
    delete from saga.child_release l using parent p
    where l.shard = p.shard and l.saga_id = p.saga_id
        and (select count(*) from saga.instance c
            where c.shard = p.shard and c.parent_id = p.saga_id and c.waiting_on = 'parent')
            = (select count(*) from child k where k.shard = p.shard and k.parent_id = p.saga_id)
),
-- A parent may have ended without joining (given up by a person).
ended as (
    delete from saga.join_wait j using saga.instance p
    where p.shard = j.shard and p.saga_id = j.saga_id and p.ended_at is not null
)
select count(*) from finished";
