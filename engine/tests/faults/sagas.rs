//! The engine that every process of a fault test has.

use sqlx::PgPool;
use stepwise_engine::Engine;

use crate::{
    nap::{Nap, NapSteps},
    outside::Outside,
    purchase::{Purchase, PurchaseSteps},
    told::Sabotage,
    trip::{Trip, TripSteps},
};

/// An engine that knows the sagas under test.
pub(crate) fn engine(pool: PgPool, outside: &Outside, sabotage: Option<Sabotage>) -> Engine {
    Engine::builder(pool)
        .explored::<Trip, _>(TripSteps { outside: outside.clone(), sabotage })
        .explored::<Purchase, _>(PurchaseSteps(outside.clone()))
        .explored::<Nap, _>(NapSteps)
        .build()
}
