//! The instances that a transaction has started, until its commit hands them to the worker of this process.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::worker::{
    held::{Held, Position},
    state::Worker,
};

/// A transaction in which instances may be started: [`crate::Transaction`], and [`crate::StepTx`] of a tx step. A type that wraps one of them
/// passes its parts on.
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
    held: Vec<(Arc<Worker>, Held)>,
    /// The worker that may admit those that wait in a queue.
    queues: Option<Arc<Worker>>,
}

impl HandOver {
    /// Was nothing started that this process drives?
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Has the worker of this process, if there is one, drive at once what was started. Each instance is read first, so that one whose transaction was
    /// rolled back calls nothing outside.
    pub fn after_commit(mut self) {
        for (_, held) in &mut self.held {
            held.position = Position::Unread(held.id);
        }
        self.drive();
    }

    /// Adds what was started in a part of the same transaction.
    pub(crate) fn add(&mut self, part: Self) {
        self.held.extend(part.held);
        self.queues = part.queues.or(self.queues.take());
    }

    pub(crate) fn hold(&mut self, worker: &Arc<Worker>, held: Held) {
        self.held.push((worker.clone(), held));
    }

    pub(crate) fn queue(&mut self, worker: &Arc<Worker>) {
        self.queues = Some(worker.clone());
    }

    /// Its transaction is committed for sure.
    pub(crate) fn drive(self) {
        for (worker, held) in self.held {
            worker.hand(held);
        }
        if let Some(worker) = self.queues {
            worker.round.notify_one();
        }
    }
}
