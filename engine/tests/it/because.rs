//! A start says what led to it; the tx steps of the instance, of its children and of what it starts know it.

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::{
    Child, Engine, Joined, Never, Next, Saga, Start, StartError, StepError, StepTx, Undoing,
    Unexpected, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::world::{World, quick, work_on};

struct Note;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Input {
    /// Notes what its step is told.
    Alone,
    /// Has a child that does so.
    Parent,
    /// Starts another one in its step.
    Starter,
    /// Notes it, and takes that back.
    Refused,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Noting(Input),
    Waiting,
    Noted,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Noted,
    Refused,
    Joined,
}

steps! {
    enum Step done by Notebook -> Event, undone for String {
        Write(input: Input) => tx(write).undo_tx(strike),
    }
}

impl Saga for Note {
    const NAME: &'static str = "note";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Parent => to(State::Waiting)
                .children(vec![Child::of::<Self>(Start::new("child", Input::Alone))]),
            input => to(State::Noting(input.clone())).run(Step::Write(input)),
        }
    }

    fn joined(_: &Joined) -> Option<Event> {
        Some(Event::Joined)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Noting(_), Event::Noted) | (State::Waiting, Event::Joined) => {
                to(State::Noted).done()
            }
            (State::Noting(_), Event::Refused) => unwind("refused".to_owned()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Note {
    fn inputs() -> Vec<Input> {
        vec![Input::Alone, Input::Parent, Input::Starter, Input::Refused]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        let Step::Write(input) = step;
        match input {
            Input::Refused => vec![Sample::refused(Event::Refused)],
            _ => vec![Sample::done(Event::Noted)],
        }
    }
}

struct Paper;

async fn hear(tx: &mut StepTx<'_>) -> Result<(), StepError> {
    sqlx::query(
        "-- name: test hear
        insert into heard (subject, instance, because, is_undo) values ($1, $2, $3, $4)",
    )
    .bind(tx.subject())
    .bind(tx.instance())
    .bind(tx.because())
    .bind(tx.is_undo())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Notebook for Paper {
    async fn write(&self, tx: &mut StepTx<'_>, input: &Input) -> Result<Event, StepError> {
        hear(tx).await?;
        match input {
            Input::Starter => {
                let start = Start::new("started", Input::Alone).because("a step");
                let engine = tx.engine();
                match engine.start::<Note>(tx, start).await {
                    Ok(_) => Ok(Event::Noted),
                    Err(StartError::Database(error)) => Err(error.into()),
                    Err(error) => Err(StepError::Broken(error.to_string())),
                }
            }
            Input::Refused => Ok(Event::Refused),
            Input::Alone | Input::Parent => Ok(Event::Noted),
        }
    }

    async fn strike(
        &self,
        tx: &mut StepTx<'_>,
        _: &Input,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        hear(tx).await
    }
}

/// The causes that the steps of a subject's instances were told, and whether each was an undo.
async fn heard(pool: &PgPool, subject: &str) -> Vec<(Option<String>, bool)> {
    sqlx::query_as(
        "-- name: test heard
        select h.because, h.is_undo from heard h
        join saga.instance i on i.saga_id = h.instance and i.subject = h.subject
        where h.subject = $1 order by h.is_undo",
    )
    .bind(subject)
    .fetch_all(pool)
    .await
    .expect("the database is there")
}

#[tokio::test]
async fn the_steps_of_an_instance_and_of_its_children_know_what_led_to_its_start() {
    let world = World::new().await;
    sqlx::raw_sql(
        "-- name: test tables
        create table heard (subject text, instance uuid, because text, is_undo boolean)",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let engine = Engine::builder(world.pool.clone()).explored::<Note, _>(Paper).build();
    let worker = work_on(&engine, quick()).await;
    let told = |text: &str, is_undo| (Some(text.to_owned()), is_undo);
    for (subject, input) in [
        ("alone", Input::Alone),
        ("parent", Input::Parent),
        ("starter", Input::Starter),
        ("refused", Input::Refused),
    ] {
        let mut tx = engine.begin().await.expect("the database is there");
        let start = Start::new(subject, input).because("a request");
        let id = engine.start::<Note>(&mut tx, start).await.expect("started").id;
        tx.commit().await.expect("the database is there");
        world.ended(id).await;
    }
    assert_eq!(heard(&world.pool, "alone").await, [told("a request", false)]);
    assert_eq!(heard(&world.pool, "child").await, [told("a request", false)], "inherited");
    assert_eq!(heard(&world.pool, "starter").await, [told("a request", false)]);
    assert_eq!(heard(&world.pool, "started").await, [told("a step", false)]);
    let taken_back = [told("a request", false), told("a request", true)];
    assert_eq!(heard(&world.pool, "refused").await, taken_back);

    let mut tx = engine.begin().await.expect("the database is there");
    let long = Start::new("long", Input::Alone).because("x".repeat(513));
    let refused = engine.start::<Note>(&mut tx, long).await;
    assert!(matches!(refused, Err(StartError::OverLimit(_))), "{refused:?}");
    drop(tx);
    worker.stop().await;
    world.close().await;
}
