//! Waiting for the end of another instance: the waiter gets a signal when the awaited instance has ended, however it ends.
//!
//! The wait is a row of `saga.end_wait`, written in the waiter's own transaction. Workers look at the awaited instance's row, so no code
//! that ends an instance (a step, an undo, a deadline, a person's verb) has to think of those who wait for it, and none can forget them.
//! The signal is given once ([`Engine::signal`]); the waiter then looks for itself how the other one has ended.

use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    base::{
        id::shard_in,
        json::{JsonText, json},
        limits::{self, Refused},
    },
    instance::signal::SignalError,
    record::kinds::SagaVersion,
    saga::Saga,
    store,
    worker::{engine::Engine, state::Worker},
};

impl Engine {
    /// Signals `waiter`, an instance of `S`, once the instance `awaited` has ended (`completed`, `unwound` or `abandoned`); at once if it has ended
    /// already or does not exist. The wait is written with the caller's commit. A waiter that has ended by then is left alone.
    ///
    /// The signal comes within a second of the end, usually within milliseconds. Round trips: 1. Row operations: 1, and 1 to take it away.
    ///
    /// # Errors
    /// The database's; [`sqlx::Error::Encode`] for a signal or an id that cannot be stored.
    pub async fn signal_at_end<S: Saga>(
        &self,
        tx: &mut PgConnection,
        awaited: Uuid,
        waiter: Uuid,
        signal_id: &str,
        signal: &S::Signal,
    ) -> Result<(), sqlx::Error> {
        limits::check_name("signal id", signal_id)?;
        let signal = json(signal);
        limits::check_event(signal.text().map_err(Refused::from)?.len()).map_err(Refused::from)?;
        sqlx::query(
            "-- name: wait for an end
            insert into saga.end_wait (shard, saga_id, waiter_id, signal_id, saga, version, event)
            values ($1, $2, $3, $4, $5, $6, $7::jsonb) on conflict do nothing",
        )
        .bind(shard_in(awaited))
        .bind(awaited)
        .bind(waiter)
        .bind(signal_id)
        .bind(S::NAME)
        .bind(S::VERSION.cast_signed())
        .bind(JsonText(&signal))
        .execute(tx)
        .await
        .map(|_| ())
    }
}

/// Is it time to signal the waiter of a row `w` of `saga.end_wait`, for sagas `$1`?
macro_rules! is_due {
    () => {
        "w.saga = any($1::text[]) and (w.next_at is null or w.next_at <= clock_timestamp())
            and not exists (select from saga.instance i where i.shard = w.shard and i.saga_id = w.saga_id
                and i.status not in ('completed', 'unwound', 'abandoned'))"
    };
}

pub(crate) use is_due;

const DUE: &str = concat!(
    "-- name: awaited ends
select w.shard, w.saga_id, w.waiter_id, w.signal_id, w.saga as name, w.version, w.next_at is not null as failed_before
from saga.end_wait w where ",
    is_due!(),
    " limit 256"
);

const TAKE: &str = "-- name: take end wait
with taken as (
    select from saga.end_wait where shard = $1 and saga_id = $2 and waiter_id = $3 and signal_id = $4 for update skip locked
)
delete from saga.end_wait w using taken
where w.shard = $1 and w.saga_id = $2 and w.waiter_id = $3 and w.signal_id = $4
returning w.event::text";

/// A wait that is over, by its key.
#[derive(FromRow)]
struct Due {
    shard: i16,
    saga_id: Uuid,
    waiter_id: Uuid,
    signal_id: String,
    /// The waiter's saga, at the version that stored the signal.
    #[sqlx(flatten)]
    saga: SagaVersion,
    failed_before: bool,
}

/// Signals the waiters whose awaited instance has ended, each in a transaction of its own. A waiter that cannot be signalled now is tried again every
/// ten seconds, and delays no other. If its signal can never be given by this process, as when it does not fit any more, operators are told.
///
/// Round trips: 1, and 9 for each waiter.
///
/// # Errors
/// The connection's.
pub(crate) async fn tell(
    worker: &Worker,
    connection: &mut PgConnection,
    names: &[&str],
) -> Result<(), sqlx::Error> {
    let due: Vec<Due> = sqlx::query_as(DUE).bind(names).fetch_all(&mut *connection).await?;
    for one in due {
        tell_one(worker, connection, &one).await?;
    }
    Ok(())
}

async fn tell_one(
    worker: &Worker,
    connection: &mut PgConnection,
    due: &Due,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    match due.signal(worker, &mut tx).await {
        Ok(()) | Err(SignalError::NotFound(_)) => tx.commit().await,
        Err(error) => {
            tx.rollback().await?;
            if !due.failed_before {
                tracing::warn!(saga_id = %due.waiter_id, awaited = %due.saga_id, %error,
                    "an instance cannot be signalled that another one has ended; it is tried again every 10 s");
            }
            // A signal of a newer version is for a worker of that version.
            let kind = worker.engine.kind(&due.saga.name);
            let is_known = kind.is_some_and(|kind| kind.version() >= due.saga.version);
            if is_known && !error.is_worth_retrying() {
                due.notify(connection, &error).await?;
            }
            due.put_off(connection).await
        }
    }
}

impl Due {
    /// Takes the wait and gives its signal, in the caller's transaction. The waiter's row is locked first, as by a waiter that begins anew: that one
    /// moves its waits to its successor. The wait of a waiter that has ended is only taken.
    async fn signal(&self, worker: &Worker, tx: &mut PgConnection) -> Result<(), SignalError> {
        let waiter =
            store::lock_instance(&mut *tx, shard_in(self.waiter_id), self.waiter_id).await?;
        let event: Option<String> = sqlx::query_scalar(TAKE)
            .bind(self.shard)
            .bind(self.saga_id)
            .bind(self.waiter_id)
            .bind(&self.signal_id)
            .fetch_optional(&mut *tx)
            .await?;
        let is_open = waiter.is_some_and(|row| !row.status.is_final());
        let Some(event) = event.filter(|_| is_open) else { return Ok(()) };
        let Some(kind) = worker.engine.kind(&self.saga.name) else {
            let (id, why) = (self.waiter_id, format!("{} is not known here", self.saga.name));
            return Err(SignalError::Unreadable { id, why });
        };
        let stored = (self.saga.version, event.as_str());
        kind.signal(tx, self.waiter_id, &self.signal_id, stored).await.map(|_| ())
    }

    /// Leaves one notice about the waiter, as long as it stays where it is.
    async fn notify(
        &self,
        connection: &mut PgConnection,
        error: &SignalError,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "-- name: notice about an end wait
            insert into saga.notice (shard, saga_id, seq, kind, detail, at)
            select i.shard, i.saga_id, i.seq, 'failing', jsonb_build_object('saga', i.name, 'why', $3::text), clock_timestamp()
            from saga.instance i where i.shard = $1 and i.saga_id = $2
            on conflict do nothing
            returning pg_notify('saga_notice', '')",
        )
        .bind(shard_in(self.waiter_id))
        .bind(self.waiter_id)
        .bind(format!("it cannot be signalled that {} has ended: {error}", self.saga_id))
        .execute(connection)
        .await
        .map(|_| ())
    }

    async fn put_off(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "-- name: put end wait off
            with put_off as (
                -- One that is locked is another worker's.
                select from saga.end_wait where shard = $1 and saga_id = $2 and waiter_id = $3 and signal_id = $4
                for update skip locked
            )
            update saga.end_wait w set next_at = clock_timestamp() + interval '10 s' from put_off
            where w.shard = $1 and w.saga_id = $2 and w.waiter_id = $3 and w.signal_id = $4",
        )
        .bind(self.shard)
        .bind(self.saga_id)
        .bind(self.waiter_id)
        .bind(&self.signal_id)
        .execute(connection)
        .await
        .map(|_| ())
    }
}
