//! Adding sagas to an engine, and what a worker reaches in each of them.

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
    base::id::shard_of,
    front::signal::give,
    instance::{
        Instance,
        family::CallOff,
        new_instance::before_first_step,
        signal::{Answer, SignalError},
        task::{Task, What},
        upcast::{self, Unreadable},
        verb::{Decided, Instruction, OpenTxUndos, Refusal, Subject},
    },
    operate,
    record::{
        commit::{Commit, NewInstance},
        row::Row,
    },
    saga::{
        CalledOff, Saga,
        start::Start,
        steps::{Effect, StepError},
    },
    store::watch::Watched,
    worker::{
        advance, chain,
        drives::{Begins, CalledOffRow, Drives, Found},
        driving::Origin,
        engine::EngineBuilder,
        load::give_up_unreadable,
        perform::{DoneBy, Performer, Services, perform},
        state::Worker,
        step_tx::StepsTx,
    },
};

impl EngineBuilder {
    /// Adds a saga with the value that does its steps: it implements the trait that the saga's table names. A test adds it with [`EngineBuilder::explored`].
    ///
    /// # Panics
    /// When its name is taken: names are fixed for life. In a process that has made a test database, also when the saga was not explored.
    #[must_use]
    pub fn saga<S: Saga<Step: DoneBy<I>>, I: Send + Sync + 'static>(self, services: I) -> Self {
        self.performed_by::<S, _>(Services(Arc::new(services)))
    }

    /// The same for what may stand between the engine and the saga's own methods.
    ///
    /// # Panics
    /// As [`EngineBuilder::saga`].
    #[must_use]
    pub(crate) fn performed_by<S: Saga, P: Performer<S>>(self, steps: P) -> Self {
        #[cfg(feature = "testing")]
        crate::run::explored::must_be_explored::<S>();
        let registered = Registered::<S, P>::new(Arc::new(steps));
        let begins = registered.begins();
        self.add::<S>(Arc::new(registered), begins)
    }
}

/// A saga with its types and how its steps are done.
pub(crate) struct Registered<S, P> {
    steps: Arc<P>,
    saga: PhantomData<fn() -> S>,
}

impl<S: Saga, P: Performer<S>> Registered<S, P> {
    pub(crate) fn new(steps: Arc<P>) -> Self {
        Self { steps, saga: PhantomData }
    }

    /// An `Arc<dyn Begins<S>>`, without the type of the saga.
    fn begins(&self) -> Box<dyn Any + Send + Sync> {
        let begins: Arc<dyn Begins<S>> = Arc::new(Self::new(self.steps.clone()));
        Box::new(begins)
    }
}

impl<S: Saga, P: Performer<S>> Drives for Registered<S, P> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> i16 {
        S::VERSION as i16
    }

    fn drive(&self, worker: Arc<Worker>, origin: Origin) -> BoxFuture<'static, ()> {
        let steps = self.steps.clone();
        Box::pin(async move {
            let row = match origin {
                Origin::Started(instance) => match instance.downcast::<Instance<S>>() {
                    Ok(instance) => return advance::drive(worker, steps, instance).await,
                    Err(_) => unreachable!("started under the name of another saga"),
                },
                Origin::Row(row) => row,
                Origin::Unread(id) => match worker.row_of_started(id).await {
                    Some(row) => row,
                    None => return,
                },
            };
            let fence = worker.fence(row.saga_id, row.epoch, Some(row.seq));
            match worker.load::<S>(*row).await {
                Ok(instance) => advance::drive(worker, steps, instance).await,
                Err(error) => give_up_unreadable(&worker, &fence, &error).await,
            }
        })
    }

    fn new_instance(&self, start: Start<Value>) -> Result<NewInstance, String> {
        start.check().map_err(|refused| refused.to_string())?;
        let start =
            start.try_map(serde_json::from_value::<S::Input>).map_err(|error| error.to_string())?;
        let decided = catch_unwind(AssertUnwindSafe(|| {
            before_first_step::<S>(shard_of(&start.subject), &start)
        }));
        let mut instance = decided
            .map_err(|_| "the saga panicked in `start`".to_owned())?
            .map_err(|forbidden| forbidden.to_string())?;
        if !instance.parks() {
            instance.make_due();
        }
        let commit = instance.commit();
        commit.check().map_err(|refused| refused.to_string())?;
        Ok(NewInstance {
            name: S::NAME,
            commit,
            options: start.options(),
            parent: None,
            owner: None,
        })
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
            let step = upcast::step::<S>(watched.saga.version, &watched.activity)?;
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
        let (version, step) = (watched.saga.version, &watched.activity);
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
            give::<S>(tx, id, signal_id, given).await
        })
    }

    fn run_tx_undos<'a>(
        &'a self,
        tx: StepsTx<'a>,
        subject: &'a str,
        because: Option<&'a str>,
        undos: &'a OpenTxUndos,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(operate::run_tx_undos::<S, P>(&self.steps, tx, subject, because, undos))
    }

    fn operate(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal> {
        crate::instance::operate::operate::<S>(subject, order)
    }
}

impl<S: Saga, P: Performer<S>> Begins<S> for Registered<S, P> {
    fn chain<'a>(
        &'a self,
        mut tx: StepsTx<'a>,
        instance: &'a mut Instance<S>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { chain::run(&*self.steps, &mut tx, instance).await })
    }
}
