//! Commits an instance, in a batch with other instances or in a transaction of its own, and decides what to do if the commit was not written.

use std::time::Duration;

use crate::{
    base::{json::json, limits, status::Status},
    database::{self, Failure, all_in_time, in_time},
    instance::{
        Instance, Pending,
        apply::Applied,
        task::{Fact, Task, What},
        upcast::Unreadable,
    },
    record::{
        commit::{Commit, Wake},
        row::Row,
        words::JournalKind,
    },
    saga::{Saga, steps::StepError, terms::Retry},
    store::{self, family::write_own},
    worker::{
        back_off, batcher::Written, chain, family, hand_over::HandOver, hooks::Site,
        load::give_up_unreadable, perform::Performer, state::Worker, step_tx::StepsTx,
    },
};

/// The result of a commit.
pub(crate) enum Committed<S: Saga> {
    /// The commit is durable, or there was nothing to write. The driver goes on with the instance.
    GoOn(Box<Instance<S>>),
    /// The commit was not written, or nobody knows whether it was. This is the row as it is now; the driver applies its fact to it. The causes: a
    /// signal or a verb has changed the row (another seq), the own commit was written but its answer was lost, another session has locked the
    /// row, or the database failed in a way that passes.
    Missed(Box<Instance<S>>),
    /// The driver is done with the instance. Most often the commit has parked or ended it. Otherwise the instance is stuck, belongs to another worker, or this
    /// worker stops.
    Finished,
}

/// Commits the instance in one batch with others that wait for the same batcher. `fact` led to the commit. Round trips: 1, shared; commits: 1, shared.
pub(crate) async fn in_batch<S: Saga>(
    worker: &Worker,
    mut instance: Box<Instance<S>>,
    fact: Option<&Fact<S::Event>>,
) -> Committed<S> {
    let commit = instance.commit();
    if let Err(why) = commit.check() {
        return refused(worker, &instance, fact, &why).await;
    }
    let (wake, parks) = (commit.wake.clone(), commit.release);
    worker.hooks.at(Site::BeforeCommit).await;
    let written = worker.batcher(instance.shard).commit(commit).await;
    worker.hooks.at(Site::AfterCommit).await;
    match written {
        Written::Yes => {
            committed(worker, &mut instance, &wake);
            if parks { Committed::Finished } else { Committed::GoOn(instance) }
        }
        Written::Missed(now) => reread(worker, &instance, now).await,
        Written::Refused(why) => refused(worker, &instance, fact, &why).await,
    }
}

/// The transition can never be stored, so the instance gets stuck. The fact that led to it is still true: it is written to the journal and the
/// ledger, and kept, so that the saga can be asked again after a repair. If even that is refused, the row only says that the instance is stuck.
async fn refused<S: Saga>(
    worker: &Worker,
    instance: &Instance<S>,
    fact: Option<&Fact<S::Event>>,
    why: &impl std::fmt::Display,
) -> Committed<S> {
    tracing::error!(saga_id = %instance.id, %why, "a transition cannot be stored; the instance is stuck");
    let mut fresh = match reread::<S>(worker, instance, None).await {
        Committed::Missed(fresh) if fresh.committed_seq == instance.committed_seq => fresh,
        other => return other,
    };
    let why = format!("its transition cannot be stored: {why}");
    fresh.unstorable = Some(why.clone());
    let happened = |fact: &&Fact<_>| match &fact.what {
        What::Answered { event, .. } | What::Fired(event) => limits::may_keep(&json(event)),
        What::Joined(_) => true,
        _ => false,
    };
    if let Some(fact) = fact.filter(happened) {
        fresh.kept.clear();
        fresh.apply(fact);
    } else {
        fresh.progress.unsettled |= matches!(fresh.pending, Pending::Call { .. });
    }
    if fresh.status != Status::Stuck {
        fresh.stick(&why);
    }
    let written = if fresh.family.is_needed() {
        // It has passed its pivot, so its children are let go all the same.
        match all_in_time(alone(worker, &mut fresh)).await {
            Ok(true) => return Committed::Finished,
            Ok(false) => Written::Missed(None),
            Err(error) => Written::Refused(error.to_string()),
        }
    } else {
        let commit = fresh.commit();
        worker.batcher(fresh.shard).commit(commit).await
    };
    match written {
        Written::Yes => committed(worker, &mut fresh, &Wake::KeepTimer),
        Written::Missed(now) => return reread(worker, instance, now).await,
        Written::Refused(again) => {
            tracing::error!(saga_id = %instance.id, why = again, "the fact that led to a refused transition cannot be stored either");
            let (id, seq) = (instance.id, Some(instance.committed_seq));
            let fence = worker.fence(id, instance.epoch, seq);
            match in_time(store::stick(&worker.pool, &fence, &why)).await {
                Ok(()) => worker.engine.wake_waiters(id),
                Err(error) => {
                    tracing::error!(saga_id = %id, %error, "an instance could not be marked stuck")
                }
            }
        }
    }
    Committed::Finished
}

/// Runs the pending chain of tx steps or tx undos, if there is one, and commits the instance in the same transaction. The domain's locks come before
/// the lock of the instance's row. Round trips: begin, the steps', 1 for the row, journal and ledger (2 with kept signals), commit.
pub(crate) async fn in_transaction<S: Saga, P: Performer<S>>(
    worker: &Worker,
    steps: &P,
    mut instance: Box<Instance<S>>,
    fact: Option<&Fact<S::Event>>,
) -> Committed<S> {
    let done = async {
        let mut tx = database::begin(&worker.pool).await?;
        let mut started = HandOver::default();
        let mut steps_tx =
            StepsTx { connection: &mut tx, started: &mut started, engine: &worker.engine };
        match instance.task() {
            Task::Run => chain::run(steps, &mut steps_tx, &mut instance).await?,
            Task::UndoRun => chain::undo(steps, &mut steps_tx, &mut instance).await?,
            _ => {}
        }
        let commit = instance.commit();
        commit.check().map_err(|refused| StepError::Broken(refused.to_string()))?;
        if !write_own(&mut tx, &commit).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        worker.hooks.before_commit(&mut tx).await?;
        tx.commit().await?;
        started.drive();
        worker.hooks.at(Site::AfterCommit).await;
        Ok(Some(commit))
    };
    match all_in_time(done).await.map_err(family::twice) {
        Ok(Some(commit)) => goes_on(worker, instance, &commit),
        Ok(None) => reread(worker, &instance, None).await,
        Err(error) => own_failed(worker, &instance, fact, error).await,
    }
}

/// The commit is durable: tells everybody in this process who waits for it.
fn committed<S: Saga>(worker: &Worker, instance: &mut Instance<S>, wake: &Wake) {
    instance.committed();
    worker.committed(instance.id, instance.status, wake);
    if !instance.progress.ended {
        return;
    }
    if instance.progress.parent.is_some() {
        worker.child_ended();
    }
    if instance.progress.in_queue {
        worker.left_queue();
    }
}

/// The same for a commit in a transaction of its own, whose new children and successor are due at once.
fn committed_alone<S: Saga>(worker: &Worker, instance: &mut Instance<S>, commit: &Commit) {
    committed(worker, instance, &commit.wake);
    if commit.starts_instances() {
        worker.hint.notify_one();
    }
}

/// The same, and how the driver continues.
pub(super) fn goes_on<S: Saga>(
    worker: &Worker,
    mut instance: Box<Instance<S>>,
    commit: &Commit,
) -> Committed<S> {
    committed_alone(worker, &mut instance, commit);
    if commit.release { Committed::Finished } else { Committed::GoOn(instance) }
}

/// The transaction was rolled back. The outcome that led to a chain is still true, so it is committed alone, and the chain is tried again by the
/// default policy, for a time that depends on its error ([`Instance::chain_failed`]). A chain that can never succeed makes the instance stuck.
/// Without a chain the whole commit is tried again.
pub(super) async fn own_failed<S: Saga>(
    worker: &Worker,
    instance: &Instance<S>,
    fact: Option<&Fact<S::Event>>,
    error: StepError,
) -> Committed<S> {
    let is_told = matches!(&error, StepError::Database(away) if database::note(away));
    // Later tries are in the row (`attempt`, `last_error`).
    if !is_told && (fact.is_some() || instance.progress.attempt == 0) {
        tracing::warn!(saga_id = %instance.id, saga = S::NAME, %error, "a transaction failed");
    }
    let mut fresh = match reread(worker, instance, None).await {
        Committed::Missed(fresh) => fresh,
        other => return other,
    };
    if fresh.committed_seq != instance.committed_seq && fact.is_none() {
        // The commit was written after all, or a signal came: continue with the row as it is now.
        return Committed::Missed(fresh);
    }
    // Kept signals are taken later, by a transaction that succeeds.
    fresh.kept.clear();
    if fact.is_some_and(|fact| fresh.apply(fact) == Applied::Moot) {
        return Committed::GoOn(fresh);
    }
    if !matches!(fresh.task(), Task::Run | Task::UndoRun) {
        return again(worker, instance, fact, error).await;
    }
    match &error {
        StepError::Broken(why) if matches!(fresh.task(), Task::UndoRun) => {
            fresh.note_failed_try(why);
            fresh.chain_undo_failed(instance, why.clone());
        }
        StepError::Broken(why) => fresh.stick(why),
        StepError::Database(sqlx::Error::Database(_))
            if error.is_worth_retrying() && fresh.progress.attempt < 3 =>
        {
            fresh.chain_failed(
                instance,
                &error,
                Duration::from_millis(5 << fresh.progress.attempt),
            );
        }
        StepError::Database(_) => {
            let delay = Retry::default().delay(fresh.progress.attempt + 1);
            fresh.chain_failed(instance, &error, delay);
        }
    }
    if !fresh.family.is_needed() {
        return in_batch(worker, fresh, fact).await;
    }
    let parks = fresh.parks();
    match all_in_time(alone(worker, &mut fresh)).await {
        Ok(true) if parks => Committed::Finished,
        Ok(true) => Committed::GoOn(fresh),
        Ok(false) => reread(worker, instance, None).await,
        Err(error) => again(worker, instance, fact, error).await,
    }
}

/// A commit failed that does more than change its row (it starts children, takes kept signals or lets children go). The row is as it was. If the
/// database may accept the commit later, or has another schema than this process expects, it is tried again for as long as this worker runs. If
/// the database refuses the data, the instance gets stuck.
async fn again<S: Saga>(
    worker: &Worker,
    instance: &Instance<S>,
    fact: Option<&Fact<S::Event>>,
    error: StepError,
) -> Committed<S> {
    let for_good = match &error {
        StepError::Broken(_) => true,
        StepError::Database(error) => Failure::of(error) == Failure::Refused,
    };
    if for_good {
        return refused(worker, instance, fact, &error).await;
    }
    if worker.is_stopping() {
        return Committed::Finished;
    }
    reread(worker, instance, None).await
}

/// Commits the instance and what the commit does to others, in a transaction of its own. Returns false if the fence did not hold.
async fn alone<S: Saga>(worker: &Worker, instance: &mut Instance<S>) -> Result<bool, StepError> {
    let commit = instance.commit();
    let mut tx = database::begin(&worker.pool).await?;
    if !write_own(&mut tx, &commit).await? {
        return Ok(false);
    }
    worker.hooks.before_commit(&mut tx).await?;
    tx.commit().await?;
    committed_alone(worker, instance, &commit);
    Ok(true)
}

/// Reads the row again, with its kept signals, until the database answers. `now` is the row if a batcher has read it already.
///
/// If nothing has changed since the commit that missed, another session has locked the row, or the database refused for a reason that passes. The
/// driver then waits before it tries again, longer each time ([`back_off::back_off_together`]); no other driver waits with it.
pub(super) async fn reread<S: Saga>(
    worker: &Worker,
    instance: &Instance<S>,
    mut now: Option<Box<Row>>,
) -> Committed<S> {
    let mut away = 0;
    loop {
        let row = match now.take() {
            Some(row) => Ok(Some(*row)),
            None => in_time(store::instance(&worker.pool, instance.shard, instance.id)).await,
        };
        match row {
            Ok(Some(row))
                if row.epoch != instance.epoch || row.owner != Some(worker.lease.worker_id) =>
            {
                // One of our own epoch was ended by a signal, which is nothing to tell.
                if row.epoch != instance.epoch || !row.status.is_final() {
                    tracing::info!(saga_id = %instance.id, epoch = instance.epoch, now = row.epoch, "fenced: another worker owns this instance now");
                }
                return Committed::Finished;
            }
            Ok(Some(row)) => {
                worker.reading.end();
                let unchanged = row.seq == instance.committed_seq;
                let fence = worker.fence(row.saga_id, row.epoch, Some(row.seq));
                match worker.load::<S>(row).await {
                    Ok(mut fresh) => {
                        if unchanged {
                            fresh.missed = instance.missed + 1;
                            back_off::back_off_together(instance.missed).await;
                        }
                        return Committed::Missed(fresh);
                    }
                    Err(Unreadable::Database(error)) => worker.reading.begin_with(&error),
                    Err(misfit) => {
                        give_up_unreadable(worker, &fence, &misfit).await;
                        return Committed::Finished;
                    }
                }
            }
            Ok(None) => return Committed::Finished,
            Err(_) if worker.is_stopping() => return Committed::Finished,
            Err(error) => worker.reading.begin_with(&error),
        }
        tokio::time::sleep(back_off::back_off(away)).await;
        away += 1;
    }
}

/// Parks an instance that was claimed although it has nothing to do. (Parking after work is part of the commit of that work.)
pub(crate) async fn park_idle<S: Saga>(worker: &Worker, mut instance: Box<Instance<S>>) {
    if matches!(instance.pending, Pending::Timer { .. }) {
        // Its timer is not due yet (the clock was moved back).
        instance.make_due();
    }
    if instance.status == Status::Unwinding {
        instance.end_if_nothing_is_open();
    }
    // If this commit misses, the sweep finds the instance.
    release_row(worker, &mut instance).await;
}

/// Releases the instance, which is due at once for any worker. If a signal changes the row meanwhile, that newer row is released.
pub(crate) async fn release<S: Saga>(worker: &Worker, mut instance: Box<Instance<S>>) {
    loop {
        instance.make_due();
        let Written::Missed(now) = release_row(worker, &mut instance).await else { return };
        match reread(worker, &instance, now).await {
            Committed::Missed(fresh) => instance = fresh,
            Committed::GoOn(_) | Committed::Finished => return,
        }
    }
}

async fn release_row<S: Saga>(worker: &Worker, instance: &mut Instance<S>) -> Written {
    instance.note(crate::instance::Entry::new(JournalKind::Released, &()));
    let commit = instance.commit();
    let wake = commit.wake.clone();
    let written = worker.batcher(instance.shard).commit(commit).await;
    if matches!(written, Written::Yes) {
        worker.committed(instance.id, instance.status, &wake);
    }
    written
}
