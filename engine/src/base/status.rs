//! The status of an instance and what it waits on: the words that operators see.

use crate::base::words::words;

words! {
    /// The status of an instance.
    pub enum Status {
        /// Going forward.
        Running = "running",
        /// Running its undos, last first.
        Unwinding = "unwinding",
        /// Paused by an operator.
        Paused = "paused",
        /// Needs a person.
        Stuck = "stuck",
        /// Reached its end.
        Completed = "completed",
        /// Everything was taken back.
        Unwound = "unwound",
        /// Given up by a person, with a reason.
        Abandoned = "abandoned",
    }
}

impl Status {
    /// Has it ended for good?
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Unwound | Self::Abandoned)
    }

    /// Does it wait for a person?
    #[must_use]
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::Paused | Self::Stuck)
    }
}

words! {
    /// The thing that an open instance waits on. The details (which activity, until when, why) are in its row.
    pub enum WaitingOn {
        /// A worker that has room.
        Worker = "worker",
        /// An attempt in flight.
        Activity = "activity",
        /// The next attempt.
        Retry = "retry",
        /// A timer.
        Timer = "timer",
        /// A signal, perhaps until a time.
        Signal = "signal",
        /// A person.
        Operator = "operator",
        /// The last of its children to end.
        Children = "children",
        /// Its parent, which may still take it back.
        Parent = "parent",
        /// A worker that knows its saga and version: no living one does.
        Version = "version",
    }
}
