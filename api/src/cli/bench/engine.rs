//! Benches of the engine alone: the number of five-step instances a second, and the time of a single one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use sqlx::PgPool;
use stepwise_engine::{Engine, Saga as _, Start, Status, WorkerConfig, inspect, work};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::five::{Five, Nothing};

/// The number of instances that one transaction of the load starts.
const STARTED_TOGETHER: usize = 250;
/// The number of instances that the worker drives at the same time.
pub(super) const IN_FLIGHT: usize = 4_000;

/// The result of a run of the load.
pub(super) struct Throughput {
    pub(super) instances: usize,
    pub(super) per_s: f64,
    /// The time from the statement of the start to that of the end, in milliseconds.
    pub(super) p99_ms: f64,
}

/// Starts `instances` without a worker, so that they wait for one.
pub(super) async fn leave_waiting(pool: &PgPool, instances: usize) -> anyhow::Result<()> {
    let engine = Engine::builder(pool.clone()).saga::<Five<false>, _>(Nothing).build();
    for first in (0..instances).step_by(STARTED_TOGETHER) {
        let count = STARTED_TOGETHER.min(instances - first);
        let subjects = (0..count).map(|_| Start::new(Uuid::now_v7().to_string(), ())).collect();
        let mut tx = engine.begin().await?;
        engine.start_many::<Five<false>>(&mut tx, subjects).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// A worker that runs during a measurement.
pub(super) struct Running {
    engine: Engine,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<Result<(), sqlx::Error>>,
}

impl Running {
    pub(super) async fn start(pool: PgPool) -> anyhow::Result<Self> {
        let engine = Engine::builder(pool)
            .saga::<Five<false>, _>(Nothing)
            .saga::<Five<true>, _>(Nothing)
            .build();
        let stop = CancellationToken::new();
        let config =
            WorkerConfig { name: "bench".to_owned(), room: IN_FLIGHT, ..WorkerConfig::default() };
        let worker = tokio::spawn(work(engine.clone(), config, stop.clone().cancelled_owned()));
        let patience = Instant::now() + Duration::from_secs(10);
        while engine.room() == 0 {
            ensure!(Instant::now() < patience, "the worker does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { engine, stop, worker })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.worker.await??)
    }

    /// Starts `instances` as fast as the worker has room, and waits until the last one is durably completed.
    pub(super) async fn throughput<const EFFECTS: bool>(
        &self,
        instances: usize,
    ) -> anyhow::Result<Throughput> {
        let since = self.clock().await?;
        let begun = Instant::now();
        let starters = Arc::new(Semaphore::new(2));
        let mut starts = JoinSet::new();
        for first in (0..instances).step_by(STARTED_TOGETHER) {
            let permit = starters.clone().acquire_owned().await?;
            // Leave room for both starters: an instance that finds no room would be released and claimed again.
            while self.engine.room() < 2 * STARTED_TOGETHER {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let (engine, count) = (self.engine.clone(), STARTED_TOGETHER.min(instances - first));
            starts.spawn(async move {
                let _permit = permit;
                let subjects =
                    (0..count).map(|_| Start::new(Uuid::now_v7().to_string(), ())).collect();
                let mut tx = engine.begin().await?;
                engine.start_many::<Five<EFFECTS>>(&mut tx, subjects).await?;
                tx.commit().await?;
                anyhow::Ok(())
            });
        }
        while let Some(started) = starts.join_next().await {
            started??;
        }
        while self.open::<EFFECTS>().await? {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let per_s = instances as f64 / begun.elapsed().as_secs_f64();
        Ok(Throughput { instances, per_s, p99_ms: self.check::<EFFECTS>(instances, since).await? })
    }

    async fn clock(&self) -> anyhow::Result<DateTime<Utc>> {
        let now = "-- name: bench: clock\nselect clock_timestamp()";
        Ok(sqlx::query_scalar(now).fetch_one(self.engine.pool()).await?)
    }

    /// Waits until no place of the worker is taken. Only then queries the table, so that the query does not disturb the measurement.
    pub(super) async fn open<const EFFECTS: bool>(&self) -> anyhow::Result<bool> {
        if self.engine.room() < IN_FLIGHT {
            return Ok(true);
        }
        Ok(sqlx::query_scalar(
            "-- name: bench: is one open
            select exists (select from saga.instance where name = $1 and waiting_on is not null)",
        )
        .bind(Five::<EFFECTS>::NAME)
        .fetch_one(self.engine.pool())
        .await?)
    }

    /// Checks that every instance has completed, and that each of its journal rows comes from a transaction of its own.
    async fn check<const EFFECTS: bool>(
        &self,
        instances: usize,
        since: DateTime<Utc>,
    ) -> anyhow::Result<f64> {
        sqlx::query("analyze saga.instance, saga.journal").execute(self.engine.pool()).await?;
        let (completed, rows, commits, p99_ms): (i64, i64, i64, f64) = sqlx::query_as(
            "-- name: bench: check
            with journalled as (select shard, saga_id, count(*) as rows, count(distinct xmin::text) as commits
                from saga.journal where at >= $2 group by shard, saga_id)
            select count(*), sum(rows)::bigint, sum(commits)::bigint,
                1000 * extract(epoch from percentile_cont(0.99) within group (order by updated_at - created_at))::float8
            from saga.instance join journalled using (shard, saga_id)
            where name = $1 and status = 'completed' and created_at >= $2",
        )
        .bind(Five::<EFFECTS>::NAME)
        .bind(since)
        .fetch_one(self.engine.pool())
        .await
        .context("checking the run")?;
        ensure!(completed == instances as i64, "{completed} of {instances} instances completed");
        ensure!(
            rows == 6 * completed && commits == rows,
            "{rows} journal rows came from {commits} commits"
        );
        Ok(p99_ms)
    }

    /// Starts one instance every `1/rate` s for `span`. Measures the time from before its transaction until its end is
    /// durable, in microseconds.
    pub(super) async fn latency(
        &self,
        rate: u32,
        span: Duration,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        let mut runs = JoinSet::new();
        let until = Instant::now() + span;
        while Instant::now() < until {
            ticks.tick().await;
            let engine = self.engine.clone();
            runs.spawn(async move { one(&engine).await });
        }
        let mut took = Histogram::new(3)?;
        while let Some(run) = runs.join_next().await {
            took.record(u64::try_from(run??.as_micros())?)?;
        }
        Ok(took)
    }
}

async fn one(engine: &Engine) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut tx = engine.begin().await?;
    let started =
        engine.start::<Five<false>>(&mut tx, Start::new(Uuid::now_v7().to_string(), ())).await?;
    let id = started.id;
    let mut ended = engine.watch(id);
    tx.commit().await?;
    ended.changed().await?;
    let took = begun.elapsed();
    let end = inspect::summary(engine.pool(), id).await?.context("it is gone")?;
    ensure!(end.status == Status::Completed, "an instance ended {}", end.status);
    Ok(took)
}
