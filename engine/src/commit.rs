//! Making transitions durable: one statement for many instances, fenced by (epoch, seq).
//!
//! Row operations: 2 a member (update the instance, insert one journal row), 1 more for a declared effect and 1 more for
//! settling it. Round trips and commits: 1 per batch. Who is not in the answer was not written at all: its row has another epoch
//! or seq, or somebody holds its lock; the driver re-reads it.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    birth::Birth,
    notice::{self, Tell},
    status::{Status, WaitingOn},
    watch::{self, NewWatch},
};

/// When an instance is to be woken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wake {
    /// As it was: owner, timer and wake-up stay untouched.
    Keep,
    /// By nobody: it is being driven, waits for a signal or an operator, or has ended.
    Never,
    /// At once, by whoever has room.
    Now,
    /// For the next attempt.
    Retry(Duration),
    /// To ask whether a late effect came.
    Settle(Duration),
    /// When its timer fires.
    Timer { delay: Duration, asleep: bool },
    /// When the timer fires that is armed already.
    Armed,
    /// By nobody; a timer that is armed stays so.
    Hold,
}

impl Wake {
    /// After how long it is due, if it is.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Keep | Self::Never | Self::Armed | Self::Hold => None,
            Self::Now => Some(Duration::ZERO),
            Self::Retry(delay) | Self::Settle(delay) | Self::Timer { delay, .. } => Some(*delay),
        }
    }

    /// (mode for the statement, delay in milliseconds).
    pub(crate) fn encode(&self) -> (i16, i64) {
        let ms = |delay: &Duration| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
        match self {
            Self::Keep => (0, 0),
            Self::Never => (1, 0),
            Self::Now => (2, 0),
            Self::Retry(delay) => (2, ms(delay)),
            Self::Settle(delay) | Self::Timer { delay, .. } => (3, ms(delay)),
            Self::Armed => (4, 0),
            Self::Hold => (5, 0),
        }
    }
}

/// One row for `saga.journal`.
#[derive(Debug, Clone)]
pub(crate) struct JournalRow {
    pub(crate) seq: i32,
    pub(crate) kind: &'static str,
    pub(crate) event: Option<String>,
    pub(crate) step_no: Option<i32>,
    pub(crate) attempt: Option<i16>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) next: Option<String>,
    pub(crate) undo: Option<String>,
}

/// A new ledger row.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) step_no: i32,
    pub(crate) kind: &'static str,
    pub(crate) amount: Option<(String, String)>,
}

/// What became of a ledger row.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) step_no: i32,
    pub(crate) status: &'static str,
    /// The provider's: of the effect, or of its taking back.
    pub(crate) reference: Option<String>,
}

/// The new row of one instance, with everything that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    pub(crate) epoch: i32,
    /// The seq that the row must still have.
    pub(crate) seq: i32,
    pub(crate) new_seq: i32,
    pub(crate) status: Status,
    pub(crate) waiting_on: Option<WaitingOn>,
    pub(crate) state: String,
    pub(crate) pending: String,
    pub(crate) undos: String,
    pub(crate) reason: Option<String>,
    pub(crate) past_pivot: bool,
    pub(crate) attempt: i16,
    pub(crate) unknowns: i16,
    pub(crate) unsettled: bool,
    pub(crate) kept: i16,
    pub(crate) last_error: Option<String>,
    pub(crate) wake: Wake,
    /// The owner lets go of it.
    pub(crate) release: bool,
    /// It has ended, or waits at its end for its parent.
    pub(crate) ended: bool,
    /// The version of its saga whose data this is.
    pub(crate) version: i16,
    /// Never empty; more than one only for a chain of tx steps, which commits alone.
    pub(crate) journal: Vec<JournalRow>,
    pub(crate) settle: Option<Settle>,
    /// Steps whose effects were taken back by tx undos; written by [`crate::family::write_own`].
    pub(crate) undone: Vec<i32>,
    pub(crate) intent: Option<Intent>,
    /// A person should see it.
    pub(crate) tell: Option<Tell>,
    /// An effect that was given up, but may still come.
    pub(crate) watch: Option<NewWatch>,
    /// Such a commit is written by [`crate::family::write_own`], in a transaction of its own or the caller's.
    pub(crate) family: Option<Box<Family>>,
}

impl Commit {
    /// Does it show that driving the instance does not end the process? A step or undo was settled; a mere attempt was not.
    fn clears(&self) -> bool {
        let settled = ["outcome", "tx", "timer", "undo", "settled", "children"];
        self.journal.iter().any(|row| settled.contains(&row.kind))
    }
}

/// What a commit does to other instances than its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    /// Its children, or the instance that goes on in its place.
    pub(crate) births: Vec<Birth>,
    /// Its place is taken by the one birth.
    pub(crate) succeeded: bool,
    /// It waits for its children.
    pub(crate) joins: bool,
    /// It will not take its children back any more.
    pub(crate) lets_go: bool,
}

impl Family {
    pub(crate) fn is_needed(&self) -> bool {
        !self.births.is_empty() || self.joins || self.lets_go
    }
}

macro_rules! column {
    ($batch:expr, $field:ident) => {
        $batch.iter().map(|c| c.$field).collect::<Vec<_>>()
    };
    ($batch:expr, $c:ident => $value:expr) => {
        $batch.iter().map(|$c| $value).collect::<Vec<_>>()
    };
}

/// What the statement does about its members' rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It leaves out whose row is locked: nobody holds up a batch.
    Skipping,
    /// It waits for the row (for a caller that holds the locks of its own transaction anyway).
    Waiting,
    /// Sabotage: no fence ([`crate::worker::WorkerConfig::hooks`]).
    Unfenced,
}

/// Who was written: (id, epoch), since a batch may hold an instance's owner and the one it was taken from.
pub(crate) type WrittenMembers = HashSet<(Uuid, i32)>;

/// Writes the members whose fence holds and whose row nobody else has locked; answers who they are.
///
/// Round trips: 1, and 1 more each when a member tells a person something or leaves an effect to be watched: the caller then needs a transaction ([`is_one_statement`]).
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
    let (modes, delays): (Vec<_>, Vec<_>) = batch.iter().map(|c| c.wake.encode()).unzip();
    let first = batch.iter().map(|c| &c.journal[0]).collect::<Vec<_>>();
    let rest = beyond_the_first(batch);
    let statement = match mode {
        Mode::Skipping => COMMIT_SKIPPING,
        Mode::Waiting => COMMIT_WAITING,
        Mode::Unfenced => COMMIT_UNFENCED,
    };
    let written = sqlx::query_as::<_, (Uuid, i32)>(statement)
        .bind(column!(batch, shard))
        .bind(column!(batch, id))
        .bind(column!(batch, epoch))
        .bind(column!(batch, seq))
        .bind(column!(batch, new_seq))
        .bind(column!(batch, c => c.status.as_str()))
        .bind(column!(batch, c => c.waiting_on.map(WaitingOn::as_str)))
        .bind(column!(batch, c => c.state.as_str()))
        .bind(column!(batch, c => c.pending.as_str()))
        .bind(column!(batch, c => c.undos.as_str()))
        .bind(column!(batch, c => c.reason.as_deref()))
        .bind(column!(batch, past_pivot))
        .bind(column!(batch, attempt))
        .bind(column!(batch, unknowns))
        .bind(column!(batch, unsettled))
        .bind(column!(batch, kept))
        .bind(column!(batch, c => c.last_error.as_deref()))
        .bind(modes)
        .bind(delays)
        .bind(column!(batch, release))
        .bind(column!(batch, c => c.settle.as_ref().map(|s| s.step_no)))
        .bind(column!(batch, c => c.settle.as_ref().map(|s| s.status)))
        .bind(column!(batch, c => c.settle.as_ref().and_then(|s| s.reference.as_deref())))
        .bind(column!(batch, c => c.intent.as_ref().map(|i| i.step_no)))
        .bind(column!(batch, c => c.intent.as_ref().map(|i| i.kind)))
        .bind(column!(batch, c => c.intent.as_ref().and_then(|i| Some(i.amount.as_ref()?.0.as_str()))))
        .bind(column!(batch, c => c.intent.as_ref().and_then(|i| Some(i.amount.as_ref()?.1.as_str()))))
        .bind(first.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.kind).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.event.as_deref()).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.step_no).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.attempt).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.started_at).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.next.as_deref()).collect::<Vec<_>>())
        .bind(first.iter().map(|row| row.undo.as_deref()).collect::<Vec<_>>())
        .bind(rest.iter().map(|(c, _)| c.id).collect::<Vec<_>>())
        .bind(rest.iter().map(|(c, _)| c.epoch).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.seq).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.kind).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.event.as_deref()).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.step_no).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.attempt).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.started_at).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.next.as_deref()).collect::<Vec<_>>())
        .bind(rest.iter().map(|(_, row)| row.undo.as_deref()).collect::<Vec<_>>())
        .bind(column!(batch, ended))
        .bind(column!(batch, version))
        .bind(column!(batch, c => c.clears()))
        .fetch_all(&mut *tx)
        .await?;
    let written = written.into_iter().collect();
    tell_and_watch(tx, batch, &written).await?;
    Ok(written)
}

/// The journal rows that only a commit of its own may have: those behind its first.
fn beyond_the_first(batch: &[Commit]) -> Vec<(&Commit, &JournalRow)> {
    batch.iter().flat_map(|c| c.journal[1..].iter().map(move |row| (c, row))).collect()
}

/// What members have beside their rows, which is rare.
async fn tell_and_watch(
    tx: &mut PgConnection,
    batch: &[Commit],
    written: &WrittenMembers,
) -> Result<(), sqlx::Error> {
    let telling = batch
        .iter()
        .filter(|c| c.tell.is_some() && written.contains(&(c.id, c.epoch)))
        .collect::<Vec<_>>();
    if !telling.is_empty() {
        notice::insert(&mut *tx, &telling).await?;
    }
    let watching = batch
        .iter()
        .filter(|c| c.watch.is_some() && written.contains(&(c.id, c.epoch)))
        .collect::<Vec<_>>();
    if !watching.is_empty() {
        watch::insert(tx, &watching).await?;
    }
    Ok(())
}

/// Is the batch written by one statement, which is a transaction by itself?
pub(crate) fn is_one_statement(batch: &[Commit]) -> bool {
    batch.iter().all(|commit| commit.tell.is_none() && commit.watch.is_none())
}

macro_rules! commit_sql {
    ($name:literal, $fence:literal, $lock:literal) => {
        concat!(
            "-- name: ",
            $name,
            "
with clock as materialized (select saga.now() as now, clock_timestamp() as real),
member as (
    select * from unnest($1::smallint[], $2::uuid[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::boolean[], $13::smallint[], $14::smallint[], $15::boolean[],
        $16::smallint[], $17::text[], $18::smallint[], $19::bigint[], $20::boolean[], $21::integer[], $22::text[], $23::text[],
        $24::integer[], $25::text[], $26::text[], $27::text[], $28::integer[], $29::text[], $30::text[], $31::integer[],
        $32::smallint[], $33::timestamptz[], $34::text[], $35::text[], $46::boolean[], $47::smallint[], $48::boolean[])
        as m(shard, saga_id, epoch, seq, new_seq, status, waiting_on, state, pending, undos, reason, past_pivot, attempt,
            unknowns, unsettled, kept, last_error, wake, delay_ms, release, settle_no, settle_status, settle_reference,
            intent_no, intent_kind, intent_amount, intent_currency,
            j_seq, j_kind, j_event, j_step_no, j_attempt, j_started_at, j_next, j_undo,
            ended, version, clears)
),
fenced as materialized (
    select m.*, i.queued from member m
    join saga.instance i on i.shard = m.shard and i.saga_id = m.saga_id ",
            $fence,
            "
    order by m.saga_id
    for no key update of i ",
            $lock,
            "
),
written as (
    update saga.instance i set
        seq = f.new_seq, status = f.status, state = f.state::jsonb, pending = f.pending::jsonb, undos = f.undos::jsonb,
        reason = f.reason::jsonb, past_pivot = f.past_pivot, attempt = f.attempt, unknowns = f.unknowns,
        unsettled = f.unsettled, kept = f.kept, last_error = f.last_error,
        waiting_on = case when q.queued and f.status = 'running' then 'worker' when f.wake = 0 then i.waiting_on
            else f.waiting_on end,
        owner = case when f.release then null else i.owner end,
        wake_at = case when q.queued then null when f.wake = 0 then i.wake_at when f.wake in (1, 5) then null
            when f.wake = 4 then i.timer_at else c.now + f.delay_ms * interval '1 ms' end,
        timer_at = case when f.wake in (0, 4, 5) then i.timer_at when f.wake = 3 then c.now + f.delay_ms * interval '1 ms' end,
        ended_at = case when f.ended then coalesce(i.ended_at, c.real) end, version = f.version,
        queued = q.queued, suspect = i.suspect and not f.clears,
        deaths = case when f.clears then 0 else i.deaths end, updated_at = c.real
    from fenced f, clock c, lateral (
        -- Only its turn, or unwinding, takes it out of its queue.
        select f.queued and f.status in ('running', 'paused', 'stuck') as queued) q
    where i.shard = f.shard and i.saga_id = f.saga_id
    returning i.saga_id, f.epoch
),
settled as (
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
    select f.shard, f.saga_id, f.j_seq, c.real, f.j_kind, f.j_event::jsonb, f.j_step_no, f.j_attempt, f.j_started_at,
        f.j_next::jsonb, f.j_undo::jsonb, f.epoch
    from fenced f, clock c
    union all
    select f.shard, f.saga_id, j.seq, c.real, j.kind, j.event::jsonb, j.step_no, j.attempt, j.started_at, j.next::jsonb,
        j.undo::jsonb, f.epoch
    from clock c, unnest($36::uuid[], $37::integer[], $38::integer[], $39::text[], $40::text[], $41::integer[],
        $42::smallint[], $43::timestamptz[], $44::text[], $45::text[])
        as j(saga_id, epoch, seq, kind, event, step_no, attempt, started_at, next, undo)
    join fenced f on f.saga_id = j.saga_id and f.epoch = j.epoch
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
const COMMIT_UNFENCED: &str = commit_sql!("commit without a fence", "", "skip locked");
