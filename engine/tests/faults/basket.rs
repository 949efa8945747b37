//! `Basket`: takes two items in the order in which it names them. A careful one has locked both in the lock order before; a careless
//! one has not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    Never, Next, Saga, StepError, StepTx, Unexpected, steps,
    testing::{Sample, Samples},
    to,
};

pub(crate) struct Basket<const CAREFUL: bool>;

/// Items of the stock.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Items(pub(crate) i32, pub(crate) i32);

impl Items {
    /// The last two words of a subject.
    fn told(subject: &str) -> Option<Self> {
        let mut words = subject.rsplit(' ').map(str::parse);
        let (Some(Ok(second)), Some(Ok(first))) = (words.next(), words.next()) else { return None };
        Some(Self(first, second))
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Waiting(Items),
    Taking,
    Taken,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Opened,
    Taken,
}

steps! {
    pub(crate) enum Step done by Baskets -> Event, undone for String {
        Take(items: Items) => tx(take).pivot(),
    }
}

impl<const CAREFUL: bool> Saga for Basket<CAREFUL> {
    const NAME: &'static str = if CAREFUL { "basket" } else { "careless basket" };
    /// The item that it takes, and how long it waits before.
    type Input = (Items, Duration);
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start((items, delay): Self::Input) -> Next<Self> {
        to(State::Waiting(items)).sleep(delay, Event::Opened)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Waiting(items), Event::Opened) => to(State::Taking).run(Step::Take(items)),
            (State::Taking, Event::Taken) => to(State::Taken).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl<const CAREFUL: bool> Samples for Basket<CAREFUL> {
    fn inputs() -> Vec<Self::Input> {
        vec![(Items(1, 2), Duration::from_secs(1))]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Take(_) => vec![Sample::done(Event::Taken)],
        }
    }
}

pub(crate) struct BasketSteps {
    pub(crate) careful: bool,
}

impl Baskets for BasketSteps {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        let Some(Items(first, second)) = Items::told(subject).filter(|_| self.careful) else {
            return Ok(());
        };
        sqlx::query(
            "-- name: test lock items\nselect from test.stock where item = any($1) order by item for no key update",
        )
        .bind([first, second])
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn take(&self, tx: &mut StepTx<'_>, items: &Items) -> Result<Event, StepError> {
        for item in [items.0, items.1] {
            sqlx::query(
                "-- name: test take
                with taken as (update test.stock set on_hand = on_hand - 1 where item = $1 returning 1)
                select pg_sleep(0.002) from taken",
            )
            .bind(item)
            .execute(&mut **tx)
            .await?;
        }
        Ok(Event::Taken)
    }
}
