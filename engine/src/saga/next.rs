//! The decision of a transition: the next state, and the step that the instance does or the event that it waits for there.

use std::time::Duration;

use crate::saga::{Saga, child::Child, table::StepTable};

/// The decision of a transition: the new state, and what the instance does or waits for in it.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Next, to, unwind};
///
/// /// Part of `Saga::on`: every transition ends in one of these.
/// fn paid(declined: bool) -> Next<Seat> {
///     if declined {
///         return unwind("the charge is declined"); // takes back what was done, last first
///     }
///     to(State::AwaitingHost).wait()
/// }
/// ```
pub struct Next<S: Saga> {
    pub(crate) state: Option<S::State>,
    pub(crate) by_caller: Vec<CallerStep<S>>,
    pub(crate) then: Then<S>,
}

/// A step that a caller does in the transaction that starts an instance of `S`.
pub(crate) type CallerStep<S> = <<S as Saga>::Step as StepTable>::CallerStep;

pub(crate) enum Then<S: Saga> {
    Step(S::Step),
    Wait { until: Option<(Duration, S::Event)>, asleep: bool },
    Children(Vec<Child>),
    Stay,
    Done,
    Anew(S::Input),
    Unwind(S::Reason),
}

/// Names the state to go to; say what to do there with one of the methods of [`To`].
pub fn to<S: Saga>(state: S::State) -> To<S> {
    To { state, by_caller: Vec::new() }
}

/// Stay with what is pending (a call in flight, a timer) and only remember something.
pub fn stay<S: Saga>(state: S::State) -> Next<S> {
    Next { state: Some(state), by_caller: Vec::new(), then: Then::Stay }
}

/// Take back what was done, last first. The reason decides how the business ends.
pub fn unwind<S: Saga>(reason: impl Into<S::Reason>) -> Next<S> {
    Next { state: None, by_caller: Vec::new(), then: Then::Unwind(reason.into()) }
}

/// A state to go to, before it is said what to do there.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use std::time::Duration;
/// use stepwise_engine::{Next, saga::To, to};
///
/// const DAY: Duration = Duration::from_secs(24 * 3_600);
///
/// fn await_host() -> Next<Seat> {
///     let to: To<Seat> = to(State::AwaitingHost);
///     to.or_after(3 * DAY, Event::Host(Signal::Declines)) // silence is an answer, too
/// }
/// ```
pub struct To<S: Saga> {
    state: S::State,
    by_caller: Vec<CallerStep<S>>,
}

impl<S: Saga> To<S> {
    fn next(self, then: Then<S>) -> Next<S> {
        Next { state: Some(self.state), by_caller: self.by_caller, then }
    }

    /// In [`Saga::start`] only: the caller has done this step already, in the transaction that starts the instance (so that
    /// it could refuse at once with an error of its own). Its undo is recorded as if the engine had run it.
    #[must_use]
    pub fn caller_did(mut self, step: <S::Step as StepTable>::CallerStep) -> Self {
        self.by_caller.push(step);
        self
    }

    /// Do this step: in this very transaction or by a call, as its row in the table says.
    pub fn run(self, step: S::Step) -> Next<S> {
        self.next(Then::Step(step))
    }

    /// Wait for a signal, for as long as it takes.
    pub fn wait(self) -> Next<S> {
        self.next(Then::Wait { until: None, asleep: false })
    }

    /// Wait for a signal; if none changes the state within `delay` of business time, `event` happens.
    pub fn or_after(self, delay: Duration, event: S::Event) -> Next<S> {
        self.next(Then::Wait { until: Some((delay, event)), asleep: false })
    }

    /// Sleep for `delay` of business time, then `event` happens.
    pub fn sleep(self, delay: Duration, event: S::Event) -> Next<S> {
        self.next(Then::Wait { until: Some((delay, event)), asleep: true })
    }

    /// Start children and wait for the last of them to end; [`Saga::joined`] says what happened then. When the instance unwinds, its
    /// children unwind first. Before the instance's pivot a child must not pass one of its own.
    pub fn children(self, children: Vec<Child>) -> Next<S> {
        self.next(Then::Children(children))
    }

    /// The end of this instance and the start of another in its place, in one commit: same subject, start key, tags, deadline,
    /// parent and signals of late, a journal of its own. For what lives for years. Nothing may be left to be taken back.
    pub fn anew(self, input: S::Input) -> Next<S> {
        self.next(Then::Anew(input))
    }

    /// The end.
    pub fn done(self) -> Next<S> {
        self.next(Then::Done)
    }
}
