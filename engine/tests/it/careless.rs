//! A saga with children that have a pivot before its own: exploring refuses it, and a child that comes to its pivot all the same waits for a person.

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Child, Engine, Joined, Never, Next, Saga, Start, Unexpected, steps,
    testing::{Sample, Samples, explore},
    to,
};

use crate::{
    tasks::{Leaf, Root, TaskSteps, Todo},
    world::{World, eventually, quick, see, work_on},
};

struct Careless;

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Joining,
    Over,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Joined(Joined),
}

steps! {
    enum Step done by CarelessSteps -> Event, undone for String {}
}

impl Saga for Careless {
    const NAME: &'static str = "careless";
    type Input = ();
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        let child = Child::of::<Root>(Start::new("settles", Todo::new("settles")));
        to(State::Joining).children(vec![child])
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        match (state, event) {
            (State::Joining, Event::Joined(_)) => Ok(to(State::Over).done()),
            (state, event) => Err(Unexpected::new(&state, &event)),
        }
    }

    fn joined(ends: &Joined) -> Option<Event> {
        Some(Event::Joined(*ends))
    }
}

impl Samples for Careless {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match *step {}
    }
}

struct NoSteps;

impl CarelessSteps for NoSteps {}

fn engine(world: &World) -> Engine {
    let tasks = || TaskSteps(world.provider.clone());
    let builder = Engine::builder(world.pool.clone());
    let builder = builder.explored::<Leaf, _>(tasks()).explored::<Root, _>(tasks());
    let faults = explore::<Careless>().faults;
    assert_eq!(
        faults,
        ["root has a pivot: its instances may be children only after the pivot of careless"]
    );
    builder.saga::<Careless, _>(NoSteps).build()
}

#[tokio::test]
async fn a_child_may_not_pass_a_pivot_while_its_parent_may_take_it_back() {
    let world = World::new().await;
    let engine = engine(&world);
    let worker = work_on(&engine, quick()).await;
    let mut tx = engine.begin().await.expect("the database is there");
    let started = engine.start::<Careless>(&mut tx, Start::new("careless", ())).await;
    let started = started.expect("it can be started");
    tx.commit().await.expect("the database is there");
    let parent = started.id;
    let mut stuck = None;
    eventually("the child to wait for a person", async || {
        stuck = sqlx::query_as::<_, (String, bool)>(
            "-- name: test child
            select last_error, past_pivot from saga.instance where name = 'root' and status = 'stuck'",
        )
        .fetch_optional(&world.pool)
        .await
        .expect("the database is there");
        stuck.is_some()
    })
    .await;
    let (why, past_pivot) = stuck.expect("it is stuck");
    assert!(
        why.contains("a child cannot pass a pivot while its parent may still take it back"),
        "{why}"
    );
    assert!(!past_pivot);
    let seen = see(&world.pool, parent).await;
    assert_eq!((seen.status.as_str(), seen.waiting_on.as_deref()), ("running", Some("children")));
    worker.stop().await;
    world.close().await;
}
