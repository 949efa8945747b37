//! Health and metrics of a process without a front door, on a port of their own: `/healthz`, `/readyz`, `/metrics`.

use std::{io, sync::Arc, time::Duration};

use poem::{
    Endpoint, EndpointExt as _, Response, Route, Server, endpoint::make, get, http::StatusCode,
    listener::TcpAcceptor,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::database;
use tokio_util::sync::CancellationToken;

use crate::{
    door::measure,
    readiness::{PartState, Readiness, Report},
};

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long requests may still run once the process is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// Checks the database and the parts of this process at each request.
pub struct Monitor {
    db: PgPool,
    readiness: Readiness,
}

impl Monitor {
    /// Creates a monitor. Nothing else should use `db`, so that a check never waits for a connection.
    #[must_use]
    pub fn new(db: PgPool, readiness: Readiness) -> Self {
        Self { db, readiness }
    }

    /// Whether the database answers and the part that this process runs works.
    async fn ready(&self) -> (StatusCode, Value) {
        let asked = sqlx::query("-- ready\nselect 1").execute(&self.db);
        let unanswered = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some("the database refuses the connection or is away"),
            Err(_) => {
                // Called before the connection is handed out again.
                database::suspect();
                Some("the database does not answer")
            }
        };
        let Report { database, worker, relay, gateway, paypal, broker } =
            self.readiness.report().await;
        let database = unanswered.map_or(database, |why| PartState::Away(why.to_owned()));
        let works = [&database, &worker, &relay].iter().all(|part| !part.is_away());
        let (status, word) = match works {
            true => (StatusCode::OK, "ok"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "away"),
        };
        let parts = [
            ("database", database),
            ("worker", worker),
            ("relay", relay),
            ("gateway", gateway),
            ("paypal", paypal),
            ("broker", broker),
        ];
        let mut shown = json!({ "status": word, "version": env!("CARGO_PKG_VERSION") });
        for (name, part) in parts {
            shown[name] = match part {
                PartState::Ok => json!({ "state": "ok" }),
                PartState::Elsewhere => json!({ "state": "elsewhere" }),
                PartState::Away(reason) => json!({ "state": "away", "reason": reason }),
            };
        }
        (status, shown)
    }
}

/// Serves requests until `stop` is cancelled.
pub async fn serve(
    listener: tokio::net::TcpListener,
    monitor: Monitor,
    stop: CancellationToken,
) -> io::Result<()> {
    measure::start();
    Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?)
        .run_with_graceful_shutdown(app(Arc::new(monitor)), stop.cancelled_owned(), Some(GRACE))
        .await
}

fn app(monitor: Arc<Monitor>) -> impl Endpoint {
    let asked = Arc::clone(&monitor);
    let ready = make(move |_| {
        let monitor = Arc::clone(&asked);
        async move {
            let (status, shown) = monitor.ready().await;
            Response::builder()
                .status(status)
                .content_type("application/json")
                .body(shown.to_string())
        }
    });
    let metrics = make(move |_| {
        let monitor = Arc::clone(&monitor);
        async move { measure::response(&monitor.db, &monitor.readiness).await }
    });
    let health = make(|_| async { r#"{"status":"ok"}"# });
    Route::new()
        .at("/healthz", get(health))
        .at("/readyz", get(ready))
        .at("/metrics", get(metrics))
        .map_to_response()
}
