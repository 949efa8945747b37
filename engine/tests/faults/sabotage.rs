//! The checker is proven: with one protection switched off it must go red, and name what that protection is for.

use std::time::Duration;

use crate::{
    client::Pace,
    pauses::{pause, unhurried},
    provider::Manners,
    stage::Stage,
    told::Sabotage,
};

/// The number of tries until the damage must be done.
const TRIES: usize = 5;

/// Runs until the checker finds a fault of that invariant.
async fn red(name: &str, mut run: impl AsyncFnMut() -> Vec<String>) {
    for _ in 0..TRIES {
        let mut faults = run().await;
        faults.retain(|fault| fault.contains(&format!("{name}:")));
        if !faults.is_empty() {
            println!(
                "as it should be, {} faults, the first: {:#?}",
                faults.len(),
                &faults[..faults.len().min(3)]
            );
            return;
        }
    }
    panic!("{TRIES} runs, and the checker does not notice the sabotage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_fence_the_checker_goes_red() {
    red("I10", async || {
        let mut stage = Stage::new(unhurried()).await;
        pause(&mut stage, 2, Some(Sabotage::Fence)).await;
        let faults = stage.books().await.faults();
        stage.close().await;
        faults
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deduplication_of_signals_the_checker_goes_red() {
    red("I9", async || {
        let mut stage = Stage::new(Manners::good()).await;
        // Every signal id is a new one: no protection of the engine is left, and no hook is needed in it.
        sqlx::raw_sql(
            "-- name: test new ids
            create function test.new_id() returns trigger language plpgsql as
                $$ begin new.signal_id := new.signal_id || gen_random_uuid(); return new; end $$;
            create trigger new_id before insert on saga.signal for each row execute function test.new_id();",
        )
        .execute(&stage.pool)
        .await
        .expect("the trigger is new");
        let worker = stage.worker("worker");
        let load = stage.load(Pace::default());
        tokio::time::sleep(Duration::from_secs(2)).await;
        load.end().await;
        stage.quiet().await;
        let faults = stage.books().await.faults();
        drop(worker);
        stage.close().await;
        faults
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_probe_the_checker_goes_red() {
    red("I2", async || {
        // Half of the calls are done and not answered; half of the trips are cancelled in the middle of one.
        let silent = Manners { silent_after: 50, ..unhurried() };
        let mut stage = Stage::new(silent).await;
        let worker = stage.saboteur("worker", Sabotage::Probe);
        let load = stage.load(Pace { purchases: 0, cancels: 50, ..Pace::default() });
        tokio::time::sleep(Duration::from_secs(2)).await;
        load.end().await;
        stage.quiet().await;
        let faults = stage.books().await.faults();
        drop(worker);
        stage.close().await;
        faults
    })
    .await;
}
