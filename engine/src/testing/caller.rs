//! The calls of a caller of the engine, each in a transaction of its own.

use uuid::Uuid;

use crate::{
    instance::signal::Answer,
    saga::{Saga, start::Start},
    worker::{
        engine::Engine,
        hand_over::Starts,
        step_tx::{StepOf, StepTx},
    },
};

/// Starts an instance in a transaction of its own.
///
/// # Panics
/// When it cannot be started.
pub async fn start<S: Saga>(engine: &Engine, start: Start<S::Input>) -> Uuid {
    let mut tx = engine.begin().await.expect("the database is there");
    let started = engine.start::<S>(&mut tx, start).await.expect("it can be started");
    tx.commit().await.expect("the database is there");
    started.id
}

/// The transaction of a tx step of an instance that is not there, to call a method of a saga's steps by itself.
pub fn step<'a>(engine: &'a Engine, tx: &'a mut impl Starts, subject: &'a str) -> StepTx<'a> {
    let (connection, started) = tx.parts();
    let of = StepOf { instance: Uuid::nil(), subject, because: None };
    StepTx { connection, started, engine, of, is_undo: false }
}

/// Gives an instance a signal in a transaction of its own.
///
/// # Panics
/// When it cannot be signalled.
pub async fn signal<S: Saga>(
    engine: &Engine,
    id: Uuid,
    signal_id: &str,
    given: S::Signal,
) -> Answer {
    let mut tx = engine.begin().await.expect("the database is there");
    let answer = engine.signal::<S>(&mut tx, id, signal_id, given).await;
    tx.commit().await.expect("the database is there");
    answer.expect("it can be signalled")
}
