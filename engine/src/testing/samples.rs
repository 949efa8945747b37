//! Samples of what may happen to a saga.

use super::walk::name;
use crate::saga::Saga;

/// Samples of what may happen to a saga, which stand for all the rest.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::testing::{Sample, Samples, explore};
///
/// impl Samples for Seat {
///     fn inputs() -> Vec<u32> {
///         vec![7]
///     }
///
///     fn outcomes(step: &Step) -> Vec<Sample<Event>> {
///         match step {
///             Step::Hold(_) => vec![Sample::done(Event::Held), Sample::refused(Event::Full)],
///             Step::Charge => vec![Sample::done(Event::Paid), Sample::refused(Event::Declined)],
///             Step::Admit => vec![Sample::done(Event::Admitted)],
///         }
///     }
///
///     fn signals() -> Vec<Signal> {
///         vec![Signal::Confirms, Signal::Declines]
///     }
/// }
///
/// explore::<Seat>().assert_sound();
/// ```
pub trait Samples: Saga {
    /// Inputs that it may be started with.
    fn inputs() -> Vec<Self::Input>;

    /// How a step may turn out. Show every refusal as [`Sample::refused`]: what explores and tries
    /// the saga refuses in the step's place then, and sees what its undo makes of that.
    fn outcomes(step: &Self::Step) -> Vec<Sample<Self::Event>>;

    /// The signals that may come at any time.
    fn signals() -> Vec<Self::Signal> {
        Vec::new()
    }

    /// A text that differs for two states that the saga treats differently. Override it where a state counts or carries free text.
    fn position(state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// The name of a state in the diagram: its variant.
    fn name(state: &Self::State) -> String {
        name(state)
    }
}

/// One outcome of a step.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::testing::Sample;
///
/// /// How a charge may turn out, as `Samples::outcomes` says it.
/// fn outcomes() -> Vec<Sample<Event>> {
///     vec![Sample::done(Event::Paid), Sample::refused(Event::Declined)]
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Sample<E> {
    pub(super) event: E,
    pub(super) stands: bool,
}

impl<E> Sample<E> {
    /// The step was done; a declared effect stands.
    pub fn done(event: E) -> Self {
        Self { event, stands: true }
    }

    /// The step was refused: nothing was done. The undo of a refused activity is dropped, for the engine is told of the refusal. That of a
    /// refused tx step runs nevertheless and must take back only what is there.
    pub fn refused(event: E) -> Self {
        Self { event, stands: false }
    }
}
