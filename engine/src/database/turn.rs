//! Opening only a few connections at the same time.
//!
//! After an outage every loop of every process connects again at the same moment. A server that is slow, or has just started, then works at all of
//! these log-ins at once and finishes none of them in time. Each client gives up and begins again, and leaves the server a log-in that nobody waits
//! for. So a process opens a few connections at the same time, and waits longer after each one that took too long.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{CONNECT, within};

/// The number of connections that one process opens at the same time; pools open theirs besides.
const AT_ONCE: usize = 4;

/// How often the time limit may double.
const DOUBLINGS: u32 = 2;

/// The longest that opening a connection may take, once it is its turn.
pub(super) const LONGEST: Duration = CONNECT.saturating_mul(1 << DOUBLINGS);

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// How many connections in a row took too long.
static SLOW: AtomicU32 = AtomicU32::new(0);

/// Opens a connection when it is its turn. That may take [`CONNECT`], and up to [`LONGEST`] while the server is slow.
///
/// # Errors
/// The database's, or a time-out as [`sqlx::Error::Io`].
pub(super) async fn in_turn<T>(
    connecting: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let _turn = TURNS.acquire().await.expect("the semaphore is never closed");
    let begun = Instant::now();
    let full = CONNECT.saturating_mul(1 << SLOW.load(Relaxed).min(DOUBLINGS));
    // Several processes that began together do not give up together.
    let limit = full.mul_f64(rand::random_range(0.8..=1.0));
    let connected = within(limit, connecting).await;
    match &connected {
        Ok(_) if begun.elapsed() < CONNECT / 2 => SLOW.store(0, Relaxed),
        Err(_) if begun.elapsed() >= limit => {
            SLOW.fetch_add(1, Relaxed);
        }
        Ok(_) | Err(_) => {}
    }
    connected
}
