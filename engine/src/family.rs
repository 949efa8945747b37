//! Instances that belong together: a parent and its children, an instance and the one that goes on in its place.
//!
//! Children live on their parent's shard. Nothing of theirs is ever written into the parent's row: an ended child is known by its own
//! row (`ended_at`), and a parent that waits for the last of them ([`join_wait`](WAKE_JOINED)) is woken once. An ended child whose
//! parent may still take it back keeps its undos and waits on `parent`; it becomes final, in batches, once the parent lets go.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    birth::{Birth, Child, Parent, Start, unborn},
    commit::{self, Commit, Mode},
    instance::{Entry, Forbidden, Instance, Pending},
    notice::Kind,
    row::{Row, row_columns},
    saga::{CalledOff, Joined, Saga},
    start,
    status::Status,
    steps::{Cause, StepError},
    store,
    unwind::{OpenUndo, Taken},
    worker::Shift,
};

impl<S: Saga> Instance<S> {
    /// Its children are born with the next commit; their way back is recorded with it.
    pub(crate) fn start_children(
        &mut self,
        no: i32,
        children: Vec<Child>,
    ) -> Result<(), Forbidden> {
        let holds = !self.past_pivot;
        let parent = Parent { shard: self.shard, id: self.id, step_no: no, holds };
        for Child(born) in children {
            self.family.births.push(born(parent)?);
        }
        if holds {
            self.undos.push(OpenUndo::new(no, Taken::Children));
        }
        self.family.joins = true;
        self.pending = Pending::Children { no };
        Ok(())
    }

    /// The end; a child of a parent that may still take it back waits there.
    pub(crate) fn done(&mut self) {
        self.pending = Pending::Nothing;
        if self.held && !self.undos.is_empty() {
            self.ended = true;
        } else {
            self.status = Status::Completed;
            self.forget_undos();
        }
    }

    /// Nothing will be taken back any more; children need not wait for that.
    pub(crate) fn forget_undos(&mut self) {
        self.family.lets_go |= self.undos.iter().any(|open| matches!(open.taken, Taken::Children));
        self.undos.clear();
    }

    pub(crate) fn begin_anew(&mut self, input: S::Input) -> Result<(), Forbidden> {
        if !self.undos.is_empty() {
            return Err(Forbidden::AnewWithOpenUndos);
        }
        let start = Start::new(self.subject.clone(), input).key(self.start_key.clone());
        let mut successor = unborn::<S>(self.shard, &start)?;
        successor.held = self.held;
        successor.kept = self.kept;
        if !successor.parks() {
            successor.release();
        }
        self.family.births.push(Birth {
            name: S::NAME,
            commit: successor.commit(),
            options: start.options(),
            parent: None,
            owner: None,
        });
        self.family.succeeded = true;
        self.pending = Pending::Nothing;
        self.status = Status::Completed;
        Ok(())
    }
}

impl<S: Saga> Instance<S> {
    /// Park until the last child of step `no` has ended.
    pub(crate) fn wait_for_children(&mut self, no: i32) {
        self.pending = Pending::Children { no };
        self.family.joins = true;
    }

    /// Unwinds it from outside. What is in flight is settled first; `owned`: somebody may be at it just now.
    pub(crate) fn call_off(&mut self, why: CalledOff<S::Step>, owned: bool) -> CallOff {
        if self.status.is_final() {
            return CallOff::Ended;
        }
        if self.reason.is_some() {
            return CallOff::Begun;
        }
        if self.past_pivot {
            if matches!(why, CalledOff::Deadline) {
                self.note(Entry::new("deadline passed", &()));
                self.tell(Kind::Deadline, "its deadline passed after its pivot".to_owned());
            }
            return CallOff::PastPivot;
        }
        let entry = Entry::new("called off", &why.text());
        self.drop_untried_call(owned);
        self.ended = false;
        self.begin_unwinding(why.into());
        self.note(entry);
        if !owned && !self.parks() {
            self.release();
        }
        CallOff::Begun
    }

    /// Nobody is at the pending activity and its last attempt surely did nothing: there is nothing to settle.
    pub(crate) fn drop_untried_call(&mut self, owned: bool) {
        if let Pending::Call { no, .. } = self.pending
            && !owned
            && !self.unsettled
        {
            self.watch_call();
            self.forget_undo(no);
            self.settle(no, "refuted", None);
            self.settled();
        }
    }
}

/// What came of calling an instance off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOff {
    /// It unwinds (now, or it did already).
    Begun,
    /// It is past its pivot: it only goes forward.
    PastPivot,
    /// It has ended.
    Ended,
}

/// Writes one commit with everything it does to other instances; false if its fence did not hold.
///
/// Round trips: 1, and 1 each for effects that tx undos took back, a wait for children, births and letting go.
///
/// # Errors
/// The database's.
pub(crate) async fn write_own(tx: &mut PgConnection, commit: &Commit) -> Result<bool, sqlx::Error> {
    Ok(write_all(tx, std::slice::from_ref(commit)).await? == 1)
}

/// The same for many, of which the round trips beyond the first are each one's own; answers how many were written.
///
/// # Errors
/// The database's.
pub(crate) async fn write_all(
    tx: &mut PgConnection,
    commits: &[Commit],
) -> Result<usize, sqlx::Error> {
    let written = commit::write(tx, commits, Mode::Waiting).await?;
    for commit in commits.iter().filter(|c| written.contains(&(c.id, c.epoch))) {
        write_beside(tx, commit).await?;
    }
    Ok(written.len())
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
    start::insert(tx, &family.births, false).await?;
    if family.succeeded {
        succeed(tx, commit, &family.births[0].commit).await?;
    }
    if family.lets_go {
        let_go(tx, commit.shard, commit.id).await?;
    }
    Ok(())
}

/// These parents wait for their children.
pub(crate) async fn expect_children(
    tx: &mut PgConnection,
    parents: &[(i16, Uuid)],
) -> Result<(), sqlx::Error> {
    let (shards, ids): (Vec<i16>, Vec<Uuid>) = parents.iter().copied().unzip();
    sqlx::query(
        "-- name: wait for children
        insert into saga.join_wait (shard, saga_id) select * from unnest($1::smallint[], $2::uuid[]) on conflict do nothing",
    )
    .bind(shards)
    .bind(ids)
    .execute(tx)
    .await
    .map(|_| ())
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

/// What the successor has from its predecessor: its place in a family, its deadline, its signals of late.
async fn succeed(tx: &mut PgConnection, old: &Commit, new: &Commit) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: succeed
        with signal as (
            -- Those of late as well: a sender that repeats one is told so.
            update saga.signal set saga_id = $3
            where shard = $1 and saga_id = $2 and (answer = 'kept' or at > clock_timestamp() - interval '72 hours')
        ),
        awaited as (
            -- The end that somebody waits for is the successor's.
            update saga.end_wait set saga_id = $3 where shard = $1 and saga_id = $2
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

/// How the children of a step have ended; `None` while one is open. Round trips: 1.
///
/// # Errors
/// The database's.
pub(crate) async fn ends(
    pool: &PgPool,
    shard: i16,
    parent: Uuid,
    step_no: i32,
) -> Result<Option<Joined>, sqlx::Error> {
    let (open, completed, unwound, abandoned): (i64, i64, i64, i64) = sqlx::query_as(
        "-- name: children's ends
        select count(*) filter (where ended_at is null),
            count(*) filter (where ended_at is not null and (status = 'completed' or waiting_on = 'parent')),
            count(*) filter (where status = 'unwound'), count(*) filter (where status = 'abandoned')
        from saga.instance where shard = $1 and parent_id = $2 and parent_step = $3",
    )
    .bind(shard)
    .bind(parent)
    .bind(step_no)
    .fetch_one(pool)
    .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok((open == 0).then(|| Joined {
        completed: count(completed),
        unwound: count(unwound),
        abandoned: count(abandoned),
    }))
}

/// Two open children of one saga, subject and key are a bug in the parent, not a failure that passes.
pub(crate) fn twice(error: StepError) -> StepError {
    match error {
        StepError::Database(error) if start::is_already_open(&error) => {
            StepError::Broken("one of the instances that it starts is open already".to_owned())
        }
        other => other,
    }
}

/// So many children are called off by one transaction.
const BATCH: i64 = 500;

/// Calls off the children of a step that are not unwinding yet; those that do so already are left alone, so it may be repeated.
///
/// Round trips: 4 per 500 children. Row operations: 2 per child.
///
/// # Errors
/// The database's; a [`Cause`] when a child cannot be called off by this process.
pub(crate) async fn call_off_children(
    shift: &Shift,
    shard: i16,
    parent: Uuid,
    step_no: i32,
) -> Result<Result<(), Cause>, sqlx::Error> {
    loop {
        let mut tx = shift.pool.begin().await?;
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "-- name: lock children\nselect ",
            row_columns!(),
            " from saga.instance i where i.shard = $1 and i.parent_id = $2 and i.parent_step = $3
                and i.status in ('running', 'paused', 'stuck') and i.reason is null
            order by i.saga_id limit $4 for no key update"
        ))
        .bind(shard)
        .bind(parent)
        .bind(step_no)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let last = (rows.len() as i64) < BATCH;
        let mut commits = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.saga_id;
            match shift.engine.call_off(row, CalledOff::ByParent) {
                Ok((CallOff::Begun | CallOff::Ended, commit)) => commits.extend(commit),
                Ok((CallOff::PastPivot, _)) => {
                    return Ok(Err(Cause::new(format_args!("child {id} is past its pivot"))));
                }
                Err(why) => return Ok(Err(Cause::new(format_args!("child {id}: {why}")))),
            }
        }
        if !commits.is_empty() {
            commit::write(&mut tx, &commits, Mode::Waiting).await?;
        }
        tx.commit().await?;
        if last {
            shift.hint.notify_one();
            return Ok(Ok(()));
        }
    }
}

/// Wakes the parents whose last child has ended, up to 64; each at most once, whoever asks. Who is locked by somebody is left for the
/// next time.
/// Row operations: 2 per parent.
pub(crate) const WAKE_JOINED: &str = "-- name: wake joined parents
with joined as materialized (
    select p.shard, p.saga_id from saga.join_wait j
    join saga.instance p on p.shard = j.shard and p.saga_id = j.saga_id
    where p.waiting_on = 'children' and p.wake_at is null and not exists (
        select from saga.instance c where c.shard = j.shard and c.parent_id = j.saga_id and c.ended_at is null)
    limit 64
    for no key update of p skip locked
),
joins as (
    delete from saga.join_wait j using joined p where j.shard = p.shard and j.saga_id = p.saga_id
)
update saga.instance p set wake_at = saga.now()
from joined j where p.shard = j.shard and p.saga_id = j.saga_id";

/// Makes ended children final whose parents have let go, up to 500; answers how many. Theirs are let go with them.
pub(crate) const RELEASE_CHILDREN: &str = "-- name: release children
with parent as materialized (select shard, saga_id from saga.child_release limit 16 for update skip locked),
child as materialized (
    select c.shard, c.saga_id, c.parent_id from parent p
    join saga.instance c on c.shard = p.shard and c.parent_id = p.saga_id
    where c.waiting_on = 'parent'
    limit 500
    for no key update of c skip locked
),
released as (
    update saga.instance i set status = 'completed', waiting_on = null, undos = '[]', held = false, seq = i.seq + 1,
        updated_at = clock_timestamp()
    from child c where i.shard = c.shard and i.saga_id = c.saga_id
    returning i.shard, i.saga_id, i.seq, i.epoch
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, epoch)
    select shard, saga_id, seq, clock_timestamp(), 'released', epoch from released
),
grown as (
    insert into saga.child_release (shard, saga_id)
    select r.shard, r.saga_id from released r
    where exists (
        select from saga.instance g where g.shard = r.shard and g.parent_id = r.saga_id and g.waiting_on = 'parent')
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
select count(*) from released";
