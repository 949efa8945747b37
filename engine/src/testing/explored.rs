//! A saga that was not explored is not registered in a test.
//!
//! The switch is the test's own database: [`super::Database::fresh`] demands it of the process it runs in, and nothing else does. A
//! program that serves customers makes no test database, so there is no setting that could be wrong there.

use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{explore::explore, samples::Samples};
use crate::{engine::EngineBuilder, saga::Saga, table::DoneBy};

struct Explored {
    demanded: bool,
    sagas: Vec<TypeId>,
    pivots: BTreeMap<&'static str, bool>,
}

static EXPLORED: Mutex<Explored> =
    Mutex::new(Explored { demanded: false, sagas: Vec::new(), pivots: BTreeMap::new() });

fn explored() -> MutexGuard<'static, Explored> {
    EXPLORED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this process registers explored sagas only.
pub(super) fn demand() {
    explored().demanded = true;
}

/// That saga was explored in this process. What was found is for the test to judge.
pub(super) fn remember<S: Saga>(has_pivot: bool) {
    let mut known = explored();
    known.sagas.push(TypeId::of::<S>());
    known.pivots.insert(S::NAME, has_pivot);
}

/// Has the saga of that name a pivot? `None` if it was not explored.
pub(super) fn has_pivot(name: &str) -> Option<bool> {
    explored().pivots.get(name).copied()
}

/// Asked at every registration.
///
/// # Panics
/// When this process tests and has not explored the saga.
pub(crate) fn must_be_explored<S: Saga>() {
    let known = explored();
    let refused = known.demanded && !known.sagas.contains(&TypeId::of::<S>());
    // A panic must not poison what other tests of this process ask.
    drop(known);
    assert!(
        !refused,
        "the saga {name} is registered in a test that has not explored it: implement `testing::Samples` for it and register it with \
         `EngineBuilder::explored`, or call `testing::explore` before (and look at its faults)",
        name = S::NAME,
    );
}

impl EngineBuilder {
    /// For tests: explores a saga, which must be sound, and adds it. A few milliseconds for a saga of some ten states.
    ///
    /// # Panics
    /// When the saga has faults, each in words, or its name is taken.
    #[must_use]
    #[track_caller]
    pub fn explored<S, I>(self, services: I) -> Self
    where
        S: Samples + Saga<Step: DoneBy<I>>,
        I: Send + Sync + 'static,
    {
        explore::<S>().assert_sound();
        self.saga::<S, I>(services)
    }
}
