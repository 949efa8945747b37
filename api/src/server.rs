//! The HTTP server: listens, serves, and ends in good order.

use std::{io, sync::Arc, time::Duration};

use poem::{Server, listener::TcpAcceptor};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use crate::{door::Door, routes};

/// How long requests may still run once the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(75);

/// How long a request waits for a connection before it is a 503. Milliseconds.
const ACQUIRE_MS: u64 = 1_500;

/// The front door's pool. Nothing is tested before use: a request that meets a dead connection is
/// a 503, and the next one gets a new connection.
pub fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_millis(ACQUIRE_MS))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Serves the front door on `listener` until `stop`, then lets running requests end.
pub async fn serve(
    listener: tokio::net::TcpListener,
    door: Arc<Door>,
    stop: CancellationToken,
) -> io::Result<()> {
    crate::door::measure::start();
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    let sweeper = tokio::spawn(sweep(Arc::clone(&door), stop.clone()));
    let served = Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(routes::app(door), stop.cancelled_owned(), Some(GRACE))
        .await;
    sweeper.abort();
    served
}

/// Drops expired answers and quiet callers, once a minute.
async fn sweep(door: Arc<Door>, stop: CancellationToken) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    while stop.run_until_cancelled(minute.tick()).await.is_some() {
        door.limits.tidy();
        if let Err(error) = crate::door::idempotency::purge(&door.db).await {
            tracing::warn!(%error, "expired answers could not be dropped");
        }
    }
}
