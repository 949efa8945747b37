//! Making transitions durable: one statement for many instances, fenced by (epoch, seq).
//!
//! Row operations: 2 a member (update the instance, insert one journal row), 1 more for a declared effect and 1 more for
//! its new status. Round trips and commits: 1 per batch. A member that is not in the answer was not written at all: its row has another
//! epoch or seq, or somebody holds its lock. Its driver reads the row again.

use std::collections::HashSet;

use sqlx::{PgConnection, error::BoxDynError, postgres::types::PgRecordEncoder};
use uuid::Uuid;

use crate::{
    base::{
        build,
        json::{Json, JsonText},
        status::WaitingOn,
    },
    record::{
        commit::{Commit, Intent, JournalRow},
        progress::{assigned, columns},
        row::row_type,
    },
    store::{self, notice, watch},
};

/// The behaviour of the statement towards rows that somebody has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It leaves out an instance whose row is locked, so that no lock delays a batch.
    Skipping,
    /// It waits for the row (for a caller that holds the locks of its own transaction anyway).
    Waiting,
    /// Sabotage by a test: no fence.
    #[cfg(feature = "testing")]
    Unfenced,
}

/// The members that were written, as (id, epoch), since a batch may hold an instance's owner and the one it was taken from.
pub(crate) type WrittenMembers = HashSet<(Uuid, i32)>;

/// A member as the statement takes it: the row type `saga.transition`, with the first of its journal rows.
struct Member<'a>(&'a Commit);

row_type!(Member, "saga.transition");

impl Member<'_> {
    fn write(&self, row: &mut PgRecordEncoder<'_>) -> Result<(), BoxDynError> {
        let Self(commit) = self;
        row.encode(commit.shard)?
            .encode(commit.id)?
            .encode(commit.epoch)?
            .encode(commit.seq)?
            .encode(commit.new_seq)?
            .encode(commit.status.as_str())?
            .encode(commit.waiting_on.map(WaitingOn::as_str))?
            .encode(JsonText(&commit.state))?
            .encode(JsonText(&commit.pending))?
            .encode(JsonText(&commit.undos))?
            .encode(commit.reason.as_ref().map(JsonText))?;
        commit.progress.write(row)?;
        let (wake, delay_ms) = commit.wake.encode();
        row.encode(wake)?
            .encode(delay_ms)?
            .encode(commit.release)?
            .encode(commit.progress.ended)?
            .encode(commit.version)?
            .encode(commit.clears())?;
        let effect = commit.effect_change.as_ref();
        row.encode(effect.map(|effect| effect.step_no))?
            .encode(effect.map(|effect| effect.status.as_str()))?
            .encode(effect.and_then(|effect| effect.reference.as_deref()))?;
        write_intent(commit.intent.as_ref(), row)?;
        write_journal(commit.journal.first(), row)
    }
}

/// The part `intent_no, intent_kind, intent_amount, intent_currency` of a row type.
pub(crate) fn write_intent(
    intent: Option<&Intent>,
    row: &mut PgRecordEncoder<'_>,
) -> Result<(), BoxDynError> {
    let amount = intent.and_then(|intent| intent.amount.as_ref());
    row.encode(intent.map(|intent| intent.step_no))?
        .encode(intent.map(|intent| intent.kind))?
        .encode(amount.map(|amount| amount.value().to_string()))?
        .encode(amount.map(|amount| amount.currency().to_string()))?;
    Ok(())
}

/// The part `seq, kind, event, step_no, attempt, started_at, next, undo` of a row type; nulls for a commit without an entry.
fn write_journal(
    entry: Option<&JournalRow>,
    row: &mut PgRecordEncoder<'_>,
) -> Result<(), BoxDynError> {
    let json = |part: fn(&JournalRow) -> Option<&Json>| entry.and_then(part).map(JsonText);
    row.encode(entry.map(|entry| entry.seq))?
        .encode(entry.map(|entry| entry.kind.as_str()))?
        .encode(json(|entry| entry.event.as_ref()))?
        .encode(entry.and_then(|entry| entry.step_no))?
        .encode(entry.and_then(|entry| entry.attempt))?
        .encode(entry.and_then(|entry| entry.started_at))?
        .encode(json(|entry| entry.next.as_ref()))?
        .encode(json(|entry| entry.undo.as_ref()))?;
    Ok(())
}

/// A further journal row of a commit: the row type `saga.entry`.
pub(crate) struct JournalEntry<'a> {
    commit: &'a Commit,
    entry: &'a JournalRow,
}

row_type!(JournalEntry, "saga.entry");

impl JournalEntry<'_> {
    fn write(&self, row: &mut PgRecordEncoder<'_>) -> Result<(), BoxDynError> {
        row.encode(self.commit.shard)?.encode(self.commit.id)?.encode(self.commit.epoch)?;
        write_journal(Some(self.entry), row)
    }
}

/// The journal rows of these commits but the first `skipped` of each.
pub(crate) fn entries<'a>(
    commits: impl Iterator<Item = &'a Commit>,
    skipped: usize,
) -> Vec<JournalEntry<'a>> {
    let entries = |commit: &'a Commit| {
        commit.journal.iter().skip(skipped).map(move |entry| JournalEntry { commit, entry })
    };
    commits.flat_map(entries).collect()
}

/// Writes the members whose fence holds and whose row nobody else has locked; answers who they are.
///
/// Round trips: 1, and 1 more each when a member tells a person something, leaves an effect to be watched or refuses kept signals: the
/// caller then needs a transaction ([`is_one_statement`]).
///
/// Members are locked in id order inside the statement; the fence is tested in that same part, so a member is either written with
/// its journal and ledger or not at all.
///
/// # Errors
/// The statement failed as a whole: nothing was written, or (connection lost) nobody knows.
pub(crate) async fn write(
    tx: &mut PgConnection,
    batch: &[Commit],
    mode: Mode,
) -> Result<WrittenMembers, sqlx::Error> {
    let mut members = batch.iter().map(Member).collect::<Vec<_>>();
    members.sort_unstable_by_key(|Member(commit)| commit.id);
    let statement = match mode {
        Mode::Skipping => COMMIT_SKIPPING,
        Mode::Waiting => COMMIT_WAITING,
        #[cfg(feature = "testing")]
        Mode::Unfenced => COMMIT_UNFENCED,
    };
    let written = sqlx::query_as::<_, (Uuid, i32)>(statement)
        .bind(members)
        .bind(entries(batch.iter(), 1))
        .bind(build::made_at())
        .fetch_all(&mut *tx)
        .await?;
    let written = written.into_iter().collect();
    write_rare(tx, batch, &written).await?;
    Ok(written)
}

/// Writes the parts of members beside their rows, which are rare.
async fn write_rare(
    tx: &mut PgConnection,
    batch: &[Commit],
    written: &WrittenMembers,
) -> Result<(), sqlx::Error> {
    let those = |has: fn(&Commit) -> bool| {
        let members = batch.iter().filter(|c| has(c) && written.contains(&(c.id, c.epoch)));
        members.collect::<Vec<_>>()
    };
    let telling = those(|commit| commit.tell.is_some());
    if !telling.is_empty() {
        notice::insert(&mut *tx, &telling).await?;
    }
    let watching = those(|commit| commit.watch.is_some());
    if !watching.is_empty() {
        watch::insert(&mut *tx, &watching).await?;
    }
    let refusing = those(|commit| commit.refuses_kept);
    if !refusing.is_empty() {
        store::refuse_kept_signals(tx, &refusing).await?;
    }
    Ok(())
}

/// Is the batch written by one statement, which is a transaction by itself?
pub(crate) fn is_one_statement(batch: &[Commit]) -> bool {
    batch
        .iter()
        .all(|commit| commit.tell.is_none() && commit.watch.is_none() && !commit.refuses_kept)
}

macro_rules! commit_sql {
    ($name:literal, $fence:literal, $lock:literal) => {
        concat!(
            "-- name: ",
            $name,
            "
with clock as materialized (select now() + offset_by as now, clock_timestamp() as real from saga.clock),
fenced as materialized (
    -- The members come, and are locked, in the order of the array. A lock of the join itself would carry each whole member twice more.
    select m.*, i.queued from unnest($1::saga.transition[]) m cross join lateral (
        select i.queued from saga.instance i where i.shard = m.shard and i.saga_id = m.saga_id ",
            $fence,
            "
        for no key update ",
            $lock,
            ") i
),
written as (
    update saga.instance i set
        seq = f.new_seq, status = f.status, state = f.state, pending = f.pending, undos = f.undos,
        reason = f.reason, ",
            columns!(assigned),
            "
        waiting_on = case when q.queued and f.status = 'running' then 'worker' when f.wake = 0 then i.waiting_on
            else f.waiting_on end,
        owner = case when f.release then null else i.owner end,
        wake_at = case when q.queued then null when f.wake = 0 then i.wake_at when f.wake in (1, 5) then null
            when f.wake = 4 then i.timer_at else c.now + f.delay_ms * interval '1 ms' end,
        timer_at = case when f.wake in (0, 4, 5) then i.timer_at when f.wake = 3 then c.now + f.delay_ms * interval '1 ms' end,
        ended_at = case when f.ended then coalesce(i.ended_at, c.real) end, version = f.version,
        queued = q.queued, suspect = i.suspect and not f.clears, build = $3,
        deaths = case when f.clears then 0 else i.deaths end, updated_at = c.real,
        -- Since the first failed attempt at the step that it tries now: after a step is finished, it tries another.
        failing_since = case when f.attempt = 0 then null when i.attempt = 0 or f.clears then c.now
            else coalesce(i.failing_since, c.now) end,
        slow = i.slow and f.attempt > 0 and not f.clears
    from fenced f, clock c, lateral (
        -- Only its turn, or unwinding, takes it out of its queue.
        select f.queued and f.status in ('running', 'paused', 'stuck') as queued) q
    where i.shard = f.shard and i.saga_id = f.saga_id
    returning i.saga_id, f.epoch
),
effect_changed as (
    update saga.effect e set status = f.settle_status, settled_at = c.real,
        reference = case when f.settle_status = 'undone' then e.reference else coalesce(f.settle_reference, e.reference) end,
        undo_reference = case when f.settle_status = 'undone' then f.settle_reference else e.undo_reference end
    from fenced f, clock c
    where f.settle_no is not null and e.shard = f.shard and e.saga_id = f.saga_id and e.step_no = f.settle_no
),
intended as (
    insert into saga.effect (shard, saga_id, step_no, kind, amount, currency, status, at)
    select f.shard, f.saga_id, f.intent_no, f.intent_kind, f.intent_amount::numeric, f.intent_currency, 'intent', c.real
    from fenced f, clock c where f.intent_no is not null
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, event, step_no, attempt, started_at, next, undo, epoch)
    select f.shard, f.saga_id, f.j_seq, c.real, f.j_kind, f.j_event, f.j_step_no, f.j_attempt, f.j_started_at,
        f.j_next, f.j_undo, f.epoch
    from fenced f, clock c where f.j_seq is not null
    union all
    select f.shard, f.saga_id, j.seq, c.real, j.kind, j.event, j.step_no, j.attempt, j.started_at, j.next,
        j.undo, f.epoch
    from clock c, unnest($2::saga.entry[]) j join fenced f on f.saga_id = j.saga_id and f.epoch = j.epoch
)
select saga_id, epoch from written"
        )
    };
}

macro_rules! fenced_sql {
    ($name:literal, $lock:literal) => {
        commit_sql!($name, "and i.epoch = m.epoch and i.seq = m.seq", $lock)
    };
}

const COMMIT_SKIPPING: &str = fenced_sql!("commit transitions", "skip locked");

const COMMIT_WAITING: &str = fenced_sql!("commit own transition", "");

#[cfg(feature = "testing")]
const COMMIT_UNFENCED: &str = commit_sql!("commit without a fence", "", "skip locked");
