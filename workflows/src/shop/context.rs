//! The context of a command: everything it needs beside its input.

use std::ops::{Deref, DerefMut};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use stepwise_engine::{
    Answer, Engine, HandOver, Saga, SignalError, Start, StartError, Started, Starts, StepTx,
    StepsTx,
};
use uuid::Uuid;

use super::{
    Shop,
    cause::{Actor, Cause},
};

/// Handed to every command: the caller's transaction, the shop, the engine, business time and the cause.
///
/// It derefs to the connection of the transaction, which the caller commits or rolls back.
pub struct Context<'a> {
    connection: &'a mut PgConnection,
    started: &'a mut HandOver,
    /// The shop.
    pub shop: &'a Shop,
    /// The engine.
    pub engine: &'a Engine,
    /// The cause: the actor, and why.
    pub cause: Cause,
    now: Option<DateTime<Utc>>,
}

impl<'a> Context<'a> {
    /// The context of a command that `cause` leads to, in the caller's transaction.
    pub fn new(shop: &'a Shop, engine: &'a Engine, tx: &'a mut impl Starts, cause: Cause) -> Self {
        let (connection, started) = tx.parts();
        Self { connection, started, shop, engine, cause, now: None }
    }

    /// The context of what a tx step or a tx undo of a saga does. An undo is the shop's own decision, so its actor is the shop.
    pub fn of_step(shop: &'a Shop, tx: &'a mut StepTx<'_>) -> Self {
        let (engine, mut cause) = (tx.engine(), Cause::of_step(tx.of()));
        if tx.is_undo() {
            cause.actor = Actor::System;
        }
        Self::new(shop, engine, tx, cause)
    }

    /// The context of a step that several instances do together. Each of them has its own cause; that of the context is the shop.
    pub fn of_steps(shop: &'a Shop, tx: &'a mut StepsTx<'_>) -> Self {
        let engine = tx.engine();
        Self::new(shop, engine, tx, Cause::of_system(Uuid::now_v7()))
    }

    /// Business time of the transaction. 1 round trip, unless a statement has told it already ([`Context::learn_now`]).
    ///
    /// # Errors
    /// The database's.
    pub async fn now(&mut self) -> Result<DateTime<Utc>, sqlx::Error> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = sqlx::query_scalar("-- context: now\nselect saga.now()")
            .fetch_one(&mut *self.connection)
            .await?;
        self.now = Some(now);
        Ok(now)
    }

    /// Business time, as a statement of this transaction has returned it.
    pub fn learn_now(&mut self, now: DateTime<Utc>) {
        self.now = Some(now);
    }

    /// Starts a saga, which inherits the cause. Cost: [`Engine::start`].
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start<S: Saga>(&mut self, start: Start<S::Input>) -> Result<Started, StartError> {
        let start = start.because(self.cause.text());
        let engine = self.engine;
        engine.start::<S>(self, start).await
    }

    /// Starts instances of a saga, each of which inherits its own cause. Cost: [`Engine::start_many`].
    ///
    /// # Errors
    /// As [`Engine::start_many`].
    pub async fn start_each<S: Saga>(
        &mut self,
        starts: Vec<(&Cause, Start<S::Input>)>,
    ) -> Result<Vec<Started>, StartError> {
        let starts = starts.into_iter().map(|(cause, start)| start.because(cause.text())).collect();
        let engine = self.engine;
        engine.start_many::<S>(self, starts).await
    }

    /// Signals a saga. Cost: [`Engine::signal`].
    ///
    /// # Errors
    /// As [`Engine::signal`].
    pub async fn signal<S: Saga>(
        &mut self,
        id: Uuid,
        signal_id: &str,
        signal: S::Signal,
    ) -> Result<Answer, SignalError> {
        self.engine.signal::<S>(self.connection, id, signal_id, signal).await
    }
}

impl Deref for Context<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

impl Starts for Context<'_> {
    fn parts(&mut self) -> (&mut PgConnection, &mut HandOver) {
        (&mut *self.connection, &mut *self.started)
    }
}
