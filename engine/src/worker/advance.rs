//! The one loop body: how a worker drives an instance that it owns.
//!
//! The worker does the one thing that the instance waits for, applies the fact, and commits behind the fence. It does so again until the instance
//! parks, ends or belongs to another worker. A commit that misses (a signal came, the row was locked, the connection was lost) is never repeated
//! blindly: the row is read again, and the fact is applied to the row as it is now. [`Committed`] says how a commit can turn out.

use std::{sync::Arc, time::Duration};

use chrono::Utc;

use crate::{
    base::limits::Pace,
    database::{all_in_time, in_time},
    instance::{
        Instance,
        apply::Applied,
        task::{Fact, Task, What},
    },
    saga::Saga,
    store,
    worker::{
        durable::{Committed, in_batch, in_transaction, park_idle, release},
        family,
        hooks::Site,
        perform::{Performer, perform},
        state::Worker,
        together::together,
    },
};

/// Drives one instance as far as it can go.
///
/// A call costs 1 round trip and 1 commit, both shared with other instances ([`crate::worker::batcher`]). A chain of tx steps costs a transaction of its
/// own: begin, the steps' statements, 1 for all bookkeeping (2 with kept signals), commit. Steps that are done together share it ([`together`]).
pub(crate) async fn drive<S: Saga, P: Performer<S>>(
    worker: Arc<Worker>,
    steps: Arc<P>,
    mut instance: Box<Instance<S>>,
) {
    worker.hooks.at(Site::Claimed).await;
    let mut pace = Pace::at(instance.seq);
    let begun = instance.committed_seq;
    loop {
        let task = instance.task();
        let committed = match task {
            // Takes kept signals that nobody has offered yet, as those kept by a process that could not read the row.
            _ if instance.offer_kept() => in_transaction(&worker, &*steps, instance, None).await,
            Task::Park => return park_idle(&worker, instance).await,
            _ if worker.is_stopping()
                || worker.is_paused(S::NAME)
                || (worker.one_step && instance.committed_seq != begun) =>
            {
                return release(&worker, instance).await;
            }
            _ if !worker.holds_lease() => return,
            Task::Run | Task::UndoRun => together(&worker, &steps, instance, None).await,
            task => match act(&worker, &*steps, &instance, task).await {
                Ok(fact) => make_durable(&worker, &steps, instance, &fact).await,
                // The instance stays owned. The sweep of this worker, or of another one once the lease has run out, continues it.
                Err(error) => {
                    return tracing::warn!(saga_id = %instance.id, %error, "the database is away; the sweep continues the instance");
                }
            },
        };
        match committed {
            Committed::GoOn(next) | Committed::Missed(next) => instance = next,
            Committed::Finished => return,
        }
        if instance.status.is_final() {
            return;
        }
        if let Err(limit) = pace.check(instance.seq) {
            instance.stick(limit);
            in_batch(&worker, instance, None).await;
            return;
        }
    }
}

/// Does what the instance waits for, outside any transaction of the instance's commits.
async fn act<S: Saga, P: Performer<S>>(
    worker: &Worker,
    steps: &P,
    instance: &Instance<S>,
    task: Task<S>,
) -> Result<Fact<S::Event>, sqlx::Error> {
    let (shard, id) = (instance.shard, instance.id);
    let started_at = Utc::now();
    let (no, what) = match task {
        Task::Join { no } => match in_time(family::ends(&worker.pool, shard, id, no)).await? {
            Some(ends) => (no, What::Joined(ends)),
            None => (no, What::NotJoined),
        },
        Task::CallOff { no } => {
            match all_in_time(family::call_off_children(worker, shard, id, no)).await? {
                Ok(()) => (no, What::ChildrenCalledOff),
                Err(cause) => (no, What::NotUndone(cause)),
            }
        }
        call => {
            let reference = match &call {
                Task::UndoCall { open, .. } => {
                    in_time(store::reference(&worker.pool, shard, id, open.no)).await?
                }
                _ => None,
            };
            worker.hooks.at(Site::BeforeCall).await;
            let fact = perform(steps, id, call, reference).await;
            worker.hooks.at(Site::AfterCall).await;
            return Ok(Fact { failing: failing_for(worker, instance), ..fact });
        }
    };
    Ok(Fact { no, started_at, what, failing: failing_for(worker, instance) })
}

/// How long the instance's step or undo has been failing. A test may make its time pass at once.
fn failing_for<S: Saga>(worker: &Worker, instance: &Instance<S>) -> Duration {
    let gives_up = worker.hooks.gives_up(instance.progress.attempt);
    if gives_up { Duration::MAX } else { instance.failing_for() }
}

/// Applies the fact and commits it. If the commit misses, the same fact is applied to the row as it is then, until the fact is durable or the
/// instance does not wait for it any more.
async fn make_durable<S: Saga, P: Performer<S>>(
    worker: &Arc<Worker>,
    steps: &Arc<P>,
    mut instance: Box<Instance<S>>,
    fact: &Fact<S::Event>,
) -> Committed<S> {
    loop {
        match instance.apply(fact) {
            Applied::Moot | Applied::GoOn => return Committed::GoOn(instance),
            Applied::Commit => {}
        }
        let runs = matches!(instance.task(), Task::Run | Task::UndoRun);
        let alone = runs || instance.family.is_needed() || !instance.taken.is_empty();
        let committed = if alone {
            together(worker, steps, instance, Some(fact)).await
        } else {
            in_batch(worker, instance, Some(fact)).await
        };
        match committed {
            Committed::Missed(fresh) => instance = fresh,
            other => return other,
        }
    }
}
