//! Books a seat and prints what was committed of it.

mod saga;
mod steps;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc, time::Duration};

use saga::{Seat, Signal};
use sqlx::PgPool;
use steps::{Bank, TABLES, Workshop};
use stepwise_engine::{Engine, Start, WorkerConfig, inspect, work};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    stepwise_engine::migrate(&pool).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let bank = Arc::new(Bank::default());
    let engine = Engine::builder(pool.clone()).saga::<Seat, _>(Workshop(bank.clone())).build();
    let (stop, stopped) = oneshot::channel::<()>();
    // The only process of this name: what a killed one held is free at once, not only when its lease of 30 s has run out.
    let config =
        WorkerConfig { name: "workshop".to_owned(), sole: true, ..WorkerConfig::default() };
    let working = tokio::spawn(work(engine.clone(), config, async {
        stopped.await.ok();
    }));

    // Start it in a transaction of yours. Its first tx steps run in there, too.
    let guest = format!("guest-{}", uuid::Uuid::now_v7());
    let mut tx = engine.begin().await?;
    let id = engine.start::<Seat>(&mut tx, Start::new(&guest, guest.clone())).await?.id;
    tx.commit().await?;

    // The host answers, perhaps before the bank does. The signal's id makes it safe to send it twice.
    let mut tx = engine.begin().await?;
    let answer = engine.signal::<Seat>(&mut tx, id, "host-1", Signal::Confirms).await?;
    tx.commit().await?;
    println!("the host confirms: {answer:?}");

    let seat = engine.wait_for_end(id, Duration::from_secs(30)).await?.ok_or("it was started")?;
    println!("it is {}; the bank has {} cents", seat.status, bank.balance(id));
    let seat = inspect::details(&pool, id).await?.ok_or("it was started")?;
    for entry in seat.journal {
        println!("{:3} {:8} {}", entry.seq, entry.kind, entry.event.unwrap_or_default());
    }

    stop.send(()).ok();
    working.await??;
    Ok(())
}
