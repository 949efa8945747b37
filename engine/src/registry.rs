//! The sagas an engine knows, with how their steps are done.

use std::{
    any::Any,
    convert::Infallible,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    advance,
    birth::{Birth, Start, unborn},
    chain,
    commit::Commit,
    family::CallOff,
    held::Position,
    id::shard_of,
    instance::Instance,
    limits,
    operate::{self, Decided, GiveBack, Instruction, Refusal, Subject},
    perform::{Performer, Task, What, perform},
    row::Row,
    saga::{CalledOff, Saga},
    signal::{Answer, SignalError, signal},
    start::{Unreadable, give_up_unreadable},
    steps::{Effect, StepError},
    upcast,
    watch::{Found, Watched},
    worker::Shift,
};

/// A registered saga, without its types: what a worker needs.
pub(crate) trait Drives: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> i16;
    fn drive(&self, shift: Arc<Shift>, position: Position) -> BoxFuture<'static, ()>;
    /// Unwinds the instance of a locked row from outside; the commit is to be written in the same transaction.
    fn call_off(&self, row: Row, why: CalledOff<Infallible>) -> Result<CalledOffRow, Unreadable>;
    /// An instance by its input as JSON, about to be inserted; its first tx steps run when a worker claims it.
    ///
    /// # Errors
    /// Why the input does not fit.
    fn birth(&self, start: Start<Value>) -> Result<Birth, String>;
    /// Asks the provider for a watched effect.
    fn find<'a>(&'a self, watched: &'a Watched) -> BoxFuture<'a, Result<Found, Unreadable>>;
    /// Opens the undo of an effect that was found; the row is locked, the commit is to be written in the same transaction.
    fn reopen(
        &self,
        row: Row,
        watched: &Watched,
        reference: Option<String>,
    ) -> Result<Commit, Unreadable>;
    /// Gives an instance the signal that is stored with this version as this JSON ([`signal()`]).
    fn signal<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        id: Uuid,
        signal_id: &'a str,
        stored: (i16, &'a str),
    ) -> BoxFuture<'a, Result<Answer, SignalError>>;
    /// Does by the saga's tx undos what a person answers for, in the caller's transaction; the instance's row is not locked yet.
    fn give_back<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        subject: &'a str,
        back: &'a GiveBack,
    ) -> BoxFuture<'a, Result<(), StepError>>;
    /// Follows a person's instruction on a locked row; the commit is to be written in the same transaction.
    fn operate(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal>;
    /// An `Arc<dyn Begins<S>>`.
    fn begins(&self) -> Box<dyn Any + Send + Sync>;
}

/// What came of it, and the commit of that.
pub(crate) type CalledOffRow = (CallOff, Option<Commit>);

/// A registered saga with its types, without how its steps are done: what a start needs.
pub(crate) trait Begins<S: Saga>: Send + Sync {
    fn chain<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        instance: &'a mut Instance<S>,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

pub(crate) struct Registered<S, P> {
    steps: Arc<P>,
    saga: PhantomData<fn() -> S>,
}

impl<S: Saga, P: Performer<S>> Registered<S, P> {
    pub(crate) fn new(steps: Arc<P>) -> Self {
        Self { steps, saga: PhantomData }
    }
}

impl<S: Saga, P: Performer<S>> Drives for Registered<S, P> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> i16 {
        S::VERSION as i16
    }

    fn drive(&self, shift: Arc<Shift>, position: Position) -> BoxFuture<'static, ()> {
        let steps = self.steps.clone();
        Box::pin(async move {
            let instance = match position {
                Position::Born(instance) => match instance.downcast::<Instance<S>>() {
                    Ok(instance) => instance,
                    Err(_) => unreachable!("started under the name of another saga"),
                },
                Position::Row(row) => {
                    let fence = shift.fence(row.saga_id, row.epoch, Some(row.seq));
                    match shift.load::<S>(*row).await {
                        Ok(instance) => instance,
                        Err(error) => return give_up_unreadable(&shift, &fence, &error).await,
                    }
                }
            };
            advance::drive(shift, steps, instance).await;
        })
    }

    fn birth(&self, start: Start<Value>) -> Result<Birth, String> {
        start.check().map_err(|refused| refused.to_string())?;
        let start =
            start.try_map(serde_json::from_value::<S::Input>).map_err(|error| error.to_string())?;
        let unborn =
            catch_unwind(AssertUnwindSafe(|| unborn::<S>(shard_of(&start.subject), &start)));
        let mut instance = unborn
            .map_err(|_| "the saga panicked in `start`".to_owned())?
            .map_err(|forbidden| forbidden.to_string())?;
        if !instance.parks() {
            instance.release();
        }
        let commit = instance.commit();
        limits::check(&commit).map_err(|refused| refused.to_string())?;
        Ok(Birth { name: S::NAME, commit, options: start.options(), parent: None, owner: None })
    }

    fn call_off(&self, row: Row, why: CalledOff<Infallible>) -> Result<CalledOffRow, Unreadable> {
        let owned = row.owner.is_some();
        let mut instance = Instance::<S>::from_row(row)?;
        let seq = instance.seq;
        let called_off = instance.call_off(why.of(), owned);
        let commit = (instance.seq != seq).then(|| match called_off {
            CallOff::Begun => instance.commit(),
            // Only its journal grows.
            CallOff::PastPivot | CallOff::Ended => instance.commit_untouched(),
        });
        commit.iter().try_for_each(Commit::check_storable)?;
        Ok((called_off, commit))
    }

    fn find<'a>(&'a self, watched: &'a Watched) -> BoxFuture<'a, Result<Found, Unreadable>> {
        Box::pin(async move {
            let step = upcast::step::<S>(watched.version, &watched.activity)?;
            let probe = Task::Probe { no: watched.step_no, step };
            let fact = perform::<S, P>(&self.steps, watched.saga_id, probe, None).await;
            Ok(match fact.what {
                What::Answered { effect: Effect::Confirmed(reference), .. } => {
                    Found::Effect(Some(reference))
                }
                What::Answered { effect: Effect::None, .. } => Found::Effect(None),
                What::Unknown(_) => Found::Unknown,
                // Refused, never seen, or a call that nobody can be asked about.
                _ => Found::Nothing,
            })
        })
    }

    fn reopen(
        &self,
        row: Row,
        watched: &Watched,
        reference: Option<String>,
    ) -> Result<Commit, Unreadable> {
        let (version, step) = (watched.version, &watched.activity);
        let done = upcast::watched::<S>(version, step, &watched.undo)?;
        let mut instance = Instance::<S>::from_row(row)?;
        instance.reopen(watched.step_no, done, reference);
        let commit = instance.commit();
        commit.check_storable()?;
        Ok(commit)
    }

    fn signal<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        id: Uuid,
        signal_id: &'a str,
        (version, stored): (i16, &'a str),
    ) -> BoxFuture<'a, Result<Answer, SignalError>> {
        Box::pin(async move {
            let given = upcast::signal::<S>(version, stored)
                .map_err(|misfit| SignalError::Unreadable { id, why: misfit.to_string() })?;
            signal::<S>(tx, id, signal_id, given).await
        })
    }

    fn give_back<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        subject: &'a str,
        back: &'a GiveBack,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(operate::give_back::<S, P>(&self.steps, tx, subject, back))
    }

    fn operate(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal> {
        operate::operate::<S>(subject, order)
    }

    fn begins(&self) -> Box<dyn Any + Send + Sync> {
        let begins: Arc<dyn Begins<S>> = Arc::new(Self::new(self.steps.clone()));
        Box::new(begins)
    }
}

impl<S: Saga, P: Performer<S>> Begins<S> for Registered<S, P> {
    fn chain<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        instance: &'a mut Instance<S>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(chain::run(&*self.steps, tx, instance))
    }
}
