//! The condition of the database, as all parts of this process have found it.
//!
//! A process works on one database, so this is one value per process. Code that meets an error [`note`]s it, and code that opens or tests a
//! connection reports the result. The log gets one line when trouble has lasted for a moment, and one when it is over.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, Row as _};

use crate::base::failure::Failure;

/// Shorter trouble is not logged: a session was ended, and the next one works.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// The condition of the database.
///
/// ```
/// use stepwise_engine::database::{self, Condition};
///
/// fn may_take_orders() -> bool {
///     database::condition() == Condition::Good
/// }
/// assert!(may_take_orders(), "no connection of this process has met trouble");
///
/// database::note(&sqlx::Error::Protocol("the server is gone".to_owned()));
/// assert_eq!(database::condition(), Condition::Away);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It takes reads and writes.
    Good,
    /// It answers, but refuses to write: it was switched to read-only, or is a standby.
    ReadOnly,
    /// It answers, and has no room on its disk.
    DiskFull,
    /// It does not answer, or takes no connections.
    Away,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    condition: Condition,
    /// Since when, if it is not good.
    since: Option<Instant>,
    /// The last trouble of any connection.
    trouble: Option<Instant>,
    /// The log has a line about the present trouble.
    logged: bool,
}

static KNOWN: Mutex<Known> =
    Mutex::new(Known { condition: Condition::Good, since: None, trouble: None, logged: false });

/// How the database of this process is now.
#[must_use]
pub fn condition() -> Condition {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).condition
}

/// Whether it has not answered for so long.
#[must_use]
pub fn has_been_away_for(time: Duration) -> bool {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.condition == Condition::Away && known.since.is_some_and(|since| since.elapsed() > time)
}

/// Records what an error says about the database. Returns true if the log has a line about this trouble, or gets one if it lasts. The caller then
/// need not write another.
pub fn note(error: &sqlx::Error) -> bool {
    match condition_of(error) {
        Some(worse) => {
            worsen(worse, error);
            true
        }
        // All connections are in use, or none can be opened: the error does not tell.
        None if matches!(error, sqlx::Error::PoolTimedOut) => condition() != Condition::Good,
        None => false,
    }
}

/// Makes pools test every connection that is open now before they hand it out again. Called when something took longer than it may, and a connection
/// may be to blame.
pub fn suspect() {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).trouble = Some(Instant::now());
}

/// The condition of the database by an error that it gave. `None`: the error is about the statement.
fn condition_of(error: &sqlx::Error) -> Option<Condition> {
    match Failure::of(error) {
        Failure::ReadOnly => Some(Condition::ReadOnly),
        Failure::DiskFull => Some(Condition::DiskFull),
        Failure::Away => Some(Condition::Away),
        Failure::LostRace
        | Failure::Locked
        | Failure::Overloaded
        | Failure::Schema
        | Failure::Refused => None,
    }
}

fn worsen(worse: Condition, error: &sqlx::Error) {
    let now = Instant::now();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let since = *known.since.get_or_insert(now);
    // A server that has no room refuses some sessions as well.
    let is_answer = matches!(error, sqlx::Error::Database(_));
    let is_full = known.condition == Condition::DiskFull && is_answer;
    let worse = if is_full { Condition::DiskFull } else { worse };
    if worse != Condition::DiskFull {
        known.trouble = Some(now);
    }
    if known.condition != worse {
        // A line for each state.
        known.logged = false;
        known.condition = worse;
    }
    let tell = !known.logged && now.duration_since(since) >= WORTH_A_LINE;
    known.logged |= tell;
    drop(known);
    match worse {
        _ if !tell => tracing::debug!(%error, "trouble with a connection to the database"),
        Condition::ReadOnly => {
            tracing::warn!("the database takes no writes at the moment; everything waits for it");
        }
        Condition::DiskFull => {
            tracing::warn!(%error, "the disk of the database is full; what is to be written waits for room");
        }
        _ if is_out_of_files(error) => {
            tracing::warn!(
                %error,
                "this process has no file descriptor left to reach the database with; everything waits for one (ulimit -n)"
            );
        }
        _ => tracing::warn!(%error, "the database does not answer; everything waits for it"),
    }
}

/// Whether no connection could be opened because this process (EMFILE) or this machine (ENFILE) has too many files open.
#[must_use]
pub fn is_out_of_files(error: &sqlx::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error, sqlx::Error::Io(error) if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}

/// A connection works, and may write.
fn works() {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(since) = known.since.take() else { return };
    let logged = std::mem::take(&mut known.logged);
    known.condition = Condition::Good;
    // Connections that lie idle since before now may be worse than the one that was asked.
    known.trouble = Some(Instant::now());
    drop(known);
    if logged {
        let seconds = since.elapsed().as_secs_f64();
        tracing::info!(seconds, "the database takes reads and writes again");
    }
}

/// Whether no connection has met trouble for so long. A full disk is no trouble of a connection: those that are open can read, and new ones may be
/// refused.
pub(super) fn has_been_good_for(time: Duration) -> bool {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    matches!(known.condition, Condition::Good | Condition::DiskFull)
        && known.trouble.is_none_or(|at| at.elapsed() > time)
}

/// Asks over this connection whether its server takes writes, and records the answer. Round trips: 1.
pub(super) async fn ask(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::raw_sql(
        "-- name: database takes writes
        select not (pg_is_in_recovery() or current_setting('transaction_read_only')::boolean)",
    )
    .fetch_one(connection)
    .await
    .and_then(|row| row.try_get::<bool, _>(0));
    match &asked {
        // Whether there is room again, only a write can tell.
        Ok(true) if condition() == Condition::DiskFull => {}
        Ok(true) => works(),
        Ok(false) => worsen(Condition::ReadOnly, &sqlx::Error::RowNotFound),
        Err(error) => {
            note(error);
        }
    }
    asked
}

/// Tries over this connection whether the server has room on its disk, by writing a few pages, and records the result. Round trips: 1.
pub(super) async fn try_room(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let written = sqlx::raw_sql(
        "-- name: database has room
        create temp table room on commit drop as select generate_series(1, 1000)",
    )
    .execute(connection)
    .await;
    match written {
        Err(error) if note(&error) => Err(error),
        _ => {
            works();
            Ok(())
        }
    }
}
