//! Samples of what may happen to a saga, and the result of exploring it.

use std::collections::HashSet;

use super::{golden::Stored, walk::name};
use crate::{base::status::Status, saga::Saga};

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

/// The result of exploring a saga.
///
/// ```
/// # mod seat {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs"));
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat_samples.rs"));
/// # }
/// # use seat::*;
/// # use stepwise_engine::{*, testing::*};
/// let map: Map = explore::<Seat>();
/// assert_eq!(map.faults, Vec::<String>::new());
/// assert!(map.ends.contains(&Status::Completed) && map.ends.contains(&Status::Unwound));
/// assert!(map.diagram().contains("stateDiagram"));
/// ```
#[derive(Debug)]
pub struct Map {
    /// The faults, in words; empty for a sound saga.
    pub faults: Vec<String>,
    /// How instances may end.
    pub ends: Vec<Status>,
    /// How many positions there are.
    pub positions: usize,
    /// The outcomes that unwind at once: the step and its event, by name.
    pub(super) refusals: HashSet<(String, String)>,
    pub(super) diagram: String,
    pub(super) stored: Stored,
}

impl Map {
    /// The graph as a Mermaid state diagram in a Markdown page, the same for the same saga.
    #[must_use]
    pub fn diagram(&self) -> &str {
        &self.diagram
    }

    /// Fails with all faults.
    ///
    /// # Panics
    /// When there is a fault.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "the saga is not sound:\n- {}", self.faults.join("\n- "));
    }

    /// Compares the diagram with the committed page. Run the test with `UPDATE_DIAGRAMS=1` to write the page anew.
    ///
    /// # Panics
    /// When they differ.
    #[track_caller]
    pub fn assert_drawn_in(&self, page: impl AsRef<std::path::Path>) {
        super::diagram::assert_drawn_in(&self.diagram, page.as_ref());
    }
}
