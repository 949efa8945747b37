//! A seat in a workshop: held, paid for, confirmed by the host; or everything is taken back. Pure: no clock, no database, no network.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Next, Saga, Terms, Unexpected, amount, signals, steps, to, unwind};

pub(crate) struct Seat;

/// An id, never a name or an address: what is stored here is seen by operators and kept.
type Guest = String;

steps! {
    pub(crate) enum Step done by SeatSteps -> Event, undone for String {
        Hold(guest: Guest) => tx(hold).undo_tx(release),
        Charge => call(charge, charging()).probe(find_charge).undo_call(refund),
        Admit(guest: Guest) => tx(admit).pivot(),
    }
}

/// "Never seen" counts only a second after the attempt: the request may still be on its way.
fn charging() -> Terms {
    Terms::effect("charge").amount(amount!(25.00 EUR)).settles_after(Duration::from_secs(1))
}

/// What an instance remembers, named after what it waits for.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Holding(Guest),
    Paying(Guest),
    AwaitingHost(Guest),
    Admitting,
    Admitted,
}

/// What can happen to it. A refusal is an event like any other.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Held,
    Full,
    Paid,
    Declined,
    Host(Signal),
    HostIsSilent,
    Admitted,
}

signals! {
    /// The host may answer before the charge has: the answer is kept until the saga waits for it.
    pub(crate) enum Signal as Event::Host { Confirms => keep, Declines => keep }
}

impl Saga for Seat {
    const NAME: &'static str = "seat";
    type Input = Guest;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(guest: Guest) -> Next<Self> {
        to(State::Holding(guest.clone())).run(Step::Hold(guest))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Holding(guest), E::Held) => to(S::Paying(guest)).run(Step::Charge),
            (S::Holding(_), E::Full) => unwind("no seat is free"),
            (S::Paying(guest), E::Paid) => to(S::AwaitingHost(guest))
                .or_after(Duration::from_secs(3 * 86_400), E::HostIsSilent),
            (S::Paying(_), E::Declined) => unwind("the charge is declined"),
            (S::AwaitingHost(guest), E::Host(Signal::Confirms)) => {
                to(S::Admitting).run(Step::Admit(guest))
            }
            (S::AwaitingHost(_), E::Host(Signal::Declines)) => unwind("the host declines"),
            (S::AwaitingHost(_), E::HostIsSilent) => unwind("the host is silent"),
            (S::Admitting, E::Admitted) => to(S::Admitted).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
