//! The floor of the benches: pgbench runs hand-written SQL with the same row operations on the same cluster.

use std::path::Path;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// A pgbench script with its tables.
pub(super) struct Script {
    /// SQL that creates the script's tables.
    pub(super) setup: &'static str,
    /// The script. pgbench counts one run as one transaction.
    pub(super) script: &'static str,
}

/// Six transactions for 100 instances: the first starts them, each of the others updates every instance and adds a journal row.
pub(super) const BATCHED: Script = Script {
    setup: "drop schema if exists floor cascade; create schema floor;
        create table floor.instance (shard smallint, id uuid, seq integer, state json, undos json, primary key (shard, id))
            with (fillfactor = 60);
        create table floor.journal (shard smallint, id uuid, seq integer, at timestamptz, event json, next json,
            primary key (shard, id, seq));
        create sequence floor.batch;",
    script: include_str!("floor_batched.sql"),
};

/// Like the batched script, but for one instance.
pub(super) const SINGLE: Script =
    Script { setup: BATCHED.setup, script: include_str!("floor_single.sql") };

/// An order of three lines.
pub(super) const ORDERS: Script = Script {
    setup: "drop schema if exists floor cascade; create schema floor;
        create sequence floor.n;
        create table floor.idempotency (id bigint primary key, op text, at timestamptz, body jsonb);
        create table floor.customer (id integer primary key, frozen boolean);
        create table floor.cart (id integer primary key, version integer) with (fillfactor = 70);
        create table floor.inventory (id integer primary key, on_hand integer, reserved integer) with (fillfactor = 70);
        create table floor.orders (id bigint primary key, customer integer, status text, total numeric, address text,
            created_at timestamptz, updated_at timestamptz) with (fillfactor = 70);
        create index on floor.orders (customer, id);
        create table floor.order_line (id bigint, n integer, product integer, quantity integer, price numeric, primary key (id, n));
        create table floor.reservation (id bigint, product integer, quantity integer, primary key (id, product));
        create table floor.audit (id bigint, product integer, reason text, at timestamptz, primary key (id, product));
        create table floor.event (id bigint, n integer, data jsonb, primary key (id, n));
        create table floor.outbox (id bigint, n integer, data json, at timestamptz, primary key (id, n));
        create table floor.instance (id bigint primary key, seq integer, state json, undos json) with (fillfactor = 60);
        create table floor.journal (id bigint, seq integer, at timestamptz, event json, next json, primary key (id, seq));
        insert into floor.customer select g, false from generate_series(1, 1000) g;
        insert into floor.cart select g, 0 from generate_series(1, 1000) g;
        insert into floor.inventory select g, 1000000, 0 from generate_series(1, 1000) g;
        analyze;",
    script: include_str!("floor_orders.sql"),
};

/// The result of a run of pgbench.
pub(super) struct Floor {
    /// The number of script runs a second.
    pub(super) per_s: f64,
    /// The mean time of one script run, in milliseconds.
    pub(super) mean_ms: f64,
}

/// Runs the script for `seconds` with `clients` connections; at most `rate` runs a second, if given. Keeps it in `folder`. The programs end with the
/// future.
pub(super) async fn run(
    (psql, pgbench): (&Path, &Path),
    (url, folder): (&str, &Path),
    script: &Script,
    (clients, seconds, rate): (u32, u32, Option<u32>),
) -> anyhow::Result<Floor> {
    let mut setup = Command::new(psql);
    setup.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", script.setup]);
    let done = setup
        .kill_on_drop(true)
        .output()
        .await
        .context("psql is missing beside the Postgres binaries")?;
    ensure!(done.status.success(), "psql: {}", String::from_utf8_lossy(&done.stderr));
    let file = folder.join("floor.sql");
    tokio::fs::write(&file, script.script).await?;
    let mut pgbench = Command::new(pgbench);
    pgbench.args(["-n", "-M", "prepared", "-j", "1"]).args([
        "-c",
        &clients.to_string(),
        "-T",
        &seconds.to_string(),
    ]);
    if let Some(rate) = rate {
        pgbench.args(["-R", &rate.to_string()]);
    }
    let done = pgbench
        .arg("-f")
        .arg(&file)
        .arg(url)
        .kill_on_drop(true)
        .output()
        .await
        .context("pgbench is missing; the floor needs it")?;
    let told = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "pgbench: {}", String::from_utf8_lossy(&done.stderr));
    let number = |name: &str| -> anyhow::Result<f64> {
        let line = told
            .lines()
            .find(|line| line.starts_with(name))
            .with_context(|| format!("pgbench's output has no {name}"))?;
        let word = line
            .split('=')
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_default();
        word.parse().with_context(|| format!("pgbench printed {line}"))
    };
    Ok(Floor { per_s: number("tps")?, mean_ms: number("latency average")? })
}
