//! The engine that every process of a fault test has.

use sqlx::PgPool;
use stepwise_engine::Engine;

use crate::{
    basket::{Basket, BasketSteps},
    letter::{Letter, LetterSteps, NEW, OLD},
    nap::{Nap, NapSteps},
    outside::Outside,
    purchase::{Purchase, PurchaseSteps},
    told::Sabotage,
    trip::{Trip, TripSteps},
};

/// An engine that knows the sagas under test.
pub(crate) fn engine(
    pool: PgPool,
    outside: &Outside,
    sabotage: Option<Sabotage>,
    release: u16,
) -> Engine {
    let letters = LetterSteps(outside.clone());
    let builder = Engine::builder(pool);
    let builder = match release {
        OLD => builder.explored::<Letter<OLD>, _>(letters),
        _ => builder.explored::<Letter<NEW>, _>(letters),
    };
    builder
        .explored::<Trip, _>(TripSteps { outside: outside.clone(), sabotage })
        .explored::<Purchase, _>(PurchaseSteps(outside.clone()))
        .explored::<Nap, _>(NapSteps)
        .explored::<Basket<true>, _>(BasketSteps { careful: true })
        .explored::<Basket<false>, _>(BasketSteps { careful: false })
        .build()
}
