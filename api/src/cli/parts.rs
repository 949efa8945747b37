//! Runs the parts of a process together: front door, worker and relay in any combination.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use sqlx::PgPool;
use stepwise_adapters::breaker::Breaker;
use stepwise_engine::{
    Engine, ScheduleError, Trouble, WorkerConfig, database,
    outbox::{Publisher, Relay, RelayHealth, RelaySettings},
};
use stepwise_workflows::{Shop, sagas};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Failure, folder::Folder, retention, settings::Settings};
use crate::{
    door::Door,
    monitor::{self, Monitor},
    server::{self, ServerSettings},
};

/// How long all parts together may take to finish their work when the process stops. The longest limit of a single part
/// is the worker's, 25 s.
pub(super) const ENOUGH: Duration = Duration::from_secs(28);
/// If the database has been away this long, no work can be finished, and stopping does not wait for it.
const AWAY: Duration = Duration::from_secs(3);

/// Options for the health and metrics endpoints of a process without a front door.
#[derive(Debug, ClapArgs)]
pub(super) struct Monitoring {
    /// Serve /healthz, /readyz and /metrics on this port of --host [default: do not serve them]
    #[arg(long, env = "STEPWISE_METRICS_PORT", value_name = "PORT")]
    metrics_port: Option<u16>,
}

/// Running parts. They end together: when the process is told to stop, or when one part ends by itself.
pub(super) struct Parts {
    tasks: JoinSet<(&'static str, Result<(), Failure>)>,
    stop: CancellationToken,
}

impl Parts {
    /// Begins without parts. `stop` ends all parts added later.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop }
    }

    /// Adds the front door, which serves on `listener`.
    pub(super) fn api(&mut self, listener: TcpListener, door: Arc<Door>, settings: ServerSettings) {
        self.add("the front door", async move {
            server::serve(listener, door, settings)
                .await
                .map_err(|error| Failure::failed("the front door cannot serve", error))
        });
    }

    /// Adds a worker.
    pub(super) fn work(&mut self, engine: Engine, config: WorkerConfig) {
        let stop = self.stop.clone();
        self.add("the worker", async move {
            Ok(stepwise_engine::work(engine, config, stop.cancelled_owned()).await?)
        });
    }

    /// Adds a task that retries sagas as soon as the gateway accepts payments again, instead of at their next attempt.
    pub(super) fn go_on_with_gateway(&mut self, engine: Engine, breaker: &Breaker) {
        let (mut line, stop) = (breaker.line(), self.stop.clone());
        let going_on = async move {
            let trouble =
                Trouble::new("sagas that wait for the payment gateway cannot be retried yet");
            while line.changed().await.is_ok() {
                while line.borrow_and_update().takes_writes() {
                    match engine.retry_now(&sagas::calling_the_gateway()).await {
                        Ok(sagas) => {
                            trouble.end();
                            tracing::info!(
                                sagas,
                                "sagas that waited for the payment gateway continue"
                            );
                            break;
                        }
                        Err(error) => trouble.begin_with(&error),
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        self.add("going on with the gateway", async move {
            stop.run_until_cancelled_owned(going_on).await;
            Ok(())
        });
    }

    /// Adds a task that puts the schedules and quotas of the shop as this process is configured, as soon as the database takes them. The process that does so
    /// last decides.
    pub(super) fn schedules(&mut self, engine: Engine, settings: &Settings) {
        let (stop, minutes) = (self.stop.clone(), settings.reconcile_minutes);
        let putting = async move {
            let trouble = Trouble::new("the schedules of the shop cannot be put yet");
            loop {
                match put_schedules(&engine, minutes).await {
                    Ok(()) => return trouble.end(),
                    Err(ScheduleError::Database(error)) => trouble.begin_with(&error),
                    Err(error) => trouble.begin(&error),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        self.add("the schedules", async move {
            stop.run_until_cancelled(putting).await;
            stop.cancelled().await;
            Ok(())
        });
    }

    /// Adds a task that takes up carts that no saga watches, and deletes what is older than it is kept.
    pub(super) fn tidy(
        &mut self,
        engine: Engine,
        shop: Arc<Shop>,
        folder: &Folder,
        settings: &Settings,
    ) {
        let (stop, keep, mails) = (self.stop.clone(), settings.keep.clone(), folder.join("mail"));
        self.add("deleting old rows and files", async move {
            stop.run_until_cancelled(retention::run(engine, &shop, mails, keep)).await;
            Ok(())
        });
    }

    /// Adds a relay and returns its health.
    pub(super) fn relay(
        &mut self,
        pool: PgPool,
        publisher: Arc<dyn Publisher>,
        settings: &Settings,
    ) -> RelayHealth {
        let keep = settings.keep.published;
        let relay = Relay::new(pool, publisher, RelaySettings { keep, ..RelaySettings::default() });
        let (health, stop) = (relay.health(), self.stop.clone());
        self.add("the relay", async move {
            relay.run(stop).await;
            Ok(())
        });
        health
    }

    /// Adds the health and metrics endpoints on a port of their own, if `--metrics-port` is given.
    pub(super) async fn monitor(
        &mut self,
        settings: &Settings,
        monitoring: &Monitoring,
        monitor: Monitor,
    ) -> Result<(), Failure> {
        let Some(port) = monitoring.metrics_port else { return Ok(()) };
        let host = settings.host.as_str();
        let listener = TcpListener::bind((host, port)).await.map_err(|error| {
            Failure::failed(
                &format!("cannot listen on {host}:{port}"),
                format!("{error}; choose another --metrics-port"),
            )
        })?;
        let stop = self.stop.clone();
        self.add("the monitor", async move {
            monitor::serve(listener, monitor, stop)
                .await
                .map_err(|error| Failure::failed("the monitor cannot serve", error))
        });
        Ok(())
    }

    fn add(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, part.await) });
    }

    /// Runs until all parts have ended. A part that ends without being told to stops the others, and the result is its failure. Once told
    /// to stop, the parts have `enough` time.
    pub(super) async fn run(mut self, enough: Duration) -> Result<(), Failure> {
        let stop = self.stop.clone();
        let ended = tokio::select! {
            ended = self.tasks.join_next() => ended.map(judge),
            () = stop.cancelled() => None,
        };
        let first = match ended {
            Some((_, Err(failure))) => Err(failure),
            Some((name, Ok(()))) if !stop.is_cancelled() => {
                Err(Failure::failed("a part of the process ended without being told to", name))
            }
            Some(_) | None => Ok(()),
        };
        stop.cancel();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await.map(judge) {
                if let (name, Err(failure)) = ended {
                    tracing::error!(part = name, %failure, "a part of the process did not stop cleanly");
                }
            }
        };
        let in_vain = async {
            while !database::has_been_away_for(AWAY) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let finished = async {
            tokio::select! {
                () = rest => true,
                () = in_vain => false,
            }
        };
        if tokio::time::timeout(enough, finished).await != Ok(true) {
            tracing::warn!("some work was not finished in time; the next start continues it");
        }
        first
    }
}

fn judge(
    ended: Result<(&'static str, Result<(), Failure>), tokio::task::JoinError>,
) -> (&'static str, Result<(), Failure>) {
    ended.unwrap_or_else(|error| {
        ("a part", Err(Failure::failed("a part of the process panicked", error)))
    })
}

async fn put_schedules(engine: &Engine, reconcile_minutes: u8) -> Result<(), ScheduleError> {
    let mut tx = engine.begin().await?;
    sagas::reconcile_payments::put_schedule(engine, &mut tx, reconcile_minutes).await?;
    sagas::stock_alert::put_quota(engine, &mut tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Binds the port before anything else is started, so that a port in use costs nothing.
pub(super) async fn listen(settings: &Settings) -> Result<(TcpListener, SocketAddr), Failure> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let listener = TcpListener::bind((host, port)).await;
    let bound = listener.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::failed(
            &format!("port {port} on {host} is in use"),
            "stop the program that uses it, or choose another port with --port",
        ),
        std::io::ErrorKind::PermissionDenied => Failure::failed(
            &format!("not allowed to listen on port {port}"),
            "choose a port above 1023 with --port",
        ),
        _ => Failure::usage(format!(
            "cannot listen on {host}:{port} ({error}); correct --host or --port"
        )),
    })
}

/// The URL at which a client on this machine reaches a server that listens at `address`.
pub(super) fn base_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// The URL of the shop according to the settings, for a process that does not listen itself.
pub(super) fn shop_url(settings: &Settings) -> String {
    if let Some(url) = &settings.network.public_url {
        return url.clone();
    }
    local_url(settings)
}

/// The URL at which a process on this machine reaches the shop.
pub(super) fn local_url(settings: &Settings) -> String {
    let host = match settings.host.as_str() {
        "0.0.0.0" | "::" => "127.0.0.1",
        host => host,
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("http://{host}:{}", settings.port)
}
