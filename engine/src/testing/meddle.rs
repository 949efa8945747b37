//! Between the engine and a saga's steps: what a trial does to one step of one run.
//!
//! Everything is done as the outside would do it: an instance is cancelled from another connection, an answer is lost, a step is refused
//! in its place, a transaction is rolled back (to a savepoint) after the step has run in it. The engine knows nothing of it.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use super::{samples::Samples, walk::name};
use crate::{
    base::json::shown as json,
    instance::family::CallOff,
    saga::{
        Done, Saga,
        steps::{Cause, Effect, Key, Outcome, Probe, StepError, Undoing, Undone},
        table::{StepTable, WayBack},
    },
    worker::{engine::Engine, hand_over::HandOver, perform::Performer, step_tx::StepTx},
};

/// The meddling with one run; steps and undos are counted as they are first asked for.
pub(super) struct Plan<E> {
    /// The instance is made to unwind at this step, in this way.
    pub(super) unwind: Option<(usize, Way<E>)>,
    /// This step or undo is done twice: the first time nobody hears of it.
    pub(super) repeat: Option<usize>,
}

impl<E> Plan<E> {
    /// It goes its way.
    pub(super) fn none() -> Self {
        Self { unwind: None, repeat: None }
    }
}

/// How an instance is made to unwind at a step.
#[derive(Debug, Clone)]
pub(super) enum Way<E> {
    /// It is cancelled, and the step is not done.
    Before,
    /// The step is done, and the instance cancelled before it goes on.
    After,
    /// The step refuses, with this event.
    Refuses(E),
    /// It is not done, nobody knows, and it is given up.
    Silent,
    /// It is done, nobody hears of it, and it is given up.
    Unheard,
}

impl<E: Debug> Way<E> {
    /// For who reads what was tried.
    pub(super) fn told(&self, step: &str) -> String {
        match self {
            Self::Before => format!("cancelled before {step}"),
            Self::After => format!("cancelled after {step}"),
            Self::Refuses(event) => format!("{step} refuses by {}", name(event)),
            Self::Silent => format!("{step} not done and never heard of"),
            Self::Unheard => format!("{step} done and never heard of"),
        }
    }
}

/// A step or an undo that a run asked for.
pub(super) struct Asked<S: Saga> {
    pub(super) done: Done<S::Step>,
    pub(super) is_undo: bool,
    /// In the transaction that starts the instance: there is nothing to cancel yet.
    pub(super) in_start: bool,
    /// Nothing is taken back any more.
    pub(super) past_pivot: bool,
    /// A text that tells it from others of the run, and is the same when it is tried again.
    same: String,
}

impl<S: Saga> Asked<S> {
    pub(super) fn name(&self) -> String {
        match &self.done {
            _ if self.is_undo => self.done.undo_name().to_owned(),
            Done::Step(step) => name(step),
            Done::Caller(step) => name(step),
        }
    }

    pub(super) fn is_pivot(&self) -> bool {
        self.done.way_back() == WayBack::Pivot
    }
}

struct Run<S: Saga> {
    plan: Plan<S::Event>,
    asked: Vec<Asked<S>>,
    subject: String,
    /// It is to be cancelled as soon as it waits or asks for the next step.
    cancel_next: bool,
    unwound: bool,
    /// The time that passes before the next attempt: a step that is to be given up is not tried for a day.
    passes: Duration,
    /// Done once under this key, with this reference; nobody has heard of it.
    unheard: HashMap<String, Option<String>>,
    repeated: bool,
    fault: Option<String>,
}

impl<S: Saga> Run<S> {
    fn new(plan: Plan<S::Event>) -> Self {
        Self {
            plan,
            asked: Vec::new(),
            subject: String::new(),
            cancel_next: false,
            unwound: false,
            passes: Duration::ZERO,
            unheard: HashMap::new(),
            repeated: false,
            fault: None,
        }
    }
}

/// The result of a run.
pub(super) struct Meddled<S: Saga> {
    pub(super) asked: Vec<Asked<S>>,
    /// Was the plan carried out?
    pub(super) done: bool,
    pub(super) fault: Option<String>,
}

/// Shared by a worker's steps and who plans its runs.
pub(super) struct Meddler<S: Saga> {
    /// It cancels, and drives nothing.
    engine: Engine,
    run: Mutex<Run<S>>,
}

impl<S: Samples> Meddler<S> {
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self { engine, run: Mutex::new(Run::new(Plan::none())) })
    }

    fn run(&self) -> MutexGuard<'_, Run<S>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, plan: Plan<S::Event>) {
        *self.run() = Run::new(plan);
    }

    pub(super) fn end(&self) -> Meddled<S> {
        let run = std::mem::replace(&mut *self.run(), Run::new(Plan::none()));
        let done = (run.plan.unwind.is_none() || run.unwound)
            && (run.plan.repeat.is_none() || run.repeated);
        Meddled { asked: run.asked, done, fault: run.fault }
    }

    fn pool(&self) -> &PgPool {
        self.engine.pool()
    }

    /// Cancels the instance if it waits and is to be cancelled; lets time pass to its next attempt.
    pub(super) async fn meanwhile(&self, id: Uuid) {
        let passes = i64::try_from(self.run().passes.as_millis()).unwrap_or(i64::MAX);
        let (waits, passed): (bool, bool) = sqlx::query_as(
            "-- name: testing: pass the time of a retry
            with instance as (
                select wake_at, waiting_on from saga.instance where shard = $1 and saga_id = $2 and owner is null
            ),
            passed as (
                update saga.clock set offset_by = offset_by + greatest(i.wake_at - saga.now(), $4 * interval '1 ms')
                from instance i where i.waiting_on = 'retry' and i.wake_at > saga.now()
                returning pg_notify($3, '')
            )
            select coalesce((select waiting_on in ('signal', 'timer') from instance), false), exists (select from passed)",
        )
        .bind(crate::base::id::shard_in(id))
        .bind(id)
        .bind(crate::store::wake::WAKE_CHANNEL)
        .bind(passes)
        .fetch_one(self.pool())
        .await
        .expect("a trial's database answers");
        // A step may have been given up only while the database was asked: its time has not passed yet.
        if passed && passes > 0 {
            self.run().passes = Duration::ZERO;
        }
        if waits && self.run().cancel_next {
            self.cancel(id).await;
        }
    }

    async fn cancel(&self, id: Uuid) {
        let mut tx = self.pool().begin().await.expect("a trial's database answers");
        let answer = self.engine.cancel(&mut tx, id, "a trial").await;
        tx.commit().await.expect("a trial's database answers");
        let mut run = self.run();
        match answer {
            Ok(CallOff::Begun) => (run.unwound, run.cancel_next) = (true, false),
            answer => run.fault = Some(format!("it could not be cancelled: {answer:?}")),
        }
    }

    /// The instance of the chain that runs now, if it is there already, and whether it is past its pivot.
    async fn instance(&self) -> Option<(Uuid, bool)> {
        let subject = self.run().subject.clone();
        sqlx::query_as(
            "-- name: testing: instance of a chain
            select saga_id, past_pivot from saga.instance where shard = $1 and subject = $2 and name = $3
            order by created_at desc limit 1",
        )
        .bind(crate::base::id::shard_of(&subject))
        .bind(&subject)
        .bind(S::NAME)
        .fetch_optional(self.pool())
        .await
        .expect("a trial's database answers")
    }

    async fn is_past_pivot(&self, id: Uuid) -> bool {
        crate::store::instance::instance(self.pool(), crate::base::id::shard_in(id), id)
            .await
            .expect("a trial's database answers")
            .is_some_and(|row| row.progress.past_pivot)
    }

    /// Counts what is asked for; the same again has the same number.
    fn count(&self, asked: Asked<S>) -> usize {
        let mut run = self.run();
        if let Some(nth) = run.asked.iter().position(|known| known.same == asked.same) {
            return nth;
        }
        let pivot = run.asked.iter().any(|earlier| !earlier.is_undo && earlier.is_pivot());
        run.asked.push(Asked { past_pivot: asked.past_pivot || pivot, ..asked });
        run.asked.len() - 1
    }

    /// How the instance is to be made to unwind at that step.
    fn way(&self, nth: usize) -> Option<Way<S::Event>> {
        let run = self.run();
        if run.cancel_next {
            return Some(Way::Before);
        }
        run.plan.unwind.as_ref().filter(|(at, _)| *at == nth).map(|(_, way)| way.clone())
    }

    /// Is this one done twice, and is this the first time?
    fn repeats(&self, nth: usize) -> bool {
        let mut run = self.run();
        let repeats = run.plan.repeat == Some(nth) && !run.repeated;
        run.repeated |= repeats;
        repeats
    }

    fn unheard(&self, key: &Key, reference: Option<String>) {
        self.run().unheard.insert(key.to_string(), reference);
    }

    /// Checks that the answer which is heard at last is that of the first time.
    fn heard(&self, key: &Key, reference: Option<&str>) {
        let mut run = self.run();
        let Some(Some(first)) = run.unheard.remove(&key.to_string()) else { return };
        if let Some(second) = reference.filter(|second| *second != first) {
            run.fault = Some(format!(
                "it acted twice under the key {key}: the reference was {first:?} and is {second:?}; give `key.to_string()` to the \
                 provider, who acts once per key"
            ));
        }
    }

    /// The step's deadline passes after this attempt. Answers whether it is the first one.
    fn given_up_after(&self, within: Duration) -> bool {
        let mut run = self.run();
        let first = !std::mem::replace(&mut run.unwound, true);
        if first {
            run.passes = within;
        }
        first
    }

    fn begun_unwinding(&self) {
        self.run().unwound = true;
    }
}

/// The steps of a saga, meddled with.
pub(super) struct Meddling<S: Saga, P> {
    pub(super) steps: P,
    pub(super) meddler: Arc<Meddler<S>>,
}

impl<S: Samples, P: Performer<S>> Performer<S> for Meddling<S, P> {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        subject.clone_into(&mut self.meddler.run().subject);
        self.steps.lock(tx, subject).await
    }

    async fn run(&self, tx: &mut StepTx<'_>, step: &S::Step) -> Result<S::Event, StepError> {
        let meddler = &self.meddler;
        let instance = meddler.instance().await;
        let nth = meddler.count(Asked {
            done: Done::Step(step.clone()),
            is_undo: false,
            in_start: instance.is_none(),
            past_pivot: instance.is_some_and(|(_, past)| past),
            same: json(step),
        });
        match (meddler.way(nth), instance) {
            (Some(Way::Before), Some((id, _))) => meddler.cancel(id).await,
            (Some(Way::After), _) => meddler.run().cancel_next = true,
            (Some(Way::Refuses(event)), _) => {
                meddler.begun_unwinding();
                return Ok(event);
            }
            _ => {}
        }
        if meddler.repeats(nth) {
            let StepTx { connection, engine, of, is_undo, .. } = &mut *tx;
            let (mut rolled_back, mut started) = (connection.begin().await?, HandOver::default());
            let mut first = StepTx {
                connection: &mut rolled_back,
                started: &mut started,
                engine,
                of: *of,
                is_undo: *is_undo,
            };
            self.steps.run(&mut first, step).await?;
            rolled_back.rollback().await?;
        }
        self.steps.run(tx, step).await
    }

    async fn undo_in_tx(
        &self,
        tx: &mut StepTx<'_>,
        done: &Done<S::Step>,
        undoing: &Undoing<S::Reason>,
    ) -> Result<(), StepError> {
        let nth = self.meddler.count(undo(done.clone(), undoing));
        if self.meddler.repeats(nth) {
            let StepTx { connection, engine, of, is_undo, .. } = &mut *tx;
            let (mut rolled_back, mut started) = (connection.begin().await?, HandOver::default());
            let mut first = StepTx {
                connection: &mut rolled_back,
                started: &mut started,
                engine,
                of: *of,
                is_undo: *is_undo,
            };
            self.steps.undo_in_tx(&mut first, done, undoing).await?;
            rolled_back.rollback().await?;
        }
        self.steps.undo_in_tx(tx, done, undoing).await
    }

    async fn call(&self, key: &Key, step: &S::Step) -> Outcome<S::Event> {
        let meddler = &self.meddler;
        let nth = meddler.count(Asked {
            done: Done::Step(step.clone()),
            is_undo: false,
            in_start: false,
            past_pivot: meddler.is_past_pivot(key.saga_id()).await,
            same: key.to_string(),
        });
        match meddler.way(nth) {
            None if meddler.repeats(nth) => {
                let outcome = self.steps.call(key, step).await;
                let Outcome::Answered { effect, .. } = &outcome else { return outcome };
                meddler.unheard(key, reference(effect));
                return unknown();
            }
            None => {}
            Some(Way::Before) => {
                meddler.cancel(key.saga_id()).await;
                return Outcome::NotDone(Cause::new("not called: the trial cancels before it"));
            }
            Some(Way::After) => {
                let outcome = self.steps.call(key, step).await;
                meddler.cancel(key.saga_id()).await;
                return outcome;
            }
            Some(Way::Refuses(event)) => {
                meddler.begun_unwinding();
                return Outcome::refuted(event);
            }
            Some(Way::Silent) => {
                meddler.given_up_after(step.terms().within);
                return unknown();
            }
            Some(Way::Unheard) => {
                if meddler.given_up_after(step.terms().within) {
                    drop(self.steps.call(key, step).await);
                }
                return unknown();
            }
        }
        let outcome = self.steps.call(key, step).await;
        if let Outcome::Answered { effect, .. } = &outcome {
            meddler.heard(key, reference(effect).as_deref());
        }
        outcome
    }

    async fn probe(&self, key: &Key, step: &S::Step) -> Probe<S::Event> {
        let meddler = &self.meddler;
        let known = meddler.run().asked.iter().position(|asked| asked.same == key.to_string());
        let way = known.and_then(|nth| meddler.way(nth));
        if matches!(way, Some(Way::Silent | Way::Unheard)) {
            return Probe::Unknown(Cause::new("the trial lets nobody find out"));
        }
        let probe = self.steps.probe(key, step).await;
        if let Probe::Answered { effect, .. } = &probe {
            meddler.heard(key, reference(effect).as_deref());
        }
        probe
    }

    async fn undo_by_call(&self, done: &Done<S::Step>, undoing: &Undoing<S::Reason>) -> Undone {
        let (meddler, key) = (&self.meddler, &undoing.key);
        let nth = meddler.count(undo(done.clone(), undoing));
        let first = meddler.repeats(nth);
        let undone = self.steps.undo_by_call(done, undoing).await;
        match &undone {
            Undone::Undone(reference) if first => meddler.unheard(key, reference.clone()),
            Undone::Nothing if first => meddler.unheard(key, None),
            Undone::Undone(reference) => {
                meddler.heard(key, reference.as_deref());
                return undone;
            }
            _ => return undone,
        }
        Undone::NotDone(Cause::new("the trial has lost the answer"))
    }
}

fn undo<S: Saga>(done: Done<S::Step>, undoing: &Undoing<S::Reason>) -> Asked<S> {
    let same = undoing.key.to_string();
    Asked { done, is_undo: true, in_start: false, past_pivot: false, same }
}

fn unknown<E>() -> Outcome<E> {
    Outcome::Unknown(Cause::new("the trial has lost the answer"))
}

fn reference(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Confirmed(reference) => Some(reference.clone()),
        Effect::None | Effect::Refuted => None,
    }
}
