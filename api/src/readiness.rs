//! The states of the parts of this process.
//!
//! Only the database decides whether a process is ready for requests. An order that is placed while the gateway,
//! the broker or every worker is away is stored and continues later. The states of the other parts are only shown.

use std::{sync::Arc, time::Duration};

use stepwise_adapters::breaker::Line;
use stepwise_engine::{
    Engine,
    outbox::{Publisher, PublisherState, RelayHealth, RelayState},
};
use tokio::{net::TcpStream, sync::watch};

/// How long the gateway may take to accept a connection.
const GATEWAY: Duration = Duration::from_millis(500);

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// The part works.
    Ok,
    /// The part does not work, for this reason. The reason contains no secrets and no personal data.
    Away(String),
    /// This process does not use the part.
    Elsewhere,
}

impl PartState {
    /// Whether this process uses the part and the part does not work.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// The states of all parts except the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The engine's worker.
    pub worker: PartState,
    /// The outbox relay.
    pub relay: PartState,
    /// The payment gateway.
    pub gateway: PartState,
    /// The message broker.
    pub broker: PartState,
}

/// Asks the parts of one process for their states. [`Readiness::default`] is that of a process with a front door only.
#[derive(Default)]
pub struct Readiness {
    worker: Option<Engine>,
    relay: Option<RelayHealth>,
    gateway: Option<(String, u16)>,
    line: Option<watch::Receiver<Line>>,
    broker: Option<Arc<dyn Publisher>>,
}

impl Readiness {
    /// Adds the worker of this engine, which this process runs.
    #[must_use]
    pub fn with_worker(mut self, engine: Engine) -> Self {
        self.worker = Some(engine);
        self
    }

    /// Adds the relay that this process runs.
    #[must_use]
    pub fn with_relay(mut self, health: RelayHealth) -> Self {
        self.relay = Some(health);
        self
    }

    /// Adds the broker to which this process publishes.
    #[must_use]
    pub fn with_broker(mut self, publisher: Arc<dyn Publisher>) -> Self {
        self.broker = Some(publisher);
        self
    }

    /// Adds the gateway at this host and port, which this process calls.
    #[must_use]
    pub fn with_gateway(mut self, host: impl Into<String>, port: u16) -> Self {
        self.gateway = Some((host.into(), port));
        self
    }

    /// Adds the breaker through which this process calls the gateway. The breaker knows whether the gateway answers.
    #[must_use]
    pub fn with_breaker(mut self, line: watch::Receiver<Line>) -> Self {
        self.line = Some(line);
        self
    }

    /// Asks all parts for their states. Returns within half a second.
    pub async fn report(&self) -> Report {
        let Self { worker, relay, gateway, line, broker } = self;
        let line = line.as_ref().map_or(Line::Closed, |line| *line.borrow());
        Report {
            worker: worker.as_ref().map_or(PartState::Elsewhere, |engine| {
                state(engine.is_working(), "the worker holds no lease at the moment")
            }),
            relay: relay.as_ref().map_or(PartState::Elsewhere, |health| {
                match health.report().state {
                    RelayState::Working => PartState::Ok,
                    RelayState::Hindered { reason } => PartState::Away(reason),
                    RelayState::Stopped => PartState::Away("the relay has ended".to_owned()),
                }
            }),
            gateway: match (line, gateway) {
                (Line::Open { since, only_reads }, _) => PartState::Away(format!(
                    "the payment gateway has not answered {}for {} s",
                    if only_reads { "look-ups " } else { "" },
                    since.elapsed().as_secs()
                )),
                (Line::Closed, Some((host, port))) => reach(host, *port).await,
                (Line::Closed, None) => PartState::Elsewhere,
            },
            broker: broker.as_ref().map_or(PartState::Elsewhere, |publisher| {
                match publisher.state() {
                    PublisherState::Connected => PartState::Ok,
                    PublisherState::Blocked { reason }
                    | PublisherState::Disconnected { reason }
                    | PublisherState::Destroyed { reason } => PartState::Away(reason),
                }
            }),
        }
    }
}

fn state(works: bool, otherwise: &str) -> PartState {
    if works { PartState::Ok } else { PartState::Away(otherwise.to_owned()) }
}

async fn reach(host: &str, port: u16) -> PartState {
    match tokio::time::timeout(GATEWAY, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => PartState::Ok,
        Ok(Err(error)) => PartState::Away(format!("no payment gateway at {host}:{port}: {error}")),
        Err(_) => PartState::Away(format!("no payment gateway at {host}:{port}: no answer")),
    }
}
