//! The requests of an instance that is walked.

use std::{fmt::Debug, time::Duration};

use crate::saga::{Done, Saga};

/// The step that an instance asks for, or the event that it waits for.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::testing::{Asks, walk};
///
/// let mut seat = walk::<Seat>(7);
/// assert!(matches!(seat.asks(), Asks::Run(Step::Hold(7))));
/// seat.answers(Event::Held);
/// assert!(matches!(seat.asks(), Asks::Call(Step::Charge)));
/// seat.answers(Event::Paid);
/// assert!(matches!(seat.asks(), Asks::Wait(None)), "it waits for the host");
/// ```
pub enum Asks<S: Saga> {
    /// To do this tx step.
    Run(S::Step),
    /// To do this call.
    Call(S::Step),
    /// To take this back, by the method that its table names.
    Undo(Done<S::Step>),
    /// To call off the children that a step started.
    CallOffChildren,
    /// For its children to end.
    Children,
    /// For a signal; if none comes within the time, for this event.
    Wait(Option<(Duration, S::Event)>),
    /// For a person.
    Person,
    /// For nothing: it has ended.
    Nothing,
}

impl<S: Saga> Debug for Asks<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(step) => write!(f, "run {step:?}"),
            Self::Call(step) => write!(f, "call {step:?}"),
            Self::Undo(done) => write!(f, "{} {done:?}", done.undo_name()),
            Self::CallOffChildren => f.write_str("call off its children"),
            Self::Children => f.write_str("wait for its children"),
            Self::Wait(until) => write!(f, "wait {until:?}"),
            Self::Person => f.write_str("a person"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}
