//! Watched effects: a provider may act after we have given up on it.
//!
//! A fence in Postgres does not fence the provider: a worker frozen before it sent may act after its successor has asked, heard "never seen" and
//! unwound. Where the terms of an activity say so ([`crate::Terms::watch`]), the commit that gives its effect up leaves a row in `saga.watch`.
//! Workers probe such effects, ever more rarely, until the watch ends: not before the instance has, and where it has unwound not before its
//! provider has answered a last time. A live one is a fact: in one transaction the ledger says confirmed and the instance goes back from
//! `unwound` to `unwinding`, with that one undo open.

use std::sync::Arc;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    commit::Commit,
    database::{all_in_time, in_time},
    family::write_own,
    instance::{Entry, Instance, Pending},
    json::{Json, JsonText, Unstorable, json},
    saga::{Done, Saga},
    start::Unreadable,
    status::Status,
    store,
    table::{StepTable, WayBack},
    unwind::{How, OpenUndo, Taken},
    worker::Shift,
};

/// An effect that somebody is to look at again.
#[derive(Debug, Clone)]
pub(crate) struct NewWatch {
    step_no: i32,
    /// The step that made it, and that is taken back.
    step: Json,
    lasts_ms: i64,
}

impl NewWatch {
    /// # Errors
    /// Why it cannot be stored.
    pub(crate) fn check_storable(&self) -> Result<(), Unstorable> {
        self.step.text().map(|_| ())
    }
}

/// A watch whose time to look has come.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Watched {
    pub(crate) shard: i16,
    pub(crate) saga_id: Uuid,
    pub(crate) step_no: i32,
    /// Of the saga that stored the step.
    pub(crate) version: i16,
    pub(crate) activity: String,
    pub(crate) undo: String,
    name: String,
    /// The watch has lasted long enough, and its instance has ended: this look is the last, if it tells.
    over: bool,
    /// The instance has unwound and its ledger says that there is nothing.
    look: bool,
    /// How often somebody has looked, this time included.
    attempt: i16,
}

/// What a provider shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is nothing, or nobody who could be asked.
    Nothing,
    /// An effect, with its reference, if it has one.
    Effect(Option<String>),
    /// It did not say.
    Unknown,
}

impl<S: Saga> Instance<S> {
    /// The pending activity is given up after a try: if its provider may still act under our key, somebody is to look.
    pub(crate) fn watch_call(&mut self) {
        if let Pending::Call { no, step } = &self.pending
            && (self.attempt > 0 || self.unsettled)
            && let Some(lasts) = step.terms().watch
            && matches!(step.way_back(), WayBack::InTx(_) | WayBack::ByCall(_))
        {
            self.watch = Some(NewWatch {
                step_no: *no,
                step: json(step),
                lasts_ms: i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX / 2),
            });
        }
    }

    /// What was believed not to exist does: it is taken back.
    pub(crate) fn reopen(&mut self, no: i32, done: Done<S::Step>, reference: Option<String>) {
        let mut entry = Entry::new("late effect", &reference);
        entry.step_no = Some(no);
        self.settle(no, "confirmed", reference);
        (self.status, self.ended) = (Status::Unwinding, false);
        self.note(entry);
        // A key of its own: under the one of an undo that found nothing a provider would say so again.
        let (undo, anew) = (OpenUndo::new(no, Taken::Done(done)), Some(self.seq));
        self.undos.push(OpenUndo { effect: undo.how() == How::InTx, anew, ..undo });
        self.release();
    }
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

/// Whoever looks has 30 s before another may; then twice as long each time, up to an hour. The provider is asked
/// only about what has unwound; a watch waits for that, however long it takes.
const DUE: &str = "-- name: look at watched effects
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

/// Claims the watches that are due; they are looked at beside the claimer. Round trips: 1.
///
/// # Errors
/// The database's.
pub(crate) async fn look(
    shift: &Arc<Shift>,
    connection: &mut PgConnection,
    names: &[&str],
    versions: &[i16],
) -> Result<(), sqlx::Error> {
    let due: Vec<Watched> =
        sqlx::query_as(DUE).bind(names).bind(versions).fetch_all(connection).await?;
    for watched in due {
        let shift = shift.clone();
        shift.clone().beside(async move {
            if let Err(error) = settle(&shift, &watched).await {
                // Once for each watch; it is looked at again, ever more rarely.
                if let Watched { saga_id, step_no, attempt: 1, .. } = watched {
                    tracing::warn!(%saga_id, step_no, %error, "a watched effect could not be looked at; later again");
                }
            }
        });
    }
    Ok(())
}

async fn settle(shift: &Shift, watched: &Watched) -> Result<(), Unreadable> {
    let Some(kind) = shift.engine.kind(&watched.name) else { return Ok(()) };
    let found = if watched.look { kind.find(watched).await? } else { Found::Nothing };
    if let Found::Effect(reference) = found {
        let reopening = async {
            let mut tx = shift.pool.begin().await?;
            let row = store::lock_instance(&mut tx, watched.shard, watched.saga_id).await?;
            let Some(row) = row.filter(|row| row.status == Status::Unwound) else { return Ok(()) };
            make_room(&mut tx, watched).await?;
            let commit = kind.reopen(row, watched, reference)?;
            write_own(&mut tx, &commit).await?;
            tx.commit().await?;
            tracing::warn!(saga_id = %watched.saga_id, step_no = watched.step_no, "a late effect was found; it is taken back");
            shift.hint.notify_one();
            Ok(())
        };
        return all_in_time(reopening).await;
    }
    if watched.over && found == Found::Nothing {
        let ending = sqlx::query(
            "-- name: end watch
            delete from saga.watch where shard = $1 and saga_id = $2 and step_no = $3",
        )
        .bind(watched.shard)
        .bind(watched.saga_id)
        .bind(watched.step_no)
        .execute(&shift.pool);
        in_time(ending).await?;
    }
    Ok(())
}

/// Another instance may be open about the subject by now: this one gets a start key of its own.
async fn make_room(tx: &mut PgConnection, watched: &Watched) -> Result<(), sqlx::Error> {
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
