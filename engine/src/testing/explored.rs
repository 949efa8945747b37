//! A saga that was not explored is not registered in a test.
//!
//! The switch is the test's own database: [`super::Database::fresh`] demands it of the process it runs in, and nothing else does. A
//! program that serves customers makes no test database, so there is no setting that could be wrong there.

use super::{explore::explore, samples::Samples};
use crate::{
    saga::Saga,
    worker::{engine::EngineBuilder, perform::DoneBy},
};

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
