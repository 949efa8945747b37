//! Connections that never wait for ever.
//!
//! Every connection of every process is opened here, with limits on both sides. The server ends a session that waits too long: for a lock, for the
//! end of a statement, for the next statement of an open transaction, or for a client that does not take its answer. This side gives up when the
//! server does not answer at all ([`in_time`]): a broken network says nothing, and sqlx would wait as long as TCP does, a quarter of an hour.
//!
//! A [`pool`] hands out no connection that was lost while it was idle, and leaves a server that has become read-only. For that it tests a connection
//! that has been idle for a moment, or that was opened before the last trouble ([`condition`]).
//!
//! [`Failure::of`] judges from an error whether trying again helps. All code that opens a connection, waits for an answer
//! or tries again uses this room.

mod condition;
mod listener;
pub(crate) mod trouble;
mod turn;
mod watch;

use std::{future::Future, io, pin::pin, time::Duration};

use sqlx::{
    Connection as _, Executor as _, PgConnection, PgPool, Postgres, SqlSafeStr as _,
    pool::{PoolConnection, PoolConnectionMetadata},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use crate::base::failure::Failure;

pub use condition::{Condition, condition, has_been_away_for, is_out_of_files, note, suspect};

pub(crate) use listener::Listener;

pub use watch::watch;

/// How long opening a connection may take; longer while the server is slow.
pub const CONNECT: Duration = Duration::from_secs(1);

/// How long the server may say nothing after a statement should have ended.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a transaction, or one turn of a loop, may take.
const WHOLE: Duration = Duration::from_secs(15);

/// How long sent data may stay unacknowledged before the server takes the client for gone.
const TCP_USER: Duration = Duration::from_secs(15);

/// How long an idle connection may take to show that it works.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// A connection that was used so recently is handed out without a test, unless there has been trouble since.
const FRESH: Duration = Duration::from_millis(5);

/// For how long after trouble every connection is tested. The last one that hangs has been given up by then.
const SUSPICION: Duration = Duration::from_secs(15);

/// How long a connection to a read-only server is kept: if the next one is no better, readers still have this one.
const READ_ONLY_AGE: Duration = Duration::from_secs(1);

/// How long a session may wait before the server ends the statement or the session.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::database::{self, Waits};
///
/// # async fn f() -> Result<sqlx::PgPool, sqlx::Error> {
/// // For a page that must not wait: it shows an older figure instead.
/// let waits = Waits { statement: Duration::from_millis(200), ..Waits::USUAL };
/// let options = "postgres://localhost/shop".parse()?;
/// let pool = database::pool(options, waits, 2, Duration::from_millis(200));
/// # Ok(pool) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For a lock.
    pub lock: Duration,
    /// For the end of a statement.
    pub statement: Duration,
    /// For the next statement of an open transaction. The locks of a process that freezes in a transaction are released then.
    pub idle_in_transaction: Duration,
}

impl Waits {
    /// For everything that answers requests or drives sagas.
    pub const USUAL: Self = Self {
        lock: Duration::from_secs(1),
        statement: Duration::from_secs(5),
        idle_in_transaction: Duration::from_secs(15),
    };

    /// For a person's command, which may read much and delays nobody.
    pub const COMMAND: Self = Self { statement: Duration::from_secs(60), ..Self::USUAL };

    /// For cleaning up, which may take long and gives way to everything else.
    pub const HOUSEKEEPING: Self = Self {
        lock: Duration::from_millis(200),
        statement: Duration::from_secs(60),
        ..Self::USUAL
    };

    /// For migrations, which wait for one another and may rewrite a table.
    pub const MIGRATION: Self = Self {
        lock: Duration::from_secs(60),
        statement: Duration::from_secs(3_600),
        idle_in_transaction: Duration::from_secs(60),
    };
}

/// Adds these limits for each session to the options, and sets everything else that decides the result of a statement, whatever the defaults of the
/// server, the database or the role are.
#[must_use]
pub fn bounded(options: PgConnectOptions, waits: Waits) -> PgConnectOptions {
    let ms = |wait: Duration| wait.as_millis().to_string();
    options.options([
        ("lock_timeout", ms(waits.lock)),
        ("statement_timeout", ms(waits.statement)),
        ("idle_in_transaction_session_timeout", ms(waits.idle_in_transaction)),
        ("tcp_user_timeout", ms(TCP_USER)),
        // The server notices within half a minute that an idle client has disappeared.
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_deferrable", "off".to_owned()),
    ])
}

/// Opens one connection, when it is its turn. That may take [`CONNECT`], or a few seconds while the server is slow.
///
/// # Errors
/// The database's, or a time-out as [`sqlx::Error::Io`].
pub async fn connect(options: PgConnectOptions, waits: Waits) -> Result<PgConnection, sqlx::Error> {
    let options = bounded(options, waits);
    turn::in_turn(PgConnection::connect_with(&options)).await
}

/// Runs work that asks the database for one answer, within [`Waits::USUAL`] and a moment. If it takes longer, the server or the network has gone
/// silent: this gives up, and the connection must not be used again.
///
/// # Errors
/// Those of `work`, or a time-out as [`sqlx::Error::Io`].
pub async fn in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(Waits::USUAL.statement + SILENCE, work).await
}

/// The same for a whole transaction, or for several statements of a loop.
///
/// # Errors
/// Those of `work`, or a time-out as [`sqlx::Error::Io`].
pub(crate) async fn all_in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(WHOLE, work).await
}

/// The same with a limit of one's own.
///
/// # Errors
/// Those of `work`, or a time-out as [`sqlx::Error::Io`].
pub async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut work = pin!(work);
    match tokio::time::timeout(limit, work.as_mut()).await {
        Ok(done) => done,
        Err(_) => {
            let error = silent(limit);
            // Before `work` is dropped: its connection goes back to a pool that must not wait for it.
            note(&error);
            Err(error.into())
        }
    }
}

fn silent(limit: Duration) -> sqlx::Error {
    let text = format!("the database did not answer within {} ms", limit.as_millis());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// A pool of so many connections, none of them open yet. A caller waits for a connection for `patience` at most.
#[must_use]
pub fn pool(
    options: PgConnectOptions,
    waits: Waits,
    connections: u32,
    patience: Duration,
) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(patience)
        // Without a limit of time; `before_acquire` does it with one.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(look_at_new(connection)))
        .before_acquire(|connection, meta| Box::pin(is_of_use(connection, meta)))
        .after_release(|connection, _| Box::pin(may_be_kept(connection)))
        .connect_lazy_with(bounded(options, waits))
}

/// Begins a transaction for statements that find their rows by a key. Round trips: 1; it is also the test whether the connection lives, so there is
/// no other. If it does not, the transaction begins on another connection.
///
/// # Errors
/// The database's; none is free within the pool's patience.
pub async fn begin(pool: &PgPool) -> Result<sqlx::Transaction<'static, Postgres>, sqlx::Error> {
    let connection = UNTESTED.scope((), pool.acquire()).await?;
    if let Ok(begun) = begin_on(connection).await {
        return Ok(begun);
    }
    begin_on(pool.acquire().await?).await
}

/// Asks one question on any connection of the pool. It may be repeated, and waits for no lock. Round trips: 1; it is also the test whether the connection
/// lives, so there is no other. If it does not, or says nothing for 2 s, the question is asked once more, on a connection that was tested, and given up
/// like any other ([`in_time`]).
///
/// # Errors
/// Those of `question`; none is free within the pool's patience.
pub async fn ask<T, F: Future<Output = Result<T, sqlx::Error>>>(
    pool: &PgPool,
    question: impl Fn(PoolConnection<Postgres>) -> F,
) -> Result<T, sqlx::Error> {
    let connection = UNTESTED.scope((), pool.acquire()).await?;
    let answer = within(SILENCE, question(connection)).await;
    if !matches!(&answer, Err(error) if Failure::of(error) == Failure::Away) {
        return answer;
    }
    suspect();
    in_time(question(pool.acquire().await?)).await
}

/// If it fails or is given up, nobody knows whether the connection is in a transaction: it is tested before it is used again.
async fn begin_on(
    connection: PoolConnection<Postgres>,
) -> Result<sqlx::Transaction<'static, Postgres>, sqlx::Error> {
    let begin = sqlx::Transaction::begin(connection, Some(BEGIN.into_sql_str()));
    let mut begin = pin!(within(SIGN_OF_LIFE, begin));
    // Declared later, so it is dropped before the connection goes back to its pool.
    let unfinished = Unfinished;
    let begun = begin.as_mut().await?;
    std::mem::forget(unfinished);
    Ok(begun)
}

/// Its drop makes pools test their connections.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        suspect();
    }
}

/// A statement is planned once for each connection, whatever its parameters, and by an index: planning takes as long as executing it. It may have been
/// planned while its tables were empty, hence no sequential scan. Without an index, such a plan counts as expensive, which must not start the compiler.
const BEGIN: &str = "-- name: begin
begin; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; set local jit = off";

tokio::task_local! {
    /// The caller notices by itself that a connection is lost.
    static UNTESTED: ();
}

/// Tests a new connection. One to a read-only server is accepted, since it can still read.
async fn look_at_new(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    within(CONNECT, condition::ask(connection)).await.map(|_| ())
}

/// Whether an idle connection may be handed out. Round trips: none for one that was used a moment ago or that its caller tests ([`begin`]), unless
/// there has been trouble since; then 1.
async fn is_of_use(
    connection: &mut PgConnection,
    meta: PoolConnectionMetadata,
) -> Result<bool, sqlx::Error> {
    if condition::has_been_good_for(meta.idle_for) {
        let is_tested_later = UNTESTED.try_with(|()| ()).is_ok();
        return Ok(is_tested_later || meta.idle_for < FRESH || lives(connection).await);
    }
    let writable = within(SIGN_OF_LIFE, condition::ask(connection)).await;
    Ok(writable.is_ok_and(|writable| writable || meta.age < READ_ONLY_AGE))
}

async fn lives(connection: &mut PgConnection) -> bool {
    within(SIGN_OF_LIFE, connection.ping()).await.is_ok()
}

/// Whether the connection answers and is in no transaction. One whose caller was cancelled while it began is rolled back; where a statement of it had
/// failed, the connection is of no use.
async fn is_idle(connection: &mut PgConnection) -> bool {
    within(SIGN_OF_LIFE, connection.execute("-- name: is idle\nbegin; rollback")).await.is_ok()
}

/// Whether a connection may go back to its pool, which would otherwise wait for it without a limit. Round trips: none, unless there
/// is or was trouble.
async fn may_be_kept(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    Ok(condition::has_been_good_for(SUSPICION) || is_idle(connection).await)
}
