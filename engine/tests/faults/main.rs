//! The engine under faults: worker processes that are killed, stopped, cut off and misled, on a real Postgres, with an outside world that
//! trusts nobody. What is asserted and how large a run is meant to be: docs/faults.md.

mod aborts;
mod basket;
mod books;
mod client;
mod clocks;
mod deadlocks;
mod kills;
mod letter;
mod nap;
mod outages;
mod outside;
mod pauses;
mod poison;
mod provider;
mod purchase;
mod relays;
mod releases;
mod sabotage;
mod sagas;
mod stage;
mod stops;
mod told;
mod trip;
mod wakes;
