//! A cart that nobody has touched for long expires: 30 days for a customer's, 7 for a guest's, by configuration.
//!
//! One instance watches one cart. It sleeps until the cart may have expired, looks at the cart, and sleeps on if somebody has used it meanwhile
//! ([`crate::cart::expire()`]). So a change of a cart costs nothing here, and no sweep reads all carts. A cart from which an order is being placed does
//! not expire; the saga looks again when that may be over. An expired cart is emptied, and the event CartExpired says so. A guest's cart
//! is deleted with its token.
//!
//! The saga of a guest's cart starts with the cart ([`create_guest_cart`]), that of a customer's cart with the first item that is
//! put in while none watches it ([`crate::reactions`]). It ends when the cart's time is over, whether or not the cart is empty by then, and with
//! a guest's cart that was merged.
//!
//! If an operator calls the saga off or hands it over, the cart is marked as not watched. Another instance then takes it up: with the next item that is put in,
//! or when the workers look for such carts ([`adopt`]). Deliberately absent: a reminder to the customer.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stepwise_engine::{Engine, Never, Next, Saga, Start, StartError, Unexpected, steps, to};
use uuid::Uuid;

pub use command::create_guest_cart;

use crate::{cart, shop::Shop};

/// How many carts of the time before this saga are taken up at once.
const ADOPTED_AT_ONCE: i64 = 200;

/// The definition.
pub struct CartExpiry;

/// A cart to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The cart.
    pub cart: Uuid,
    /// How long it may be left alone, before the first look.
    pub after: Duration,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is time to look.
    Waiting(Uuid),
    /// The cart is looked at.
    Looking(Uuid),
    /// The end.
    Over(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It is time to look.
    Due,
    /// The cart is in use, and cannot expire for so long.
    InUse(Duration),
    /// The cart has expired, or there is nothing left to watch.
    Ended,
}

steps! {
    /// The steps.
    #[derive(PartialEq, Eq)]
    pub enum Step done by CartExpirySteps -> Event, undone for String {
        /// Look at the cart, and empty it if its time is over.
        Look(cart: Uuid) => tx(look).no_undo(),
    }
    /// The step that the caller has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The cart is marked as watched.
        Mark(cart: Uuid) => undo_tx(unmark),
    }
}

impl Saga for CartExpiry {
    const NAME: &'static str = "cart-expiry";
    type Input = Watch;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(Watch { cart, after }: Watch) -> Next<Self> {
        to(State::Waiting(cart)).caller_did(CallerStep::Mark(cart)).sleep(after, Event::Due)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Waiting(cart), E::Due) => to(S::Looking(cart)).run(Step::Look(cart)),
            (S::Looking(cart), E::InUse(left)) => to(S::Waiting(cart)).sleep(left, E::Due),
            (S::Looking(cart), E::Ended) => to(S::Over(cart)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

/// The start of the saga that watches a cart, which may be left alone for so long.
#[must_use]
pub fn start(cart: Uuid, after: Duration) -> Start<Watch> {
    Start::new(cart.to_string(), Watch { cart, after })
}

/// Starts the saga for some of the carts that none watches, those whose last use is not before `from`: carts whose saga was called off, carts of the time
/// before this saga, and those that an earlier release has filled during a rolling deploy. Returns the time from which to go on; `None`: none is left. A transaction of its own,
/// of 4 round trips.
///
/// # Errors
/// A saga could not be started, or the database failed.
pub async fn adopt(
    engine: &Engine,
    shop: &Shop,
    from: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, StartError> {
    let mut tx = engine.begin().await?;
    let adopted = cart::adopt(&mut tx, ADOPTED_AT_ONCE, from).await?;
    let starts: Vec<_> = adopted.iter().map(|cart| start(cart.cart_id, cart.left(shop))).collect();
    if !starts.is_empty() {
        engine.start_many::<CartExpiry>(&mut tx, starts).await?;
    }
    tx.commit().await?;
    Ok(adopted.iter().map(|cart| cart.last_activity_at).max())
}
