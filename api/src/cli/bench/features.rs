//! Benches of the features beyond plain steps: joining children, timers due at the same moment, reactions to signals, a long backlog.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;
use stepwise_engine::{Engine, Start, WorkerConfig, work};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Ground, Line, Report,
    engine::Running,
    varied::{Life, Reactions, Signal, Varied},
};

/// The number of instances that one transaction starts, and the number of such transactions at the same time.
const TOGETHER: usize = 1_000;
const AT_ONCE: usize = 4;

/// An engine with the saga [`Varied`], with or without a worker.
struct Varying {
    engine: Engine,
    reactions: mpsc::UnboundedReceiver<(Uuid, Instant)>,
    worker: Option<(CancellationToken, tokio::task::JoinHandle<Result<(), sqlx::Error>>)>,
}

impl Varying {
    fn idle(pool: &PgPool) -> Self {
        let (told, reactions) = mpsc::unbounded_channel();
        let engine = Engine::builder(pool.clone()).saga::<Varied, _>(Reactions(told)).build();
        Self { engine, reactions, worker: None }
    }

    async fn working(pool: &PgPool) -> anyhow::Result<Self> {
        let mut varying = Self::idle(pool);
        let stop = CancellationToken::new();
        let config = WorkerConfig { name: "bench".to_owned(), ..WorkerConfig::default() };
        let working = work(varying.engine.clone(), config, stop.clone().cancelled_owned());
        varying.worker = Some((stop, tokio::spawn(working)));
        let patience = Instant::now() + Duration::from_secs(10);
        while varying.engine.room() == 0 {
            ensure!(Instant::now() < patience, "the worker does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(varying)
    }

    async fn stop(self) -> anyhow::Result<()> {
        if let Some((stop, working)) = self.worker {
            stop.cancel();
            working.await??;
        }
        Ok(())
    }

    async fn start(&self, lives: Vec<Life>) -> anyhow::Result<Vec<Uuid>> {
        let mut ids = Vec::with_capacity(lives.len());
        let mut chunks =
            stream::iter(lives.chunks(TOGETHER).map(|lives| self.start_together(lives)))
                .buffered(AT_ONCE);
        while let Some(started) = chunks.try_next().await? {
            ids.extend(started);
        }
        Ok(ids)
    }

    async fn start_together(&self, lives: &[Life]) -> anyhow::Result<Vec<Uuid>> {
        let starts =
            lives.iter().map(|life| Start::new(Uuid::now_v7().to_string(), life.clone())).collect();
        let mut tx = self.engine.begin().await?;
        let started = self.engine.start_many::<Varied>(&mut tx, starts).await?;
        tx.commit().await?;
        Ok(started.iter().map(|started| started.id).collect())
    }

    async fn reaction(&mut self) -> anyhow::Result<(Uuid, Instant)> {
        tokio::time::timeout(Duration::from_secs(60), self.reactions.recv())
            .await
            .context("nothing reacted for a minute")?
            .context("the worker is gone")
    }
}

async fn count(pool: &PgPool, status: &str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(
        "-- name: bench: count\nselect count(*) from saga.instance where name = 'varied' and status = $1",
    )
    .bind(status)
    .fetch_one(pool)
    .await?)
}

/// Measures one parent that starts `children` and continues when the last of them has ended.
pub(super) async fn children(ground: &Ground, children: u32) -> anyhow::Result<Report> {
    let varying = Varying::working(&ground.pool).await?;
    let begun = Instant::now();
    let id = varying.start(vec![Life::Parent(children)]).await?[0];
    let started = begun.elapsed();
    let mut ended = varying.engine.watch(id);
    while count_open(&ground.pool, id).await? {
        // The wake-up is only a hint; it may have come before this listened.
        let _ = tokio::time::timeout(Duration::from_millis(50), ended.changed()).await;
    }
    let took = begun.elapsed();
    let ended: i64 = sqlx::query_scalar(
        "-- name: bench: children that ended\nselect count(*) from saga.instance where parent_id = $1 and ended_at is not null",
    )
    .bind(id)
    .fetch_one(&ground.pool)
    .await?;
    ensure!(ended == i64::from(children), "{ended} of {children} children have ended");
    varying.stop().await?;
    Ok(Report(vec![
        Line::new("children", "one activity each", f64::from(children)),
        Line::new(
            "started_s",
            "all children and the parent, one transaction",
            started.as_secs_f64(),
        ),
        Line::new(
            "joined_s",
            "from before the start to the parent's durable end",
            took.as_secs_f64(),
        ),
        Line::new("children_per_s", "", f64::from(children) / took.as_secs_f64()),
    ]))
}

async fn count_open(pool: &PgPool, id: Uuid) -> anyhow::Result<bool> {
    Ok(sqlx::query_scalar(
        "-- name: bench: is it open\nselect ended_at is null from saga.instance where saga_id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await?)
}

/// Measures `timers` instances that sleep until the same moment.
pub(super) async fn timers(ground: &Ground, timers: usize) -> anyhow::Result<Report> {
    let mut varying = Varying::working(&ground.pool).await?;
    // Long enough for all instances to be asleep by then.
    let until = Instant::now() + Duration::from_secs(5);
    for chunk in vec![(); timers].chunks(TOGETHER) {
        let ms = u64::try_from(until.saturating_duration_since(Instant::now()).as_millis())?;
        varying.start(vec![Life::Sleeper(ms); chunk.len()]).await?;
    }
    ensure!(Instant::now() < until, "this machine does not start {timers} instances in 5 s");
    let mut late = Histogram::<u64>::new(3)?;
    let mut early_ms = 0_u64;
    for _ in 0..timers {
        let (_, at) = varying.reaction().await?;
        early_ms = early_ms.max(until.saturating_duration_since(at).as_millis() as u64);
        late.record(at.saturating_duration_since(until).as_millis() as u64)?;
    }
    while count(&ground.pool, "completed").await? < timers as i64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let done = until.elapsed();
    varying.stop().await?;
    Ok(Report(vec![
        Line::new("timers", "due at the same moment", timers as f64),
        Line::new("early_ms", "the earliest; started a little apart", early_ms as f64),
        Line::new("p50_late_ms", "", late.value_at_quantile(0.5) as f64),
        Line::new("p99_late_ms", "", late.value_at_quantile(0.99) as f64),
        Line::new("all_done_s", "from that moment to the last durable end", done.as_secs_f64()),
    ]))
}

/// Measures the time from before a signal's transaction to the call that reacts to it, at `rate` signals a second.
pub(super) async fn signals(ground: &Ground, rate: u32, seconds: u32) -> anyhow::Result<Report> {
    let mut varying = Varying::working(&ground.pool).await?;
    let waiting = varying.start(vec![Life::Waiter; (rate * seconds) as usize]).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut took = Histogram::<u64>::new(3)?;
    for id in waiting {
        ticks.tick().await;
        let begun = Instant::now();
        let mut tx = varying.engine.begin().await?;
        varying.engine.signal::<Varied>(&mut tx, id, "poke", Signal::Poked).await?;
        tx.commit().await?;
        let (who, at) = varying.reaction().await?;
        ensure!(who == id, "another instance reacted");
        took.record(u64::try_from((at - begun).as_micros())?)?;
    }
    varying.stop().await?;
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Report(vec![
        Line::new("signals", "", took.len() as f64),
        Line::new("p50_ms", "from before the signal's transaction to the reacting call", ms(0.5)),
        Line::new("p99_ms", "", ms(0.99)),
    ]))
}

/// The number of comparisons of the two tables.
const TURNS: usize = 3;

/// Measures the same load in turns on an empty table and beside `sleeping` instances. Then measures how fast `due` instances are driven,
/// each time between two loads on the empty table.
pub(super) async fn backlog(
    ground: &Ground,
    sleeping: usize,
    due: usize,
) -> anyhow::Result<Report> {
    let (other, full) = (ground.another().await?, &ground.pool);
    let empty = async || {
        super::forget(&other).await?;
        turn(&other).await
    };
    empty().await.context("warming up")?;
    let begun = Instant::now();
    let idle = Varying::idle(full);
    let year_ms = 365 * 24 * 3_600 * 1_000;
    idle.start(vec![Life::Sleeper(year_ms); sleeping]).await?;
    let loaded = begun.elapsed();

    let mut turns = Vec::new();
    for _ in 0..TURNS {
        turns.push((empty().await?, turn(full).await?));
    }

    let claims = Claims::count()?;
    let (mut before, mut drains) = (empty().await?, Vec::new());
    let mut took = (0.0, 0.0);
    for _ in 0..TURNS {
        super::engine::leave_waiting(full, due).await?;
        let drained = due as f64 / drain(full).await?.as_secs_f64();
        took = (claims.ms("0.5")?, claims.ms("0.99")?);
        let after = empty().await?;
        drains.push((f64::midpoint(before, after), drained));
        before = after;
    }
    other.close().await;
    let (alone, beside) = median(turns);
    let (around, drained) = median(drains);
    Ok(Report(vec![
        Line::new("sleeping", "", sleeping as f64),
        Line::new("loaded_s", "starting them", loaded.as_secs_f64()),
        Line::new("empty_per_s", "five-step instances on an empty table", alone),
        Line::new("beside_per_s", "the same beside the sleeping, in turns", beside),
        Line::new("beside_ratio", "the median of the turns", beside / alone),
        Line::new(
            "due",
            "five-step instances that wait for a worker, beside the sleeping",
            due as f64,
        ),
        Line::new("drained_per_s", "", drained),
        Line::new("drained_ratio", "to the empty table before and after", drained / around),
        Line::new("claim_p50_ms", "one claim, while draining", took.0),
        Line::new("claim_p99_ms", "", took.1),
    ]))
}

/// The pair with the median ratio.
fn median(mut pairs: Vec<(f64, f64)>) -> (f64, f64) {
    pairs.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
    pairs[pairs.len() / 2]
}

/// The number of five-step instances a second.
async fn turn(pool: &PgPool) -> anyhow::Result<f64> {
    settle(pool).await?;
    let running = Running::start(pool.clone()).await?;
    let throughput = running.throughput::<false>(20_000).await?;
    running.stop().await?;
    Ok(throughput.per_s)
}

/// The time until no instance waits for a worker.
async fn drain(pool: &PgPool) -> anyhow::Result<Duration> {
    settle(pool).await?;
    let begun = Instant::now();
    let running = Running::start(pool.clone()).await?;
    while running.open::<false>().await? {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = begun.elapsed();
    running.stop().await?;
    Ok(took)
}

/// Vacuums the tables before the measurement. Otherwise autovacuum would do it in the middle, although it belongs to the loading.
async fn settle(pool: &PgPool) -> anyhow::Result<()> {
    for statement in ["vacuum analyze saga.instance", "vacuum analyze saga.journal", "checkpoint"] {
        sqlx::query(statement).execute(pool).await?;
    }
    Ok(())
}

/// The duration of claims according to the engine's metric.
struct Claims(PrometheusHandle);

impl Claims {
    fn count() -> anyhow::Result<Self> {
        Ok(Self(PrometheusBuilder::new().install_recorder()?))
    }

    fn ms(&self, quantile: &str) -> anyhow::Result<f64> {
        let told = self.0.render();
        let label = format!("stepwise_claim_seconds{{quantile=\"{quantile}\"}} ");
        let seconds = told.lines().find_map(|line| line.strip_prefix(&label));
        Ok(1_000.0 * seconds.context("no claim was measured")?.parse::<f64>()?)
    }
}
