//! The instances that a transaction has started, until its commit hands them to the worker of this process.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::worker::{
    driving::{Driven, Origin},
    state::Worker,
};

/// A transaction in which instances may be started: [`crate::Transaction`], and [`crate::StepTx`] or [`crate::StepsTx`] of tx steps. A type that
/// wraps one of them passes its parts on.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
///
/// /// Starts a seat, whoever commits.
/// async fn start_seat(engine: &Engine, tx: &mut impl Starts) -> Result<Started, StartError> {
///     engine.start::<Seat>(tx, Start::new("guest 7", 7)).await
/// }
/// ```
pub trait Starts: Send {
    /// The connection, and where the instances are noted that the commit hands over.
    fn parts(&mut self) -> (&mut PgConnection, &mut HandOver);
}

/// The instances that were started in a transaction that its caller commits.
///
/// If it is dropped, or the process runs no worker, other workers or the sweep of this one find the instances within about 4 seconds.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
/// use sqlx::{Connection as _, PgConnection};
///
/// async fn start_seat(engine: &Engine, tx: &mut PgConnection) -> Result<HandOver, StartError> {
///     let mut joined = Transaction::over(tx);
///     engine.start::<Seat>(&mut joined, Start::new("guest 7", 7)).await?;
///     Ok(joined.hand_over_later())
/// }
///
/// # async fn f(engine: &Engine, connection: &mut PgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = connection.begin().await?;
/// let started = start_seat(engine, &mut tx).await?;
/// tx.commit().await?;
/// started.after_commit();
/// # Ok(()) }
/// ```
#[derive(Default)]
#[must_use = "call `after_commit` once the transaction is committed"]
pub struct HandOver {
    started: Vec<(Arc<Worker>, Driven)>,
    /// The worker that may admit those that wait in a queue.
    queues: Option<Arc<Worker>>,
}

impl HandOver {
    /// Was nothing started that this process drives?
    pub(crate) fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    /// Has the worker of this process, if there is one, drive at once what was started. Each instance is read first, so that one whose transaction was
    /// rolled back calls nothing outside.
    pub fn after_commit(mut self) {
        for (_, driven) in &mut self.started {
            driven.origin = Origin::Unread(driven.id);
        }
        self.drive();
    }

    /// Adds what was started in a part of the same transaction.
    pub(crate) fn add(&mut self, part: Self) {
        self.started.extend(part.started);
        self.queues = part.queues.or(self.queues.take());
    }

    /// Adds an instance that this transaction has started and that the worker owns.
    pub(crate) fn add_started(&mut self, worker: &Arc<Worker>, driven: Driven) {
        self.started.push((worker.clone(), driven));
    }

    pub(crate) fn queue(&mut self, worker: &Arc<Worker>) {
        self.queues = Some(worker.clone());
    }

    /// Its transaction is committed for sure.
    pub(crate) fn drive(self) {
        for (worker, driven) in self.started {
            worker.hand(driven);
        }
        if let Some(worker) = self.queues {
            worker.upkeep.notify_one();
        }
    }
}
