//! The one loop body: what a worker does with an instance that it holds.
//!
//! Do the one thing it waits for, apply the fact, commit behind the fence; again, until it parks, ends or belongs to somebody else. A
//! commit that misses (a signal came, another epoch, a lost connection) is never repeated blindly: the row is read again and the
//! fact applied to what it says now.

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
        durable::{Committed, give_back_idle, in_lane, in_transaction, release},
        family,
        hooks::Site,
        perform::{Performer, perform},
        shift::Shift,
    },
};

/// Drives one instance as far as it can go.
///
/// A step costs 1 shared round trip and 1 shared commit ([`crate::worker::lane`]); a chain of tx steps a transaction of its own:
/// begin, the steps' statements, 1 for all bookkeeping, commit.
pub(crate) async fn drive<S: Saga, P: Performer<S>>(
    shift: Arc<Shift>,
    steps: Arc<P>,
    mut instance: Box<Instance<S>>,
) {
    shift.hooks.at(Site::Claimed).await;
    let mut pace = Pace::at(instance.seq);
    let begun = instance.committed_seq;
    loop {
        let task = instance.task();
        let committed = match task {
            // Kept before anybody could offer them, as by a process that did not know the saga's version.
            _ if instance.offer_early() => in_transaction(&shift, &*steps, instance, None).await,
            Task::Park => return give_back_idle(&shift, instance).await,
            _ if shift.is_stopping()
                || shift.is_paused(S::NAME)
                || (shift.one_step && instance.committed_seq != begun) =>
            {
                return release(&shift, instance).await;
            }
            _ if !shift.holds_lease() => return,
            Task::Run | Task::UndoRun => in_transaction(&shift, &*steps, instance, None).await,
            task => match act(&shift, &*steps, &instance, task).await {
                Ok(fact) => settle(&shift, &*steps, instance, &fact).await,
                // The database is away: the lease or the sweep brings it back.
                Err(error) => {
                    return tracing::warn!(saga_id = %instance.id, %error, "the database is away; the sweep continues the instance");
                }
            },
        };
        match committed {
            Committed::Yes(next) | Committed::Missed(next) => instance = next,
            Committed::Lost => return,
        }
        if instance.status.is_final() {
            return;
        }
        if let Err(limit) = pace.check(instance.seq) {
            instance.stick(limit);
            in_lane(&shift, instance, None).await;
            return;
        }
    }
}

/// Does what it waits for, outside any transaction of its own.
async fn act<S: Saga, P: Performer<S>>(
    shift: &Shift,
    steps: &P,
    instance: &Instance<S>,
    task: Task<S>,
) -> Result<Fact<S::Event>, sqlx::Error> {
    let (shard, id) = (instance.shard, instance.id);
    let started_at = Utc::now();
    let (no, what) = match task {
        Task::Join { no } => match in_time(family::ends(&shift.pool, shard, id, no)).await? {
            Some(ends) => (no, What::Joined(ends)),
            None => (no, What::NotJoined),
        },
        Task::CallOff { no } => {
            match all_in_time(family::call_off_children(shift, shard, id, no)).await? {
                Ok(()) => (no, What::ChildrenCalledOff),
                Err(cause) => (no, What::NotUndone(cause)),
            }
        }
        call => {
            let reference = match &call {
                Task::UndoCall { open, .. } => {
                    in_time(store::reference(&shift.pool, shard, id, open.no)).await?
                }
                _ => None,
            };
            shift.hooks.at(Site::BeforeCall).await;
            let mut fact = perform(steps, id, call, reference).await;
            shift.hooks.at(Site::AfterCall).await;
            let gives_up = shift.hooks.gives_up(instance.progress.attempt);
            fact.failing = if gives_up { Duration::MAX } else { instance.failing_for() };
            return Ok(fact);
        }
    };
    Ok(Fact { no, started_at, what, failing: Duration::ZERO })
}

/// Applies the fact and commits, on ever newer versions of the row, until it is durable or moot.
async fn settle<S: Saga, P: Performer<S>>(
    shift: &Shift,
    steps: &P,
    mut instance: Box<Instance<S>>,
    fact: &Fact<S::Event>,
) -> Committed<S> {
    loop {
        match instance.apply(fact) {
            Applied::Moot | Applied::GoOn => return Committed::Yes(instance),
            Applied::Commit => {}
        }
        let runs = matches!(instance.task(), Task::Run | Task::UndoRun);
        let alone = runs || instance.family.is_needed() || !instance.taken.is_empty();
        let committed = if alone {
            in_transaction(shift, steps, instance, Some(fact)).await
        } else {
            in_lane(shift, instance, Some(fact)).await
        };
        match committed {
            Committed::Missed(fresh) => instance = fresh,
            other => return other,
        }
    }
}
