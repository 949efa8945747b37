// A saga for the examples in the documentation of the engine, which include this file: a seat is held, paid for, and given to the guest if the
// host confirms.

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Key, Next, Outcome, Probe, Saga, StepError, StepTx, Terms, Undoing, Undone, Unexpected, amount,
    signals, steps, to, unwind,
};

pub struct Seat;

steps! {
    pub enum Step done by SeatSteps -> Event, undone for String {
        Hold(guest: u32) => tx(hold).undo_tx(release),
        Charge => call(charge, Terms::effect("charge").amount(amount!(25.00 EUR))).probe(find_charge).undo_call(refund),
        Admit => tx(admit).pivot(),
    }
}

signals! { pub enum Signal as Event::Host { Confirms => keep, Declines => refuse } }

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum State {
    Holding,
    Paying,
    AwaitingHost,
    Admitting,
    Admitted,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Event {
    Held,
    Full,
    Paid,
    Declined,
    Host(Signal),
    Admitted,
}

impl Saga for Seat {
    const NAME: &'static str = "seat";
    type Input = u32;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(guest: u32) -> Next<Self> {
        to(State::Holding).run(Step::Hold(guest))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Holding, E::Held) => to(S::Paying).run(Step::Charge),
            (S::Holding, E::Full) => unwind("no seat is free"),
            (S::Paying, E::Paid) => to(S::AwaitingHost).wait(),
            (S::Paying, E::Declined) => unwind("the charge is declined"),
            (S::AwaitingHost, E::Host(Signal::Confirms)) => to(S::Admitting).run(Step::Admit),
            (S::AwaitingHost, E::Host(Signal::Declines)) => unwind("the host declines"),
            (S::Admitting, E::Admitted) => to(S::Admitted).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

pub struct Workshop;

impl SeatSteps for Workshop {
    async fn hold(&self, _: &mut StepTx<'_>, _: &u32) -> Result<Event, StepError> {
        Ok(Event::Held)
    }

    async fn release(
        &self,
        _: &mut StepTx<'_>,
        _: &u32,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        Ok(())
    }

    async fn charge(&self, key: &Key) -> Outcome<Event> {
        Outcome::confirmed(Event::Paid, format!("charge {key}"))
    }

    async fn find_charge(&self, _: &Key) -> Probe<Event> {
        Probe::NotHappened
    }

    async fn refund(&self, _: &Undoing<String>) -> Undone {
        Undone::Undone(None)
    }

    async fn admit(&self, _: &mut StepTx<'_>) -> Result<Event, StepError> {
        Ok(Event::Admitted)
    }
}
