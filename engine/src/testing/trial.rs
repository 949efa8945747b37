//! A saga on trial: what tests of crashes and of unwinding run, again and again, on a real Postgres.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use sqlx::{PgPool, migrate::Migrator};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::samples::Samples;
use crate::{
    base::{id::shard_in, status::Status},
    record::row::Row,
    saga::Saga,
    store::{self, migrations::migrations},
    worker::{
        engine::{Engine, EngineBuilder},
        perform::{DoneBy, Performer},
    },
};

/// After a crash an instance must end within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A saga with its outside world, run many times. The outside (a scripted provider, its book) must live in the trial: it
/// survives a crash, as the real one does.
///
/// ```
/// # mod seat {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs"));
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat_samples.rs"));
/// # }
/// # use seat::*;
/// # use stepwise_engine::{*, testing::*};
/// use uuid::Uuid;
///
/// struct Confirmed;
///
/// impl Trial for Confirmed {
///     type Saga = Seat;
///     type Services = Workshop;
///
///     fn services(&self, _: sqlx::PgPool) -> Workshop {
///         Workshop
///     }
///
///     async fn start(&self, engine: &Engine, run: usize) -> Uuid {
///         start::<Seat>(engine, Start::new(format!("guest {run}"), 7)).await
///     }
///
///     async fn play(&self, engine: &Engine, id: Uuid) {
///         signal::<Seat>(engine, id, "host-1", Signal::Confirms).await;
///     }
///
///     async fn balances(&self, _: &Engine, id: Uuid, status: Status) -> Result<(), String> {
///         // Compare the domain's tables and the bank's book here.
///         if status == Status::Stuck { Err(format!("{id} needs a person")) } else { Ok(()) }
///     }
/// }
///
/// # fn test() {
/// let Survived { at, refused, .. } = survives_every_crash(&Confirmed);
/// println!("{} kinds of crash points, and {refused} refused commits, were survived", at.len());
/// let Unwound { points, .. } = unwinds_from_every_step(&Confirmed);
/// assert!(points.iter().any(|point| point == "cancelled after Charge"));
/// # }
/// ```
pub trait Trial: Sync {
    /// The saga on trial.
    type Saga: Samples + Saga<Step: DoneBy<Self::Services>>;

    /// The value that does its steps.
    type Services: Send + Sync + 'static;

    /// The migrations of the trial's database. Default: the engine's.
    fn migrations(&self) -> Vec<Migrator> {
        vec![migrations()]
    }

    /// Fills the database, once.
    fn prepare(&self, _pool: &PgPool) -> impl Future<Output = ()> {
        async {}
    }

    /// The value that does the saga's steps. Called for every process that begins.
    fn services(&self, pool: PgPool) -> Self::Services;

    /// Adds the other sagas that take part ([`EngineBuilder::explored`]).
    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        builder
    }

    /// Starts run number `run`: in a transaction of its own, about a subject of its own.
    fn start(&self, engine: &Engine, run: usize) -> impl Future<Output = Uuid>;

    /// Does what the outside does to the instance meanwhile (signals, a clock that moves), until it ends: it may end before the story is
    /// over. After a crash it is done again, so give signals fixed ids.
    fn play(&self, _engine: &Engine, _id: Uuid) -> impl Future<Output = ()> {
        async {}
    }

    /// The instance has ended or got stuck, as `status` says: do all books balance? Look at the books of the domain and at those of the
    /// outside; the engine's own ledger has been looked at.
    ///
    /// # Errors
    /// The books that do not balance, in words.
    fn balances(
        &self,
        engine: &Engine,
        id: Uuid,
        status: Status,
    ) -> impl Future<Output = Result<(), String>>;
}

/// An engine for the trial, with the steps as the caller has wrapped them. Only a sound saga is tried: what exploring finds needs no
/// database.
pub(super) fn engine<T: Trial>(trial: &T, pool: PgPool, steps: impl Performer<T::Saga>) -> Engine {
    // Its children are explored before it.
    let builder = trial.others(Engine::builder(pool));
    super::explore::<T::Saga>().assert_sound();
    builder.performed_by::<T::Saga, _>(steps).build()
}

/// All books: the ledger, then the trial's own.
///
/// # Panics
/// When they do not balance; `point` says what was done.
pub(super) async fn must_balance<T: Trial>(
    trial: &T,
    engine: &Engine,
    id: Uuid,
    status: Status,
    point: &str,
) {
    let ledger = ledger_balances(engine.pool(), id, status).await;
    let why = match ledger {
        Ok(()) => trial.balances(engine, id, status).await,
        unbalanced => unbalanced,
    };
    if let Err(why) = why {
        panic!("{point}: {why} (the instance is {})", status.as_str());
    }
}

/// Of an instance that has ended, every effect is known; of one that was unwound, none stands.
async fn ledger_balances(pool: &PgPool, id: Uuid, status: Status) -> Result<(), String> {
    if !status.is_final() {
        return Ok(());
    }
    let open: Vec<(i32, String, String)> = sqlx::query_as(
        "-- name: testing: effects that stand
        select step_no, kind, status from saga.effect
        where shard = $1 and saga_id = $2 and (status = 'intent' or status = 'confirmed' and $3) order by step_no",
    )
    .bind(shard_in(id))
    .bind(id)
    .bind(status == Status::Unwound)
    .fetch_all(pool)
    .await
    .expect("a trial's database answers");
    match open.first() {
        None => Ok(()),
        Some((no, kind, stands)) => Err(format!(
            "the ledger does not balance: step {no} has left its effect `{kind}` as {stands}"
        )),
    }
}

/// Waits until the instance has ended or needs a person; `meanwhile` is called every 2 ms.
///
/// # Panics
/// When that takes longer than 20 seconds; `point` says what was done.
pub(super) async fn ended<F: Future<Output = ()>>(
    pool: &PgPool,
    id: Uuid,
    point: &str,
    meanwhile: impl Fn() -> F,
) -> Row {
    let begun = Instant::now();
    loop {
        let row = store::instance(pool, shard_in(id), id)
            .await
            .expect("a trial's database answers")
            .expect("a started instance is there");
        if row.status.is_final() || row.status.needs_operator() {
            return row;
        }
        assert!(begun.elapsed() < PATIENCE, "{point}: no end within {PATIENCE:?}: {row:?}");
        meanwhile().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Does what the trial says; if it panics, `point` says what was done.
///
/// # Panics
/// As the trial does.
pub(super) async fn told<O>(point: &str, story: impl Future<Output = O>) -> O {
    match AssertUnwindSafe(story).catch_unwind().await {
        Ok(done) => done,
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            panic!("{point}: {}", why.unwrap_or("the trial panicked"))
        }
    }
}

/// A process of a trial has a runtime of its own.
pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a machine that runs tests has threads")
}
