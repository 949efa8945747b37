//! The result of exploring a saga.

use std::collections::HashSet;

use super::stored_samples::StoredSamples;
use crate::base::status::Status;

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
    pub(super) stored: StoredSamples,
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
