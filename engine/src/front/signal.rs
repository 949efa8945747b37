//! Signals: events from outside, transitions in the caller's own transaction.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    base::{
        id::{shard_in, shard_of},
        json::json,
        limits,
        status::Status,
    },
    instance::{
        Instance,
        family::CallOff,
        signal::{Answer, SignalError, offer},
        upcast,
    },
    record::{commit::Wake, row::Row},
    saga::{CalledOff, Saga},
    store::{
        self,
        family::write_own,
        wake::{notify, wake_workers},
    },
    worker::engine::Engine,
};

impl Engine {
    /// Gives an instance a signal, once per `signal_id`.
    ///
    /// Lock the rows of the domain first: this locks the instance's row, the last in the lock order, until the caller's
    /// transaction ends. While an attempt is in flight a signal may only stay or unwind; anything else is kept or refused.
    /// An instance that this process cannot read, above all one that a newer version of the saga has advanced, keeps the signal, unread, for a
    /// process that can.
    /// Round trips: 3, and 2 where signals are kept. Row operations: 3 (instance, journal, signal).
    ///
    /// # Errors
    /// [`SignalError`].
    pub async fn signal<S: Saga>(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        signal_id: &str,
        signal: S::Signal,
    ) -> Result<Answer, SignalError> {
        give::<S>(tx, id, signal_id, signal).await
    }

    /// Gives the signal to every open instance of the saga about that subject, in the order of their ids; each takes it once per
    /// `signal_id`. A child lives on its parent's shard and is signalled by its id.
    ///
    /// Round trips: 1, and those of [`Engine::signal`] for each.
    ///
    /// # Errors
    /// [`SignalError`]; the caller rolls back.
    pub async fn signal_all<S: Saga>(
        &self,
        tx: &mut PgConnection,
        subject: &str,
        signal_id: &str,
        signal: S::Signal,
    ) -> Result<Vec<(Uuid, Answer)>, SignalError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "-- name: open about subject
            select saga_id from saga.instance
            where shard = $1 and subject = $2 and name = $3 and ended_at is null order by saga_id",
        )
        .bind(shard_of(subject))
        .bind(subject)
        .bind(S::NAME)
        .fetch_all(&mut *tx)
        .await?;
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push((id, give::<S>(tx, id, signal_id, signal.clone()).await?));
        }
        Ok(answers)
    }

    /// The state and the status of an instance, also of one that has ended; `None` if there is no such instance of that saga. Round trips: 1.
    ///
    /// # Errors
    /// [`SignalError::Unreadable`] when its stored data does not fit, the database's.
    pub async fn state<S: Saga>(
        &self,
        id: Uuid,
    ) -> Result<Option<(Status, S::State)>, SignalError> {
        let row = store::instance(self.pool(), shard_in(id), id).await?;
        let Some(row) = row.filter(|row| row.saga.name == S::NAME) else { return Ok(None) };
        let instance = read::<S>(row)?;
        Ok(Some((instance.status, instance.state)))
    }

    /// Unwinds an instance of any saga of this engine, unless it is past its pivot: [`CallOff`] tells.
    ///
    /// Lock the rows of the domain first, as for [`Engine::signal`]. An attempt in flight is settled before the first undo.
    /// Round trips: 2. Row operations: 2 (instance, journal).
    ///
    /// # Errors
    /// [`SignalError`].
    pub async fn cancel(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        why: &str,
    ) -> Result<CallOff, SignalError> {
        limits::check_reason(why)?;
        let row =
            store::lock_instance(tx, shard_in(id), id).await?.ok_or(SignalError::NotFound(id))?;
        let (called_off, commit) = self
            .call_off(row, CalledOff::Cancelled(why.to_owned()))
            .map_err(|error| SignalError::Unreadable { id, why: error.to_string() })?;
        if let Some(commit) = commit {
            write_own(tx, &commit).await?;
            wake_workers(tx, std::slice::from_ref(&commit)).await?;
        }
        Ok(called_off)
    }
}

/// [`Engine::signal`].
pub(crate) async fn give<S: Saga>(
    tx: &mut PgConnection,
    id: Uuid,
    signal_id: &str,
    signal: S::Signal,
) -> Result<Answer, SignalError> {
    let row = store::lock_instance(tx, shard_in(id), id)
        .await?
        .filter(|row| row.saga.name == S::NAME)
        .ok_or(SignalError::NotFound(id))?;
    limits::check_name("signal id", signal_id)?;
    let json = json(&signal);
    let text = json.text()?;
    limits::check_event(text.len())?;
    let owned = row.owner.is_some();
    let unread = Unread::of(&row);
    let Ok(mut instance) = Instance::<S>::from_row(row).map(Box::new) else {
        return keep_unread::<S>(tx, &unread, signal_id, text).await;
    };
    let answer = offer(&mut instance, owned, &signal)?;
    if !remember::<S>(tx, id, signal_id, text, answer).await? {
        return Ok(Answer::Duplicate);
    }
    if answer == Answer::Kept {
        limits::check_kept(instance.progress.kept)?;
        instance.progress.kept += 1;
    }
    if answer == Answer::Applied && instance.progress.kept > 0 {
        // The new state may be the one that a kept signal came for.
        let kept = store::kept_signals(&mut *tx, instance.shard, id).await?;
        let kept = kept.into_iter().map(|(id, signal, version)| {
            upcast::signal::<S>(version, &signal).map(|signal| (id, signal))
        });
        // One that cannot be read here is left, with the others, to a worker.
        if let Ok(kept) = kept.collect() {
            instance.kept = kept;
            instance.take_kept();
        }
    }
    let goes_on = !instance.parks() && *instance.wake() != Wake::Keep;
    if answer == Answer::Applied && goes_on && !owned {
        instance.make_due();
    }
    let commit =
        if answer == Answer::Applied { instance.commit() } else { instance.commit_untouched() };
    commit.check_signalled(answer == Answer::Applied)?;
    let written = write_own(tx, &commit).await?;
    debug_assert!(written, "the row is locked");
    wake_workers(tx, std::slice::from_ref(&commit)).await?;
    Ok(answer)
}

/// The columns of a row that are needed to keep a signal without reading the rest.
struct Unread {
    shard: i16,
    saga_id: Uuid,
    status: Status,
    ended: bool,
    kept: i16,
}

impl Unread {
    fn of(row: &Row) -> Self {
        let Row { shard, saga_id, status, .. } = *row;
        let (ended, kept) = (row.progress.ended, row.progress.kept);
        Self { shard, saga_id, status, ended, kept }
    }
}

/// This process cannot read the row: the signal is kept for one that can, unless the row takes none at all.
async fn keep_unread<S: Saga>(
    tx: &mut PgConnection,
    row: &Unread,
    signal_id: &str,
    event: &str,
) -> Result<Answer, SignalError> {
    let answer = match row.status {
        Status::Running if !row.ended => Answer::Kept,
        Status::Paused | Status::Stuck => Answer::Kept,
        _ => Answer::Refused,
    };
    if !remember::<S>(tx, row.saga_id, signal_id, event, answer).await? {
        return Ok(Answer::Duplicate);
    }
    if answer == Answer::Kept {
        limits::check_kept(row.kept)?;
    }
    store::note_signal(tx, row.shard, row.saga_id, event, answer == Answer::Kept).await?;
    notify(tx, "").await?;
    Ok(answer)
}

/// False if a signal of that id was answered before.
async fn remember<S: Saga>(
    tx: &mut PgConnection,
    id: Uuid,
    signal_id: &str,
    event: &str,
    answer: Answer,
) -> Result<bool, sqlx::Error> {
    let to = (shard_in(id), id);
    store::insert_signal(tx, to, signal_id, event, answer_text(answer), S::VERSION).await
}

fn read<S: Saga>(row: Row) -> Result<Box<Instance<S>>, SignalError> {
    let id = row.saga_id;
    Instance::from_row(row)
        .map(Box::new)
        .map_err(|misfit| SignalError::Unreadable { id, why: misfit.to_string() })
}

fn answer_text(answer: Answer) -> &'static str {
    match answer {
        Answer::Applied => "applied",
        Answer::Kept => "kept",
        Answer::Refused | Answer::Duplicate => "refused",
    }
}
