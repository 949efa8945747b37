//! Group commit of tx steps: the instances of one saga that reach a step that is done together share one transaction.
//!
//! - An instance is in at most one batch. Its driver waits for that batch, and does nothing else with the instance meanwhile.
//! - A member is written with its transition and what its step has done, or not at all.
//! - A failing member harms no other for good: the batch is rolled back and each member goes alone, as a step that is not done together does. One that
//!   has failed goes alone from then on.
//! - A member whose row has changed is read again, and goes alone next. The others join once more; if that batch is rolled back too, they go alone.
//! - A driver waits for a bounded time: it joins at most twice. Each time it waits for its own batch and for those before it in the queue of this row of
//!   the table, which are at most as many as instances are driven at once. Each batch is given up after the time of any transaction.
//! - When the worker stops, members whose batch has not begun are answered at once. When it has lost its lease, they are answered after the batch that runs.
//! - Locks: the rows of the domain first, the rows of the instances last, in the order of their ids.
//!
//! While a batch runs, the next members gather, and no batch begins within 10 ms of the one before. A member that comes alone is committed at once.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, VecDeque},
    mem::{Discriminant, discriminant},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    database::{self, all_in_time},
    instance::{
        Instance, Pending,
        task::{Fact, Task},
    },
    record::commit::Commit,
    saga::{Saga, steps::StepError, table::StepTable},
    store::{commit::WrittenMembers, family::write_all},
    worker::{
        chain,
        durable::{Committed, goes_on, in_transaction, own_failed, reread},
        family,
        hand_over::HandOver,
        hooks::Site,
        perform::Performer,
        state::Worker,
        step_tx::StepsTx,
    },
};

/// How many instances share one transaction at most.
const BATCH: usize = 64;

/// The time from the beginning of a batch to that of the next, at least. A busy gathering makes fewer and larger batches, which leave more of the machine to
/// everything else. A member that comes alone does not wait for it.
const SPACING: Duration = Duration::from_millis(10);

/// How often a driver lets an instance join before it goes alone.
const JOINS: usize = 2;

/// The gatherings of a worker, by their saga: each value is a [`Rows`].
#[derive(Default)]
pub(crate) struct Gatherings(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

/// The gatherings of a saga, one for each row of its table, so that a row that is slow holds up no other.
type Rows<S> = Mutex<HashMap<Row<S>, Arc<Gathering<S>>>>;

/// A row of a saga's table.
type Row<S> = Discriminant<<S as Saga>::Step>;

impl Gatherings {
    fn of<S: Saga>(&self, row: Row<S>) -> Arc<Gathering<S>> {
        let mut sagas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = sagas.entry(TypeId::of::<S>()).or_insert_with(|| Arc::new(Rows::<S>::default()));
        let Some(rows) = rows.downcast_ref::<Rows<S>>() else {
            unreachable!("kept under the type of another saga")
        };
        rows.lock().unwrap_or_else(PoisonError::into_inner).entry(row).or_default().clone()
    }
}

/// The members that wait for their batch.
struct Gathering<S: Saga>(Mutex<Queue<S>>);

struct Queue<S: Saga> {
    waiting: VecDeque<Member<S>>,
    /// A task commits one batch after the other.
    is_served: bool,
    /// How many members the next batch has at most. It is smaller after a batch that failed, since a batch may have failed because of its size: all
    /// batches have the same time.
    most: usize,
}

/// An instance whose driver waits.
struct Member<S: Saga> {
    instance: Box<Instance<S>>,
    answer: oneshot::Sender<Turn<S>>,
}

/// How the driver of a member continues.
enum Turn<S: Saga> {
    /// The commit is durable, and this is the instance now.
    Written(Box<Instance<S>>, Box<Commit>),
    /// The batch is rolled back because the row of another member has changed.
    Again,
    /// The batch is rolled back because of an error: the instance goes alone.
    Alone,
    /// The row has changed, or nobody knows whether the commit was written, or the worker serves no more batches: the row is read again.
    ReadAgain,
    /// It was alone in its batch, and this is its own error.
    Failed(StepError),
}

/// Does what [`in_transaction`] does, and shares the transaction with other instances if the pending step is one that is done together.
///
/// Round trips: those of [`in_transaction`], for all members at once; the same again after a batch that was rolled back, and then once more for each.
pub(crate) async fn together<S: Saga, P: Performer<S>>(
    worker: &Arc<Worker>,
    steps: &Arc<P>,
    instance: Box<Instance<S>>,
    fact: Option<&Fact<S::Event>>,
) -> Committed<S> {
    let shared = shared_row(worker, &instance);
    for row in shared.into_iter().cycle().take(JOINS) {
        let (answer, answered) = oneshot::channel();
        // The driver keeps the instance as it was before the step, for the case that its batch is rolled back.
        join(worker, steps, row, Member { instance: instance.clone(), answer });
        match answered.await.unwrap_or(Turn::ReadAgain) {
            Turn::Written(instance, commit) => {
                worker.hooks.at(Site::AfterCommit).await;
                return goes_on(worker, instance, &commit);
            }
            Turn::Again => {}
            Turn::Alone => break,
            Turn::ReadAgain => return read_again(worker, &instance).await,
            Turn::Failed(error) => return own_failed(worker, &instance, fact, error).await,
        }
    }
    in_transaction(worker, &**steps, instance, fact).await
}

/// The row of the table whose gathering the instance may join. A step that failed, or whose commit was not written, is not shared again: it might be
/// what makes a batch fail.
fn shared_row<S: Saga>(worker: &Worker, instance: &Instance<S>) -> Option<Row<S>> {
    let Pending::Run { step, .. } = &instance.pending else { return None };
    let shares = step.runs_together()
        && matches!(instance.task(), Task::Run)
        && (instance.progress.attempt, instance.missed) == (0, 0)
        && !worker.one_step
        && !worker.is_stopping();
    shares.then(|| discriminant(step))
}

/// Reads the row again. The instance goes alone next: one that is signalled again and again must not have each of its batches rolled back.
async fn read_again<S: Saga>(worker: &Worker, instance: &Instance<S>) -> Committed<S> {
    let mut committed = reread(worker, instance, None).await;
    if let Committed::Missed(fresh) = &mut committed {
        fresh.missed = fresh.missed.max(1);
    }
    committed
}

/// Lets the member gather with others of its row of the table, and has them served.
fn join<S: Saga, P: Performer<S>>(
    worker: &Arc<Worker>,
    steps: &Arc<P>,
    row: Row<S>,
    member: Member<S>,
) {
    let gathering = worker.gatherings.of::<S>(row);
    let mut queue = gathering.queue();
    // Those who wait may have been answered for the last time already.
    if worker.is_stopping() {
        return;
    }
    queue.waiting.push_back(member);
    if !std::mem::replace(&mut queue.is_served, true) {
        drop(queue);
        worker.beside(serve(worker.clone(), steps.clone(), Served { gathering, is_over: false }));
    }
}

/// Commits one batch after the other, until nobody waits.
async fn serve<S: Saga, P: Performer<S>>(
    worker: Arc<Worker>,
    steps: Arc<P>,
    mut served: Served<S>,
) {
    while let Some(batch) = served.next(&worker) {
        let next = Instant::now() + SPACING;
        let gathering = &served.gathering;
        let mut committing = pin!(commit(&worker, &*steps, gathering, batch));
        let is_stopping = tokio::select! {
            () = &mut committing => false,
            () = worker.stop.cancelled() => true,
        };
        if is_stopping {
            gathering.let_go();
            committing.await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = worker.stop.cancelled() => {}
        }
    }
}

/// A gathering while a task serves it.
struct Served<S: Saga> {
    gathering: Arc<Gathering<S>>,
    is_over: bool,
}

impl<S: Saga> Served<S> {
    fn next(&mut self, worker: &Worker) -> Option<Vec<Member<S>>> {
        if worker.is_stopping() || !worker.holds_lease() {
            self.gathering.let_go();
        }
        let batch = self.gathering.next();
        self.is_over = batch.is_none();
        batch
    }
}

impl<S: Saga> Drop for Served<S> {
    /// The task has ended in the middle, most likely because a saga panicked: nobody would serve those who wait.
    fn drop(&mut self) {
        if !self.is_over {
            // In this order: who joins in between is answered, or served by another task.
            self.gathering.queue().is_served = false;
            self.gathering.let_go();
        }
    }
}

impl<S: Saga> Default for Gathering<S> {
    fn default() -> Self {
        Self(Mutex::new(Queue { waiting: VecDeque::new(), is_served: false, most: BATCH }))
    }
}

impl<S: Saga> Gathering<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who have waited the longest. `None`: nobody waits, and the gathering is not served any more.
    fn next(&self) -> Option<Vec<Member<S>>> {
        let mut queue = self.queue();
        let size = queue.most.min(queue.waiting.len());
        queue.is_served = size > 0;
        (size > 0).then(|| queue.waiting.drain(..size).collect())
    }

    /// Answers all who wait: their drivers read their rows again, and then see that the worker stops or has lost its lease.
    fn let_go(&self) {
        let waiting = std::mem::take(&mut self.queue().waiting);
        drop(waiting);
    }

    /// Sets the size of the next batch by what became of one with so many members.
    fn resize(&self, members: usize, written: &Result<WrittenAll, StepError>) {
        let mut queue = self.queue();
        queue.most = match written {
            Ok(Ok(_)) => (queue.most * 2).min(BATCH),
            Err(_) if members > 1 => members / 2,
            // The row of a member has changed, or it was alone: its size does not matter.
            Ok(Err(_)) | Err(_) => queue.most,
        };
    }
}

/// Commits a batch and tells each driver how it continues.
async fn commit<S: Saga, P: Performer<S>>(
    worker: &Worker,
    steps: &P,
    gathering: &Gathering<S>,
    mut batch: Vec<Member<S>>,
) {
    batch.sort_unstable_by_key(|member| member.instance.id);
    let (mut instances, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|member| (member.instance, member.answer)).unzip();
    let mut is_committing = false;
    let writing = write(worker, steps, &mut instances, &mut is_committing);
    let written = all_in_time(writing).await.map_err(family::twice);
    gathering.resize(instances.len(), &written);
    let turns = turns(instances, written, is_committing);
    for (answer, turn) in answers.into_iter().zip(turns) {
        // A driver that is gone needs no answer.
        let _ = answer.send(turn);
    }
}

/// How each driver continues.
fn turns<S: Saga>(
    instances: Vec<Box<Instance<S>>>,
    written: Result<WrittenAll, StepError>,
    is_committing: bool,
) -> Vec<Turn<S>> {
    match written {
        Ok(Ok(commits)) => {
            let commits = commits.into_iter().map(Box::new);
            instances
                .into_iter()
                .zip(commits)
                .map(|(one, commit)| Turn::Written(one, commit))
                .collect()
        }
        Ok(Err(written)) => {
            let turn = |one: Box<Instance<S>>| {
                let is_unchanged = written.contains(&(one.id, one.epoch));
                if is_unchanged { Turn::Again } else { Turn::ReadAgain }
            };
            instances.into_iter().map(turn).collect()
        }
        Err(error) if instances.len() == 1 => vec![Turn::Failed(error)],
        Err(error) => {
            let is_told = matches!(&error, StepError::Database(away) if database::note(away));
            if !is_told {
                let members = instances.len();
                tracing::info!(saga = S::NAME, members, %error, "a shared transaction failed; each instance goes alone");
            }
            // The server may have committed although its answer is an error, or never came.
            let turn = || if is_committing { Turn::ReadAgain } else { Turn::Alone };
            instances.iter().map(|_| turn()).collect()
        }
    }
}

/// The commits of all members, or the members whose fence held, if it did not hold for all: then nothing was written.
type WrittenAll = Result<Vec<Commit>, WrittenMembers>;

/// Runs the steps and writes all transitions in one transaction. `is_committing` is set when its outcome may be unknown.
async fn write<S: Saga, P: Performer<S>>(
    worker: &Worker,
    steps: &P,
    instances: &mut [Box<Instance<S>>],
    is_committing: &mut bool,
) -> Result<WrittenAll, StepError> {
    let mut tx = database::begin(&worker.pool).await?;
    let mut started = HandOver::default();
    let mut steps_tx =
        StepsTx { connection: &mut tx, started: &mut started, engine: &worker.engine };
    chain::run_together(steps, &mut steps_tx, instances).await?;
    let mut commits = Vec::with_capacity(instances.len());
    for instance in instances {
        let commit = instance.commit();
        commit.check().map_err(|refused| StepError::Broken(refused.to_string()))?;
        commits.push(commit);
    }
    let written = write_all(&mut tx, &commits).await?;
    if written.len() != commits.len() {
        tx.rollback().await?;
        return Ok(Err(written));
    }
    worker.hooks.before_commit(&mut tx).await?;
    *is_committing = true;
    tx.commit().await?;
    started.drive();
    Ok(Ok(commits))
}
