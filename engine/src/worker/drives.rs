//! A registered saga as a worker sees it: without its types. [`crate::run`] implements it.

use std::{convert::Infallible, sync::Arc};

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    instance::{
        Instance,
        family::CallOff,
        signal::{Answer, SignalError},
        upcast::Unreadable,
        verb::{Decided, Instruction, OpenTxUndos, Refusal, Subject},
    },
    record::{
        commit::{Commit, NewInstance},
        row::Row,
    },
    saga::{CalledOff, Saga, start::Start, steps::StepError},
    store::watch::Watched,
    worker::{driving::Origin, state::Worker, step_tx::StepsTx},
};

/// A registered saga without its types, for a worker.
pub(crate) trait Drives: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> i16;
    fn drive(&self, worker: Arc<Worker>, origin: Origin) -> BoxFuture<'static, ()>;
    /// Unwinds the instance of a locked row from outside; the commit is to be written in the same transaction.
    fn call_off(&self, row: Row, why: CalledOff<Infallible>) -> Result<CalledOffRow, Unreadable>;
    /// An instance by its input as JSON, about to be inserted; its first tx steps run when a worker claims it.
    ///
    /// # Errors
    /// Why the input does not fit.
    fn new_instance(&self, start: Start<Value>) -> Result<NewInstance, String>;
    /// Asks the provider for a watched effect.
    fn find<'a>(&'a self, watched: &'a Watched) -> BoxFuture<'a, Result<Found, Unreadable>>;
    /// Opens the undo of an effect that was found; the row is locked, the commit is to be written in the same transaction.
    fn reopen(
        &self,
        row: Row,
        watched: &Watched,
        reference: Option<String>,
    ) -> Result<Commit, Unreadable>;
    /// Gives an instance the signal that is stored with this version as this JSON ([`crate::Engine::signal`]).
    fn signal<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        id: Uuid,
        signal_id: &'a str,
        stored: (i16, &'a str),
    ) -> BoxFuture<'a, Result<Answer, SignalError>>;
    /// Runs the tx undos that a verb asks for, in the caller's transaction. The instance's row is not locked yet.
    fn run_tx_undos<'a>(
        &'a self,
        tx: StepsTx<'a>,
        subject: &'a str,
        because: Option<&'a str>,
        undos: &'a OpenTxUndos,
    ) -> BoxFuture<'a, Result<(), StepError>>;
    /// Applies a person's instruction to a locked row. The caller writes the commit in the same transaction.
    fn operate(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal>;
}

/// The result of calling an instance off, and its commit.
pub(crate) type CalledOffRow = (CallOff, Option<Commit>);

/// A registered saga with its types, without how its steps are done: what a start needs.
pub(crate) trait Begins<S: Saga>: Send + Sync {
    fn chain<'a>(
        &'a self,
        tx: StepsTx<'a>,
        instance: &'a mut Instance<S>,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

/// The answer of a provider about a watched effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is nothing, or the step has no probe.
    Nothing,
    /// An effect, with its reference, if it has one.
    Effect(Option<String>),
    /// It did not answer.
    Unknown,
}
