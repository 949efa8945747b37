//! The states of the parts of this process.
//!
//! Only an answer of the database decides whether a process is ready for requests. An order that is placed while the gateway,
//! the broker or every worker is away is stored and continues later. The states of the other parts are only shown.

use std::{sync::Arc, time::Duration};

use stepwise_adapters::breaker::Line;
use stepwise_engine::{
    Engine,
    database::{self, Condition},
    outbox::{Publisher, PublisherState, RelayHealth, RelayState},
};
use stepwise_workflows::purge::Retention;
use tokio::{net::TcpStream, sync::watch};

/// How long a gateway may take to accept a connection.
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

/// The states of all parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The database, as the connections of this process have found it the last time.
    pub database: PartState,
    /// The engine's worker.
    pub worker: PartState,
    /// The outbox relay.
    pub relay: PartState,
    /// The payment gateway that takes cards.
    pub gateway: PartState,
    /// PayPal.
    pub paypal: PartState,
    /// The message broker.
    pub broker: PartState,
}

/// Asks the parts of one process for their states. [`Readiness::default`] is that of a process with a front door only.
#[derive(Default)]
pub struct Readiness {
    retention: Retention,
    worker: Option<Engine>,
    relay: Option<RelayHealth>,
    gateway: Option<Provider>,
    paypal: Option<Provider>,
    broker: Option<Arc<dyn Publisher>>,
}

/// A payment provider that this process calls.
struct Provider {
    name: &'static str,
    host: String,
    port: u16,
    /// The state of the breaker before it, which knows whether its calls are answered.
    line: watch::Receiver<Line>,
}

impl Readiness {
    /// Says how long old rows are kept, so that those that should be gone can be counted.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How long old rows are kept.
    pub(crate) fn retention(&self) -> &Retention {
        &self.retention
    }

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

    /// Adds the gateway for cards at this host and port, which this process calls through the breaker of this line.
    #[must_use]
    pub fn with_gateway(
        mut self,
        (host, port): (String, u16),
        line: watch::Receiver<Line>,
    ) -> Self {
        self.gateway = Some(Provider { name: "the payment gateway", host, port, line });
        self
    }

    /// Adds PayPal at this host and port, which this process calls through the breaker of this line.
    #[must_use]
    pub fn with_paypal(mut self, (host, port): (String, u16), line: watch::Receiver<Line>) -> Self {
        self.paypal = Some(Provider { name: "PayPal", host, port, line });
        self
    }

    /// Asks all parts for their states. Returns within half a second.
    pub async fn report(&self) -> Report {
        let Self { worker, relay, gateway, paypal, broker, retention: _ } = self;
        let (gateway, paypal) = tokio::join!(reach(gateway.as_ref()), reach(paypal.as_ref()));
        Report {
            database: stored(),
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
            gateway,
            paypal,
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

fn stored() -> PartState {
    let why = match database::condition() {
        Condition::Good => return PartState::Ok,
        Condition::ReadOnly => "the database takes no writes",
        Condition::DiskFull => "the disk of the database is full",
        Condition::Away => "the database does not answer",
    };
    PartState::Away(why.to_owned())
}

fn state(works: bool, otherwise: &str) -> PartState {
    if works { PartState::Ok } else { PartState::Away(otherwise.to_owned()) }
}

/// The state of a provider as its breaker knows it, or else whether it accepts a connection.
async fn reach(provider: Option<&Provider>) -> PartState {
    let Some(Provider { name, host, port, line }) = provider else { return PartState::Elsewhere };
    let line = *line.borrow();
    if let Line::Open { since, only_reads } = line {
        let look_ups = if only_reads { "look-ups " } else { "" };
        let seconds = since.elapsed().as_secs();
        return PartState::Away(format!("{name} has not answered {look_ups}for {seconds} s"));
    }
    let why = match tokio::time::timeout(GATEWAY, TcpStream::connect((host.as_str(), *port))).await
    {
        Ok(Ok(_)) => return PartState::Ok,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    PartState::Away(format!("{name} is not at {host}:{port}: {why}"))
}
