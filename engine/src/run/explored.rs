//! The sagas that this process has explored, and whether it demands that.

use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::saga::Saga;

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
pub(crate) fn demand() {
    explored().demanded = true;
}

/// Remembers that this process has explored a saga. The test judges what was found.
pub(crate) fn remember<S: Saga>(has_pivot: bool) {
    let mut known = explored();
    known.sagas.push(TypeId::of::<S>());
    known.pivots.insert(S::NAME, has_pivot);
}

/// Has the saga of that name a pivot? `None` if it was not explored.
pub(crate) fn has_pivot(name: &str) -> Option<bool> {
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
