//! `stepwise bench`: measures this machine's speed as a ratio to hand-written SQL on the same cluster in the same minutes.
//!
//! Each bench runs on a temporary Postgres of its own with durable defaults. Absolute figures depend on the machine. The ratio to
//! the floor (a pgbench script with the same row operations) can be compared between machines.

mod engine;
mod features;
mod five;
mod floor;
mod front_door;
mod orders;
mod varied;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use sqlx::{PgPool, postgres::PgConnectOptions};
use stepwise_adapters::postgres::{self, Cluster};
use stepwise_engine::database::{self, Waits};
use tokio::{
    process::{Child, Command},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;

use super::{Failure, output::say, shutdown::Shutdown};

/// Options of `stepwise bench`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure five-step instances a second, without and with effects
    #[command(after_help = "Example: stepwise bench engine --instances 20000 --json")]
    Engine {
        /// Number of instances that each run starts
        #[arg(long, default_value_t = 20_000)]
        instances: usize,
    },
    /// Measure the time from a start to its durable end, at a steady rate
    #[command(after_help = "Example: stepwise bench latency --rate 50")]
    Latency {
        /// Number of starts a second
        #[arg(long, default_value_t = 50)]
        rate: u32,
        /// Duration in seconds
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// Measure a parent with many children, from its start to the end of the join
    #[command(after_help = "Example: stepwise bench children --children 10000")]
    Children {
        /// Number of children
        #[arg(long, default_value_t = 10_000)]
        children: u32,
    },
    /// Measure timers that are due at the same moment
    #[command(after_help = "Example: stepwise bench timers --timers 5000")]
    Timers {
        /// Number of timers
        #[arg(long, default_value_t = 5_000)]
        timers: usize,
    },
    /// Measure the time from a signal to the call that reacts to it, at a steady rate
    #[command(after_help = "Example: stepwise bench signals --rate 50")]
    Signals {
        /// Number of signals a second
        #[arg(long, default_value_t = 50)]
        rate: u32,
        /// Duration in seconds
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// Measure throughput and claims beside a long backlog
    #[command(after_help = "Example: stepwise bench backlog --sleeping 1000000 --due 100000")]
    Backlog {
        /// Number of instances that sleep for a year
        #[arg(long, default_value_t = 1_000_000)]
        sleeping: usize,
        /// Number of instances that wait for a worker
        #[arg(long, default_value_t = 100_000)]
        due: usize,
    },
    /// Measure the front door over HTTP: a product, a page of products, a search, a cart, an item added to a cart, a last item
    #[command(after_help = "Example: stepwise bench front-door --products 10000 --seconds 10")]
    FrontDoor {
        /// Number of products
        #[arg(long, default_value_t = 10_000)]
        products: usize,
        /// Duration of each measurement in seconds
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Number of connections that send one request after the other
        #[arg(long, default_value_t = 64)]
        clients: usize,
    },
    /// Measure orders placed over HTTP a second, and the time to the 202 at half that rate or another
    #[command(after_help = "Example: stepwise bench orders --seconds 60 --clients 32")]
    Orders {
        /// Duration in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Number of customers who order at the same time
        #[arg(long, default_value_t = 32)]
        clients: usize,
        /// Orders a second while the time to the 202 is measured: to compare two builds at the same load [default: half of what was reached]
        #[arg(long)]
        rate: Option<u32>,
    },
}

/// Runs a bench and prints its figures.
///
/// # Errors
/// A dependency is missing, or the run's result is not correct.
pub async fn run(args: Args) -> Result<(), Failure> {
    let stop = Shutdown::on_signal()?;
    let report = measure(args.what, &stop.token())
        .await
        .map_err(|error| Failure::failed("the bench failed", format!("{error:#}")))?;
    say!("{}", if args.json { report.json().to_string() } else { report.table() });
    Ok(())
}

async fn measure(what: What, stop: &CancellationToken) -> anyhow::Result<Report> {
    let ground = Ground::new().await?;
    let report = stop.run_until_cancelled(measure_on(&ground, what)).await;
    ground.clear().await?;
    report.unwrap_or_else(|| bail!("it was told to stop"))
}

async fn measure_on(ground: &Ground, what: What) -> anyhow::Result<Report> {
    match what {
        What::Engine { instances } => engine_report(ground, instances).await,
        What::Latency { rate, seconds } => latency_report(ground, rate, seconds).await,
        What::Children { children } => features::children(ground, children).await,
        What::Timers { timers } => features::timers(ground, timers).await,
        What::Signals { rate, seconds } => features::signals(ground, rate, seconds).await,
        What::Backlog { sleeping, due } => features::backlog(ground, sleeping, due).await,
        What::FrontDoor { products, seconds, clients } => {
            front_door::report(ground, products, seconds, clients).await
        }
        What::Orders { seconds, clients, rate } => {
            orders::report(ground, (seconds, clients), rate).await
        }
    }
}

async fn engine_report(ground: &Ground, instances: usize) -> anyhow::Result<Report> {
    let floor = ground.floor(&floor::BATCHED, (2, 5, None)).await?;
    let running = engine::Running::start(ground.pool.clone()).await?;
    running.throughput::<false>(2_000).await.context("warming up")?;
    forget(&ground.pool).await?;
    let plain = running.throughput::<false>(instances).await?;
    let effects = running.throughput::<true>(instances).await?;
    running.stop().await?;
    let again = ground.floor(&floor::BATCHED, (2, 5, None)).await?;
    let floor_per_s = 100.0 * (floor.per_s + again.per_s) / 2.0;
    Ok(Report(vec![
        Line::new("instances", "", plain.instances as f64),
        Line::new("in_flight", "", engine::IN_FLIGHT as f64),
        Line::new("instances_per_s", "five steps, no effects", plain.per_s),
        Line::new("steps_per_s", "", 5.0 * plain.per_s),
        Line::new("p99_ms", "from start to end, all in flight", plain.p99_ms),
        Line::new(
            "instances_per_s_with_effects",
            "an effect declared by every step",
            effects.per_s,
        ),
        Line::new("p99_ms_with_effects", "", effects.p99_ms),
        Line::new("floor_per_s", "pgbench, 6 transactions per 100 instances", floor_per_s),
        Line::new("floor_ratio", "", plain.per_s / floor_per_s),
    ]))
}

async fn latency_report(ground: &Ground, rate: u32, seconds: u32) -> anyhow::Result<Report> {
    let floor = ground.floor(&floor::SINGLE, (1, seconds.min(10), Some(rate))).await?;
    let running = engine::Running::start(ground.pool.clone()).await?;
    running.latency(rate, Duration::from_secs(2)).await.context("warming up")?;
    let took = running.latency(rate, Duration::from_secs(seconds.into())).await?;
    running.stop().await?;
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Report(vec![
        Line::new("starts_per_s", "", f64::from(rate)),
        Line::new("instances", "", took.len() as f64),
        Line::new("p50_ms", "from before the start's transaction to the durable end", ms(0.5)),
        Line::new("p99_ms", "", ms(0.99)),
        Line::new("floor_ms", "pgbench, mean of 6 transactions for one instance", floor.mean_ms),
        Line::new("floor_ratio", "", ms(0.5) / floor.mean_ms),
    ]))
}

/// A temporary cluster for one bench, and the shop that runs on it, if there is one.
struct Ground {
    cluster: Cluster,
    folder: PathBuf,
    pool: PgPool,
    shop: Mutex<Option<Child>>,
}

fn open(options: PgConnectOptions) -> PgPool {
    database::pool(options, Waits::COMMAND, 20, Duration::from_secs(30))
}

impl Ground {
    async fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("stepwise-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let cluster = Cluster::start(&folder.join("postgres")).await?;
        let pool = open(cluster.options());
        let ground = Self { cluster, folder, pool, shop: Mutex::default() };
        if let Err(error) = stepwise_engine::migrate(&ground.pool).await {
            ground.clear().await?;
            return Err(error.into());
        }
        Ok(ground)
    }

    /// Creates a second database on the same cluster.
    async fn another(&self) -> anyhow::Result<PgPool> {
        sqlx::query("-- name: bench: another database\ncreate database another")
            .execute(&self.pool)
            .await?;
        let pool = open(self.cluster.options().database("another"));
        stepwise_engine::migrate(&pool).await?;
        Ok(pool)
    }

    async fn floor(
        &self,
        script: &floor::Script,
        load: (u32, u32, Option<u32>),
    ) -> anyhow::Result<floor::Floor> {
        let (psql, pgbench) =
            (postgres::program("psql").await?, postgres::program("pgbench").await?);
        let url = self.cluster.url();
        floor::run((&psql, &pgbench), (&url, &self.folder), script, load).await
    }

    /// Tells the shop to stop and waits for its end: killed, it would leave its gateway behind.
    async fn stop_shop(&self) -> anyhow::Result<()> {
        let Some(mut shop) = self.shop.lock().await.take() else { return Ok(()) };
        if let Some(pid) = shop.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        tokio::time::timeout(Duration::from_secs(30), shop.wait()).await??;
        Ok(())
    }

    async fn clear(self) -> anyhow::Result<()> {
        let stopped = self.stop_shop().await;
        // A bench that was told to stop may hold connections yet; the end of the cluster ends them.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.pool.close()).await;
        self.cluster.stop().await?;
        std::fs::remove_dir_all(&self.folder)?;
        stopped
    }
}

/// Empties the tables that grow during a run.
async fn forget(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("-- name: bench: forget\ntruncate saga.instance, saga.journal, saga.effect")
        .execute(pool)
        .await?;
    Ok(())
}

/// The results of a measurement, in the order in which they are printed.
struct Report(Vec<Line>);

struct Line {
    key: &'static str,
    note: &'static str,
    value: f64,
}

impl Line {
    fn new(key: &'static str, note: &'static str, value: f64) -> Self {
        Self { key, note, value }
    }
}

impl Report {
    fn json(&self) -> serde_json::Value {
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        self.0
            .iter()
            .map(|line| (line.key.to_owned(), json!(rounded(line.value))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn table(&self) -> String {
        let figure =
            |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        self.0
            .iter()
            .map(|line| {
                format!("{:<30} {:>10}  {}", line.key, figure(line.value), line.note)
                    .trim_end()
                    .to_owned()
            })
            .collect::<Vec<_>>()
            .join("\n")
    }
}
