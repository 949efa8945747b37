//! The status of an instance and what it waits on: the words that operators see.

/// The status of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Going forward.
    Running,
    /// Taking back, last first.
    Unwinding,
    /// Held by an operator.
    Paused,
    /// Needs a person.
    Stuck,
    /// Reached its end.
    Completed,
    /// Everything was taken back.
    Unwound,
    /// Given up by a person, with a reason.
    Abandoned,
}

impl Status {
    /// As in SQL, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unwinding => "unwinding",
            Self::Paused => "paused",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Unwound => "unwound",
            Self::Abandoned => "abandoned",
        }
    }

    /// The inverse of [`Status::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Unwinding,
            Self::Paused,
            Self::Stuck,
            Self::Completed,
            Self::Unwound,
            Self::Abandoned,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }

    /// Will nothing happen to it any more?
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

/// What an open instance waits on. Details (which activity, until when, why) stand in the row beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingOn {
    /// A worker that has room.
    Worker,
    /// An attempt in flight.
    Activity,
    /// The next attempt.
    Retry,
    /// A timer.
    Timer,
    /// A signal, perhaps until a time.
    Signal,
    /// A person.
    Operator,
    /// The last of its children to end.
    Children,
    /// Its parent, which may still take it back.
    Parent,
    /// A worker that knows its saga and version: no living one does.
    Version,
}

impl WaitingOn {
    /// As in SQL, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Activity => "activity",
            Self::Retry => "retry",
            Self::Timer => "timer",
            Self::Signal => "signal",
            Self::Operator => "operator",
            Self::Children => "children",
            Self::Parent => "parent",
            Self::Version => "version",
        }
    }
}
