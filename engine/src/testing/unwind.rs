//! Every way back of a saga, tried on a real Postgres.

use std::sync::Arc;

use futures::future::join;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use super::{
    Database,
    explore::explore,
    map::Map,
    meddle::{Asked, Meddled, Meddler, Meddling, Plan, Way},
    samples::Samples,
    trial::{Trial, ended, engine, must_balance, runtime, told},
    walk::name,
};
use crate::{
    base::{id::shard_in, status::Status},
    record::row::Row,
    run::work::work,
    saga::{
        Done, Saga,
        table::{Kind, StepTable as _},
    },
    worker::{config::WorkerConfig, engine::Engine, perform::Services},
};

/// The ways back that were tried, in words: `cancelled after Charge`, `Charge repeated`.
#[derive(Debug)]
pub struct Unwound {
    /// The points at which, and the ways in which, an instance was made to unwind.
    pub points: Vec<String>,
    /// The steps and undos that were done twice.
    pub repeated: Vec<String>,
}

/// Runs the trial once as it goes, then once per way back. For each step up to the pivot: the instance is cancelled before it (an
/// activity is not called then, a tx step rolls back), cancelled after it, the step refuses (each [`super::Sample::refused`] that
/// unwinds), an activity is given up without having acted, and having acted without anybody having heard of it. Then once per
/// step, and once per undo, done twice: nobody hears of the first time, or its transaction rolls back.
///
/// Each time the instance must end unwound (repeated steps: as the first run), the ledger show no effect that stands, the undos have run
/// in reverse order, each once, and the trial's books balance. This finds an undo that needs what may not be there, that is
/// no no-op when repeated or that was forgotten, a call without our key, and a tx step that acts outside its transaction.
///
/// Call it from a plain `#[test]`. A run takes about 50 ms.
///
/// # Panics
/// When the saga is not sound, the trial does not complete as it goes, or something of the above does not hold; the message names
/// the step and what was done to it.
pub fn unwinds_from_every_step<T: Trial>(trial: &T) -> Unwound {
    let home = runtime();
    let unwound = home.block_on(async {
        let database = Database::fresh(&trial.migrations()).await;
        trial.prepare(database.pool()).await;
        let unwound = Unwinding::begin(trial, &database).await.all().await;
        database.close().await;
        unwound
    });
    home.shutdown_background();
    unwound
}

struct Unwinding<'a, T: Trial> {
    trial: &'a T,
    map: Map,
    engine: Engine,
    meddler: Arc<Meddler<T::Saga>>,
    runs: usize,
}

type Event<T> = <<T as Trial>::Saga as Saga>::Event;

impl<'a, T: Trial> Unwinding<'a, T> {
    async fn begin(trial: &'a T, database: &Database) -> Self {
        let pool = PgPoolOptions::new().max_connections(10).connect_lazy_with(database.options());
        let services = || Services(Arc::new(trial.services(pool.clone())));
        let meddler = Meddler::new(engine(trial, pool.clone(), services()));
        let steps = Meddling { steps: services(), meddler: meddler.clone() };
        let engine = engine(trial, pool, steps);
        let config = WorkerConfig {
            name: "trial".to_owned(),
            poll: std::time::Duration::from_millis(20),
            batchers: 1,
            room: 64,
            ..WorkerConfig::default()
        };
        tokio::spawn(work(engine.clone(), config, std::future::pending()));
        while engine.room() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        Self { trial, map: explore::<T::Saga>(), engine, meddler, runs: 0 }
    }

    async fn all(mut self) -> Unwound {
        let (end, asked) = self.run(Plan::none(), "as it goes").await;
        assert!(
            end.status == Status::Completed,
            "the trial has to complete when nothing is done to it, it is {}: {:?}",
            end.status.as_str(),
            end.progress.last_error
        );
        let (mut points, mut repeated) = (Vec::new(), Vec::new());
        let mut deepest = None;
        for (nth, step) in asked.iter().enumerate() {
            // A tx step that is the last one has ended the instance when it is done.
            let is_last = nth + 1 == asked.len();
            for way in self.ways(step, is_last) {
                let point = way.told(&step.name());
                let plan = Plan { unwind: Some((nth, way.clone())), repeat: None };
                let (end, undone) = self.run(plan, &point).await;
                self.must_be(&end, Status::Unwound, &point).await;
                points.push(point);
                if matches!(way, Way::Before | Way::After) {
                    deepest = Some((nth, way, undone));
                }
            }
        }
        for (nth, step) in asked.iter().enumerate() {
            let point = format!("{} repeated", step.name());
            let (end, _) = self.run(Plan { unwind: None, repeat: Some(nth) }, &point).await;
            self.must_be(&end, Status::Completed, &point).await;
            repeated.push(point);
        }
        let Some((at, way, undone)) = deepest else { return Unwound { points, repeated } };
        for (nth, undo) in undone.iter().enumerate().filter(|(_, asked)| asked.is_undo) {
            let point = format!("{} repeated, an undo", undo.name());
            let plan = Plan { unwind: Some((at, way.clone())), repeat: Some(nth) };
            let (end, _) = self.run(plan, &point).await;
            self.must_be(&end, Status::Unwound, &point).await;
            repeated.push(point);
        }
        Unwound { points, repeated }
    }

    /// The ways in which an instance may come to unwind at a step.
    fn ways(&self, asked: &Asked<T::Saga>, is_last: bool) -> Vec<Way<Event<T>>> {
        let mut ways = Vec::new();
        let Done::Step(step) = &asked.done else { return ways };
        if asked.past_pivot || asked.is_undo {
            return ways;
        }
        if !asked.in_start {
            ways.push(Way::Before);
        }
        let refuses = |event: &Event<T>| {
            let refusal = (name(step), name(event));
            self.map.refusals.contains(&refusal)
        };
        let samples = T::Saga::outcomes(step).into_iter();
        ways.extend(
            samples
                .filter(|sample| !sample.stands && refuses(&sample.event))
                .map(|sample| Way::Refuses(sample.event)),
        );
        match step.kind() {
            _ if asked.is_pivot() => {}
            Kind::Call => ways.extend([Way::Silent, Way::Unheard, Way::After]),
            Kind::Tx if is_last => {}
            Kind::Tx => ways.push(Way::After),
        }
        ways
    }

    /// One run, to its end, its books looked at.
    async fn run(&mut self, plan: Plan<Event<T>>, point: &str) -> (Row, Vec<Asked<T::Saga>>) {
        self.runs += 1;
        println!("{point}");
        self.meddler.begin(plan);
        let id = told(point, self.trial.start(&self.engine, self.runs)).await;
        let meanwhile = || self.meddler.meanwhile(id);
        let (end, ()) = join(
            ended(self.engine.pool(), id, point, meanwhile),
            told(point, self.trial.play(&self.engine, id)),
        )
        .await;
        let Meddled { asked, done, fault } = self.meddler.end();
        if let Some(fault) = fault {
            panic!("{point}: {fault}");
        }
        if end.status == Status::Stuck {
            let why = end.progress.last_error.as_deref().unwrap_or("it is stuck");
            panic!("{point}: it needs a person: {why}");
        }
        assert!(done, "{point}: the run came to no such step; a trial goes the same way each time");
        must_balance(self.trial, &self.engine, id, end.status, point).await;
        (end, asked)
    }

    async fn must_be(&self, end: &Row, status: Status, point: &str) {
        assert!(
            end.status == status,
            "{point}: it has to be {}, it is {}",
            status.as_str(),
            end.status.as_str()
        );
        let undone = self.undone(end.saga_id).await;
        assert!(
            undone.is_sorted_by(|earlier, later| earlier.0 >= later.0 && earlier != later),
            "{point}: undos run last first, each once, not {undone:?}"
        );
    }

    /// The steps that were taken back, by number, and what the journal says of it.
    async fn undone(&self, id: Uuid) -> Vec<(i32, Option<String>)> {
        sqlx::query_as(
            "-- name: testing: undone steps
            select step_no, event::text from saga.journal where shard = $1 and saga_id = $2 and kind = 'undo' order by seq, at",
        )
        .bind(shard_in(id))
        .bind(id)
        .fetch_all(self.engine.pool())
        .await
        .expect("a trial's database answers")
    }
}
