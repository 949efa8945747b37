//! Five activities per instance, each durable before the next: prints instances per second.
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::time::{Duration, Instant};
use stepwise_engine::*;

struct Five;
#[derive(Serialize, Deserialize, Clone, Debug)]
struct At {
    step: u8,
}
#[derive(Serialize, Deserialize, Clone, Debug)]
enum Done {
    Done(u8),
}
#[derive(Serialize, Deserialize, Clone, Debug)]
enum Never {}
#[derive(Serialize, Deserialize, Clone, Debug)]
enum Do {
    Do(u8),
    TakeBack(u8),
}

impl Saga for Five {
    const NAME: &'static str = "five-steps";
    const VERSION: u16 = 1;
    type Input = u8;
    type State = At;
    type Event = Done;
    type Tx = Never;
    type Activity = Do;
    type Reason = String;
    fn start(_: u8) -> Next<Self> {
        to(At { step: 1 }).call(Do::Do(1))
    }
    fn on(state: At, _: Done) -> Result<Next<Self>, Unexpected> {
        Ok(if state.step == 5 {
            to(At { step: 6 }).done()
        } else {
            to(At { step: state.step + 1 }).call(Do::Do(state.step + 1))
        })
    }
    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Do::Do(n)) => Undo::By(Step::Activity(Do::TakeBack(*n))),
            Step::Activity(Do::TakeBack(_)) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }
    fn terms(_: &Do) -> Terms {
        let mut t = Terms::new();
        if std::env::var_os("EFFECTS").is_some() {
            t.effect = Some(EffectKind { kind: "thing", amount: None });
        }
        t
    }
    fn gave_up(_: &Do) -> String {
        "gave up".into()
    }
}
struct Noop;
impl Steps<Five> for Noop {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Done, StepError> {
        match *step {}
    }
    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &String,
    ) -> Result<(), StepError> {
        match *step {}
    }
    async fn call(&self, _: &ActivityKey, a: &Do) -> Outcome<Done> {
        match a {
            Do::Do(n) | Do::TakeBack(n) => {
                if std::env::var_os("EFFECTS").is_some() {
                    Outcome::confirmed(Done::Done(*n), "ref")
                } else {
                    Outcome::event(Done::Done(*n))
                }
            }
        }
    }
    async fn undo_call(
        &self,
        _: &ActivityKey,
        _: &Do,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        Undone::Nothing
    }
}

#[tokio::main]
async fn main() {
    let n: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(20_000);
    let chunk: usize = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(250);
    let flight: usize = std::env::args().nth(3).and_then(|a| a.parse().ok()).unwrap_or(4000);
    let db = testing::Database::fresh(&[migrations::migrations()]).await;
    let pool = db.pool().clone();
    let engine = Engine::builder(pool.clone()).saga::<Five, _>(Noop).build();
    let stop = tokio_util::sync::CancellationToken::new();
    let config = WorkerConfig { room: flight, ..Default::default() };
    let worker = tokio::spawn(work(engine.clone(), config, stop.clone().cancelled_owned()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let mut left = n;
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(2));
    let mut starts = tokio::task::JoinSet::new();
    while left > 0 {
        let k = chunk.min(left);
        left -= k;
        let permit = room.clone().acquire_owned().await.unwrap();
        while engine.room() < k {
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        let (engine, pool) = (engine.clone(), pool.clone());
        starts.spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let started = engine
                .start_many::<Five>(
                    &mut tx,
                    (0..k).map(|_| Start::new(uuid::Uuid::now_v7().to_string(), 0)).collect(),
                )
                .await
                .unwrap();
            tx.commit().await.unwrap();
            for s in started {
                s.hand_over();
            }
            drop(permit);
        });
    }
    starts.join_all().await;
    loop {
        let open: i64 = sqlx::query_scalar("select count(*) from saga.instance where status not in ('completed','unwound','abandoned')").fetch_one(&pool).await.unwrap();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = begun.elapsed();
    println!("{n} instances in {took:?}: {:.0}/s", n as f64 / took.as_secs_f64());
    let (rows, txs): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct (xmin::text, saga_id)) from saga.journal")
            .fetch_one(&pool)
            .await
            .unwrap();
    println!("journal rows {rows}, distinct (tx, instance) {txs}");
    stop.cancel();
    worker.await.unwrap().unwrap();
    db.close().await;
}
