//! Whether the server lives, and whether it can work.

use poem_openapi::{Object, OpenApi};

use super::Group;
use crate::{
    door::{caller::Anyone, problem::Problem, reply::Done},
    readiness::{PartState, Report},
};

/// The operations about the server itself.
pub struct System;

/// That a question was answered at all.
#[derive(Debug, Object)]
struct Health {
    /// Always `ok`: what is not ok is a problem.
    status: String,
    /// The version of the program.
    version: String,
}

impl Health {
    fn ok() -> Self {
        Self { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// That the process can work, and how its other parts are.
#[derive(Debug, Object)]
struct Ready {
    /// Always `ok`: a process that cannot take requests answers with a problem.
    status: String,
    version: String,
    worker: PartShape,
    relay: PartShape,
    gateway: PartShape,
    broker: PartShape,
}

/// How one part is.
#[derive(Debug, Object)]
#[oai(rename = "Part", skip_serializing_if_is_none)]
struct PartShape {
    /// `ok`, `away`, or `elsewhere`: this process does not run or use it.
    state: String,
    /// Why it is away.
    reason: Option<String>,
}

impl From<PartState> for PartShape {
    fn from(part: PartState) -> Self {
        let (state, reason) = match part {
            PartState::Ok => ("ok", None),
            PartState::Away(reason) => ("away", Some(reason)),
            PartState::Elsewhere => ("elsewhere", None),
        };
        Self { state: state.to_owned(), reason }
    }
}

#[OpenApi(tag = "Group::System")]
impl System {
    /// Whether the process lives. Asks nobody.
    #[oai(path = "/healthz", method = "get", operation_id = "health")]
    async fn health(&self, _by: Anyone) -> Result<Done<Health>, Problem> {
        Ok(Done::new(&Health::ok()))
    }

    /// Whether the process can take requests: the database answers, and the process was not told to
    /// stop. The other parts are shown only; an order placed while one of them is away goes on later.
    #[oai(path = "/readyz", method = "get", operation_id = "ready")]
    async fn ready(&self, by: Anyone) -> Result<Done<Ready>, Problem> {
        if by.door.stopping.is_cancelled() {
            return Err(Problem::unavailable("stopping", "The process is about to end."));
        }
        sqlx::query("-- ready\nselect 1").execute(&by.door.db).await?;
        let Health { status, version } = Health::ok();
        let Report { worker, relay, gateway, broker } = by.door.readiness.report().await;
        Ok(Done::new(&Ready {
            status,
            version,
            worker: worker.into(),
            relay: relay.into(),
            gateway: gateway.into(),
            broker: broker.into(),
        }))
    }
}
