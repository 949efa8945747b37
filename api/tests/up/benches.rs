//! Benches on a temporary Postgres of their own.

use std::{fs, time::Duration};

use serde_json::Value;
use tokio::time::timeout;

use crate::site::{Site, eventually, kill};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_prints_its_figures_and_leaves_nothing_behind() {
    let site = Site::new();
    let mut bench = site.command(&["bench", "engine", "--instances", "300", "--json"]);
    bench.env("TMPDIR", &site.home).kill_on_drop(true);
    let ended = timeout(PATIENCE, bench.output()).await.expect("it ends").expect("it starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let figures: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    for name in ["instances_per_s", "instances_per_s_with_effects", "floor_per_s", "floor_ratio"] {
        assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {figures}");
    }
    left_nothing(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_that_is_told_to_stop_leaves_nothing_behind() {
    let site = Site::new();
    let mut bench = site.command(&["bench", "engine", "--instances", "10000000"]);
    let mut bench = bench.env("TMPDIR", &site.home).kill_on_drop(true).spawn().expect("it starts");
    eventually("its database and its first load", async || site.processes().len() >= 8).await;
    kill("INT", &bench.id().expect("it runs").to_string());
    let ended = timeout(PATIENCE, bench.wait()).await.expect("it ends").expect("it was ours");
    assert_eq!(ended.code(), Some(1));
    left_nothing(&site);
}

/// It is told so when its shop, with a gateway, is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_of_orders_that_is_told_to_stop_leaves_nothing_behind() {
    let site = Site::new();
    let mut bench = site.command(&["bench", "orders", "--seconds", "600"]);
    let mut bench = bench.env("TMPDIR", &site.home).kill_on_drop(true).spawn().expect("it starts");
    let folder = site.home.join(format!("stepwise-bench-{}", bench.id().expect("it runs")));
    eventually("its shop", async || folder.join("shop/demo.json").exists()).await;
    kill("INT", &bench.id().expect("it runs").to_string());
    let ended = timeout(PATIENCE, bench.wait()).await.expect("it ends").expect("it was ours");
    assert_eq!(ended.code(), Some(1));
    left_nothing(&site);
}

fn left_nothing(site: &Site) {
    assert_eq!(site.processes(), Vec::<u32>::new());
    let folders = fs::read_dir(&site.home).expect("readable").flatten();
    let left: Vec<_> = folders.map(|entry| entry.file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with("stepwise-bench")),
        "{left:?}"
    );
}
