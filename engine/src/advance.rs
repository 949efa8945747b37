//! The one loop body: what a worker does with an instance that it holds.
//!
//! Do the one thing it waits for, apply the fact, commit behind the fence; again, until it parks, ends or belongs to somebody else. A
//! commit that misses (a signal came, another epoch, a lost connection) is never repeated blindly: the row is read again and the
//! fact applied to what it says now.

use std::{sync::Arc, time::Duration};

use crate::{
    apply::Applied,
    chain,
    commit::{self, Mode},
    hooks::Site,
    instance::{Instance, Pending},
    lane::{Written, is_transient},
    perform::{Fact, Task, perform},
    saga::Saga,
    status::Status,
    steps::{StepError, Steps},
    store,
    terms::Retry,
    worker::Shift,
};

/// How a commit went.
enum Committed<S: Saga> {
    /// Durable; go on with it.
    Yes(Box<Instance<S>>),
    /// Not written; this is the row as it is now.
    Missed(Box<Instance<S>>),
    /// It is no longer ours.
    Lost,
}

/// Drives one instance as far as it can go.
///
/// A step costs 1 shared round trip and 1 shared commit ([`crate::lane`]); a chain of tx steps a transaction of its own:
/// begin, the steps' statements, 1 for all bookkeeping, commit.
pub(crate) async fn drive<S: Saga, I: Steps<S>>(
    shift: Arc<Shift>,
    steps: Arc<I>,
    mut instance: Box<Instance<S>>,
) {
    shift.hooks.at(Site::Claimed).await;
    loop {
        let task = instance.task();
        let committed = match task {
            Task::Park if instance.offer_early() => {
                in_transaction(&shift, &*steps, instance, None).await
            }
            Task::Park => return park(&shift, instance).await,
            _ if shift.is_stopping() => return release(&shift, instance).await,
            _ if !shift.holds_lease() => return,
            Task::Run | Task::UndoRun => in_transaction(&shift, &*steps, instance, None).await,
            activity => {
                let effect = match &activity {
                    Task::UndoCall { no, .. } => {
                        match store::effect(&shift.pool, instance.shard, instance.id, *no).await {
                            Ok(effect) => effect,
                            // The database is away: the lease or the sweep brings it back.
                            Err(_) => return,
                        }
                    }
                    _ => None,
                };
                shift.hooks.at(Site::BeforeCall).await;
                let fact = perform(&*steps, instance.id, activity, effect).await;
                shift.hooks.at(Site::AfterCall).await;
                settle(&shift, &*steps, instance, &fact).await
            }
        };
        match committed {
            Committed::Yes(next) | Committed::Missed(next) => instance = next,
            Committed::Lost => return,
        }
        if instance.status.is_final() {
            return;
        }
    }
}

/// Applies the fact and commits, on ever newer versions of the row, until it is durable or moot.
async fn settle<S: Saga, I: Steps<S>>(
    shift: &Shift,
    steps: &I,
    mut instance: Box<Instance<S>>,
    fact: &Fact<S::Event>,
) -> Committed<S> {
    loop {
        match instance.apply(fact) {
            Applied::Moot | Applied::GoOn => return Committed::Yes(instance),
            Applied::Commit => {}
        }
        let runs = matches!(instance.task(), Task::Run | Task::UndoRun);
        let committed = if runs || !instance.taken.is_empty() {
            in_transaction(shift, steps, instance, Some(fact)).await
        } else {
            in_lane(shift, instance).await
        };
        match committed {
            Committed::Missed(fresh) => instance = fresh,
            other => return other,
        }
    }
}

async fn in_lane<S: Saga>(shift: &Shift, mut instance: Box<Instance<S>>) -> Committed<S> {
    let commit = instance.commit();
    let (wake, parks) = (commit.wake.clone(), commit.release);
    shift.hooks.at(Site::BeforeCommit).await;
    let written = shift.lane(instance.shard).commit(commit).await;
    shift.hooks.at(Site::AfterCommit).await;
    match written {
        Written::Yes => {
            instance.committed();
            shift.committed(instance.id, instance.status, &wake);
            if parks { Committed::Lost } else { Committed::Yes(instance) }
        }
        Written::Missed => reread(shift, &instance).await,
        Written::Refused(why) => {
            tracing::error!(saga_id = %instance.id, %why, "the database refuses a transition; the instance is stuck");
            match reread::<S>(shift, &instance).await {
                Committed::Missed(mut fresh) if fresh.committed_seq == instance.committed_seq => {
                    fresh.stick(format_args!("its transition cannot be stored: {why}"));
                    Box::pin(in_lane(shift, fresh)).await
                }
                other => other,
            }
        }
    }
}

/// Round trips: begin, the steps', 1 for the row, journal and ledger (2 with early signals), commit. Locks of the domain come
/// before the instance's row.
async fn in_transaction<S: Saga, I: Steps<S>>(
    shift: &Shift,
    steps: &I,
    mut instance: Box<Instance<S>>,
    fact: Option<&Fact<S::Event>>,
) -> Committed<S> {
    let done = async {
        let mut tx = shift.pool.begin().await?;
        match instance.task() {
            Task::Run => chain::run(steps, &mut tx, &mut instance).await?,
            Task::UndoRun => chain::undo(steps, &mut tx, &mut instance).await?,
            _ => {}
        }
        if !instance.taken.is_empty() {
            store::take_signals(
                &mut tx,
                instance.shard,
                instance.id,
                &std::mem::take(&mut instance.taken),
            )
            .await?;
        }
        let commit = instance.commit();
        let written = commit::write(&mut tx, std::slice::from_ref(&commit), Mode::Waiting).await?;
        if written.is_empty() {
            tx.rollback().await?;
            return Ok(None);
        }
        shift.hooks.at(Site::BeforeCommit).await;
        tx.commit().await?;
        shift.hooks.at(Site::AfterCommit).await;
        Ok(Some(commit))
    };
    match done.await {
        Ok(Some(commit)) => {
            instance.committed();
            shift.committed(instance.id, instance.status, &commit.wake);
            if commit.release { Committed::Lost } else { Committed::Yes(instance) }
        }
        Ok(None) => reread(shift, &instance).await,
        Err(error) => chain_failed(shift, &instance, fact, error).await,
    }
}

/// Nothing of the transaction remains. The outcome that led to the chain is committed alone (its effect is a fact), the chain is tried
/// again by the default policy; what must never be is `stuck`.
async fn chain_failed<S: Saga>(
    shift: &Shift,
    instance: &Instance<S>,
    fact: Option<&Fact<S::Event>>,
    error: StepError,
) -> Committed<S> {
    tracing::warn!(saga_id = %instance.id, saga = S::NAME, %error, "a chain of tx steps failed");
    let mut fresh = match reread(shift, instance).await {
        Committed::Missed(fresh) => fresh,
        other => return other,
    };
    if fresh.committed_seq != instance.committed_seq && fact.is_none() {
        // It was written after all, or a signal came: see what the row waits for now.
        return Committed::Missed(fresh);
    }
    // Early signals come later, with a chain that works.
    fresh.early.clear();
    if fact.is_some_and(|fact| fresh.apply(fact) == Applied::Moot) {
        return Committed::Yes(fresh);
    }
    match &error {
        StepError::Broken(why) => fresh.stick(why),
        StepError::Database(sqlx::Error::Database(database))
            if is_transient(database.as_ref()) && fresh.attempt < 3 =>
        {
            fresh.chain_failed(&error, Duration::from_millis(5 << fresh.attempt));
        }
        StepError::Database(_) => {
            fresh.chain_failed(&error, Retry::default().delay(fresh.attempt + 1))
        }
    }
    in_lane(shift, fresh).await
}

/// Reads the row until the database answers, and takes the early signals in.
async fn reread<S: Saga>(shift: &Shift, instance: &Instance<S>) -> Committed<S> {
    let mut wait = Duration::from_millis(2);
    loop {
        match store::instance(&shift.pool, instance.shard, instance.id).await {
            Ok(Some(row)) if row.epoch != instance.epoch || row.owner != Some(shift.worker_id) => {
                if !row.status.is_final() {
                    tracing::info!(saga_id = %instance.id, epoch = instance.epoch, now = row.epoch, "fenced: no longer ours");
                }
                return Committed::Lost;
            }
            Ok(Some(row)) => {
                let unchanged = row.seq == instance.committed_seq;
                match shift.load::<S>(row).await {
                    Ok(fresh) => {
                        if unchanged {
                            // Somebody holds its row lock: leave it a moment.
                            tokio::time::sleep(wait).await;
                        }
                        return Committed::Missed(fresh);
                    }
                    Err(error) => {
                        tracing::warn!(saga_id = %instance.id, %error, "an instance cannot be read again")
                    }
                }
            }
            Ok(None) => return Committed::Lost,
            Err(_) if shift.is_stopping() => return Committed::Lost,
            Err(error) => tracing::warn!(saga_id = %instance.id, %error, "the database is away"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

/// A row that was claimed although there is nothing to do: give it back as it should stand.
async fn park<S: Saga>(shift: &Shift, mut instance: Box<Instance<S>>) {
    if matches!(instance.pending, Pending::Timer { .. }) {
        // Its time has not come (the clock was moved back).
        instance.release();
    }
    if instance.status == Status::Unwinding {
        instance.end_if_nothing_is_open();
    }
    release_row(shift, instance).await;
}

async fn release<S: Saga>(shift: &Shift, mut instance: Box<Instance<S>>) {
    instance.release();
    release_row(shift, instance).await;
}

async fn release_row<S: Saga>(shift: &Shift, mut instance: Box<Instance<S>>) {
    instance.note(crate::instance::Entry::new("released", &()));
    let commit = instance.commit();
    let wake = commit.wake.clone();
    if shift.lane(instance.shard).commit(commit).await == Written::Yes {
        shift.committed(instance.id, instance.status, &wake);
    }
}
