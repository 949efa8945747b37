//! A reservation by hand ends when its time is over: 24 hours, by configuration.
//!
//! reserveInventory starts an instance in its own transaction ([`crate::reactions`]). It sleeps until the time is over, and releases what is still
//! reserved by hand of that stock for that order ([`crate::inventory::expire_reservation`]). If more was reserved for the order meanwhile, the
//! whole reservation is held longer, and the instance sleeps on.
//!
//! An order that ends releases the reservation itself, in the transaction that ends it, and releaseInventory may be faster, too. All of them lock the
//! stock first, so the stock is released once; the instance then finds nothing and ends.
//!
//! Nothing is done before the end, so there is nothing to take back: the saga may be called off at any time, and the reservation stays until its order
//! ends. Deliberately absent: the reservations of placements, which end with the saga that places the order.

mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Never, Next, Saga, Start, Unexpected, steps, to};
use uuid::Uuid;

/// The definition.
pub struct ReservationExpiry;

/// A reservation by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order that it is for.
    pub order: Uuid,
    /// The stock of which it holds something.
    pub inventory: Uuid,
}

/// A reservation, and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The reservation.
    pub reservation: Reservation,
    /// The time that it holds.
    pub lifetime: Duration,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The time is over.
    Waiting(Reservation),
    /// The stock is released.
    Releasing(Reservation),
    /// The end.
    Over(Reservation),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The time is over.
    Due,
    /// More was reserved meanwhile, and all of it holds so much longer.
    Prolonged(Duration),
    /// Nothing is reserved any more.
    Released,
}

steps! {
    /// The steps.
    #[derive(PartialEq, Eq)]
    pub enum Step done by ReservationExpirySteps -> Event, undone for String {
        /// Release what is still reserved, if its time is over.
        Release(reservation: Reservation) => tx(release).no_undo(),
    }
}

impl Saga for ReservationExpiry {
    const NAME: &'static str = "reservation-expiry";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(Input { reservation, lifetime }: Input) -> Next<Self> {
        to(State::Waiting(reservation)).sleep(lifetime, Event::Due)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Waiting(it), E::Due) => to(S::Releasing(it)).run(Step::Release(it)),
            (S::Releasing(it), E::Prolonged(left)) => to(S::Waiting(it)).sleep(left, E::Due),
            (S::Releasing(it), E::Released) => to(S::Over(it)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

/// The start of the saga that ends a reservation. Each reservation for an order has its own, also if it adds to an earlier one.
#[must_use]
pub fn start(order: Uuid, inventory: Uuid, lifetime: Duration) -> Start<Input> {
    let input = Input { reservation: Reservation { order, inventory }, lifetime };
    Start::new(order.to_string(), input).key(Uuid::now_v7().to_string())
}
