//! The floor: hand-written SQL that does the same row operations, run by pgbench on the same cluster.

use std::path::Path;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// A pgbench script with its tables.
pub(super) struct Script {
    /// Creates what the script needs.
    pub(super) setup: &'static str,
    /// One transaction of pgbench's counting.
    pub(super) script: &'static str,
}

/// Six transactions for 100 instances: start them, then five times update each and add a journal row.
pub(super) const BATCHED: Script = Script {
    setup: "drop schema if exists floor cascade; create schema floor;
        create table floor.instance (shard smallint, id uuid, seq integer, state jsonb, undos jsonb, primary key (shard, id))
            with (fillfactor = 60);
        create table floor.journal (shard smallint, id uuid, seq integer, at timestamptz, event jsonb, next jsonb,
            primary key (shard, id, seq));
        create sequence floor.batch;",
    script: include_str!("floor_batched.sql"),
};

/// The same for one instance.
pub(super) const SINGLE: Script = Script { setup: BATCHED.setup, script: include_str!("floor_single.sql") };

/// What pgbench found.
pub(super) struct Floor {
    /// Script runs a second.
    pub(super) per_s: f64,
    /// Mean time of one script run, in milliseconds.
    pub(super) mean_ms: f64,
}

/// Runs the script for `seconds` with `clients` connections; at most `rate` runs a second, if given.
pub(super) async fn run(
    bin: &Path,
    url: &str,
    script: &Script,
    (clients, seconds, rate): (u32, u32, Option<u32>),
) -> anyhow::Result<Floor> {
    let psql = Command::new(bin.join("psql")).args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", script.setup]);
    let done = { psql }.output().await.context("psql is needed beside the Postgres binaries")?;
    ensure!(done.status.success(), "psql: {}", String::from_utf8_lossy(&done.stderr));
    let folder = std::env::temp_dir().join(format!("stepwise-floor-{}.sql", std::process::id()));
    tokio::fs::write(&folder, script.script).await?;
    let mut pgbench = Command::new(bin.join("pgbench"));
    pgbench.args(["-n", "-M", "prepared", "-j", "1"]).args(["-c", &clients.to_string(), "-T", &seconds.to_string()]);
    if let Some(rate) = rate {
        pgbench.args(["-R", &rate.to_string()]);
    }
    let done = pgbench.arg("-f").arg(&folder).arg(url).output().await.context("pgbench is needed for the floor")?;
    tokio::fs::remove_file(&folder).await?;
    let told = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "pgbench: {}", String::from_utf8_lossy(&done.stderr));
    let number = |name: &str| -> anyhow::Result<f64> {
        let line = told.lines().find(|line| line.starts_with(name)).with_context(|| format!("pgbench told no {name}"))?;
        let word = line.split('=').nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        word.parse().with_context(|| format!("pgbench told {line}"))
    };
    Ok(Floor { per_s: number("tps")?, mean_ms: number("latency average")? })
}
