//! The transaction in which instances are started: its commit hands them to the worker of this process.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, Postgres};

use crate::{
    database,
    worker::{
        engine::Engine,
        hand_over::{HandOver, Starts},
    },
};

/// A transaction in which instances may be started. It derefs to the connection, for everything else that is done in it.
///
/// [`Engine::begin`] begins one, and [`From`] makes one of a transaction that was begun on another pool. [`Transaction::commit`] hands what was started
/// in it to the worker of this process, if there is one. Nothing is handed over when it is rolled back or dropped. A caller whose transaction is
/// committed by somebody else wraps its connection with [`Transaction::over`] for a while.
///
/// ```
/// # use stepwise_engine::*;
/// # async fn f<S: Saga>(engine: &Engine, start: Start<S::Input>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = engine.begin().await?;
/// sqlx::query("insert into invoice default values").execute(&mut *tx).await?;
/// let started = engine.start::<S>(&mut tx, start).await?;
/// tx.commit().await?; // both, or neither; the instance is driven now
/// # let _ = started.id; Ok(()) }
/// ```
///
/// Roll back to a savepoint with the nested transactions of `sqlx` and [`Transaction::over`], not with SQL text: the commit does not see text.
pub struct Transaction<C = Begun> {
    connection: C,
    started: HandOver,
}

/// A transaction that its [`Transaction`] ends.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
///
/// /// Starts a seat in the transaction of a larger command, which commits it.
/// async fn start_seat(engine: &Engine, tx: &mut Transaction<Begun>) -> Result<Started, StartError> {
///     engine.start::<Seat>(tx, Start::new("guest 7", 7)).await
/// }
/// ```
pub struct Begun(sqlx::Transaction<'static, Postgres>);

/// It fails where a statement of the transaction had failed before: Postgres answers `commit` then without an error, although it rolls back. The empty
/// transaction that it begins in the same round trip is the one that `sqlx` rolls back, in the round trip in which the pool tests the connection.
const COMMIT: &str = "-- name: commit\nselect; commit and chain";

impl Engine {
    /// Begins a transaction on the engine's pool, for statements that find their rows by a key: they are planned once, and without sequential scans.
    /// For lists and sums begin one on the pool, and make a [`Transaction`] of it by [`From`]. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        database::begin(self.pool()).await.map(Transaction::from)
    }
}

impl From<sqlx::Transaction<'static, Postgres>> for Transaction {
    fn from(begun: sqlx::Transaction<'static, Postgres>) -> Self {
        Self { connection: Begun(begun), started: HandOver::default() }
    }
}

impl Transaction {
    /// Commits, then has the worker of this process, if there is one, drive at once what was started. Round trips: 1.
    ///
    /// # Errors
    /// The database's; also where a statement had failed after a start and the failure was passed over, so that nothing can be
    /// committed. Nothing is handed over then. If it is not known whether the commit was done (the connection was lost), a worker finds what was
    /// started within about 4 seconds.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { connection: Begun(mut tx), started } = self;
        if started.is_empty() {
            tx.commit().await?;
        } else {
            sqlx::raw_sql(COMMIT).execute(&mut *tx).await?;
            // Its rollback is that of an empty transaction, and takes no round trip of its own.
            drop(tx);
        }
        started.drive();
        Ok(())
    }

    /// Rolls back; nothing remains of what was started. Round trips: 1.
    ///
    /// # Errors
    /// The database's; the transaction is rolled back all the same.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.connection.0.rollback().await
    }
}

impl<'c> Transaction<&'c mut PgConnection> {
    /// Over the connection of a caller that has begun a transaction and commits it itself.
    ///
    /// ```
    /// # use stepwise_engine::*;
    /// # async fn f<S: Saga>(engine: &Engine, pool: &sqlx::PgPool, start: Start<S::Input>) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut tx = pool.begin().await?;
    /// let mut joined = Transaction::over(&mut tx);
    /// engine.start::<S>(&mut joined, start).await?;
    /// let started = joined.hand_over_later();
    /// tx.commit().await?;
    /// started.after_commit();
    /// # Ok(()) }
    /// ```
    pub fn over(connection: &'c mut PgConnection) -> Self {
        Self { connection, started: HandOver::default() }
    }

    /// The instances that were started in it, for after the caller's commit.
    pub fn hand_over_later(self) -> HandOver {
        self.started
    }
}

impl Deref for Begun {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Begun {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl<C: Deref<Target = PgConnection>> Deref for Transaction<C> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl<C: DerefMut<Target = PgConnection>> DerefMut for Transaction<C> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl<C: DerefMut<Target = PgConnection> + Send> Starts for Transaction<C> {
    fn parts(&mut self) -> (&mut PgConnection, &mut HandOver) {
        (&mut self.connection, &mut self.started)
    }
}
