//! Health of the server: whether it is alive, and whether it is ready.

use poem_openapi::{Object, OpenApi};

use super::{
    Group,
    words::{OkWord, PartWords, Word},
};
use crate::{
    door::{caller::Watcher, problem::Problem, reply::Done},
    readiness::{PartState, Report},
};

/// The operations about the server itself.
pub struct System;

/// The answer of a live server.
#[derive(Debug, Object)]
struct Health {
    /// Always `ok`; any other state is answered with a problem.
    status: Word<OkWord>,
    /// The version of the program.
    version: String,
}

impl Health {
    fn ok() -> Self {
        Self { status: "ok".into(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// The answer of a ready process, with the states of its other parts.
#[derive(Debug, Object)]
struct Ready {
    /// Always `ok`; a process that is not ready answers with a problem.
    status: Word<OkWord>,
    version: String,
    /// `away` if it answers, but takes no writes or has no room on its disk.
    database: PartShape,
    worker: PartShape,
    relay: PartShape,
    gateway: PartShape,
    paypal: PartShape,
    broker: PartShape,
}

/// The state of one part.
#[derive(Debug, Object)]
#[oai(rename = "Part", skip_serializing_if_is_none)]
struct PartShape {
    /// `ok`, `away`, or `elsewhere` if this process does not use the part.
    state: Word<PartWords>,
    /// The reason why it is away.
    reason: Option<String>,
}

impl From<PartState> for PartShape {
    fn from(part: PartState) -> Self {
        let (state, reason) = match part {
            PartState::Ok => ("ok", None),
            PartState::Away(reason) => ("away", Some(reason)),
            PartState::Elsewhere => ("elsewhere", None),
        };
        Self { state: state.into(), reason }
    }
}

#[OpenApi(tag = "Group::System")]
impl System {
    /// Check whether the process is alive. Uses nothing outside the process.
    #[oai(path = "/healthz", method = "get", operation_id = "health")]
    async fn health(&self, _by: Watcher) -> Result<Done<Health>, Problem> {
        Ok(Done::new(&Health::ok()))
    }

    /// Check whether the process is ready for requests: the database answers, and the process was not told to
    /// stop. The states of the other parts are only shown; an order placed while one of them is away continues later.
    #[oai(path = "/readyz", method = "get", operation_id = "ready")]
    async fn ready(&self, by: Watcher) -> Result<Done<Ready>, Problem> {
        if by.door.stopping.is_cancelled() {
            return Err(Problem::unavailable("stopping", "The process is about to stop."));
        }
        sqlx::query("-- ready\nselect 1").execute(&by.door.db).await?;
        let Health { status, version } = Health::ok();
        let Report { database, worker, relay, gateway, paypal, broker } =
            by.door.readiness.report().await;
        Ok(Done::new(&Ready {
            status,
            version,
            database: database.into(),
            worker: worker.into(),
            relay: relay.into(),
            gateway: gateway.into(),
            paypal: paypal.into(),
            broker: broker.into(),
        }))
    }
}
