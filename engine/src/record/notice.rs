//! What a person should see, as a commit carries it.

use std::time::Duration;

/// Why a person should look at an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It needs a person.
    Stuck,
    /// A person paused it.
    Paused,
    /// No worker knows its version.
    Version,
    /// Its deadline passed after its pivot.
    Deadline,
    /// It has been stuck for [`crate::Saga::ESCALATE_AFTER`].
    Escalated,
    /// A step of it has been failing for longer than its terms expect ([`crate::Terms::slow_after`]); it is tried on.
    Slow,
    /// A person gave it up and handed what is left to somebody.
    HandedOver,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Stuck,
        Self::Paused,
        Self::Version,
        Self::Deadline,
        Self::Escalated,
        Self::Slow,
        Self::HandedOver,
    ];

    /// As in SQL, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Paused => "paused",
            Self::Version => "version",
            Self::Deadline => "deadline",
            Self::Escalated => "escalated",
            Self::Slow => "slow",
            Self::HandedOver => "handed_over",
        }
    }

    /// The inverse of [`Kind::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("unknown notice {text}"))
    }
}

/// What a commit tells.
#[derive(Debug, Clone)]
pub(crate) struct Tell {
    pub(crate) kind: Kind,
    pub(crate) saga: &'static str,
    pub(crate) why: String,
    /// One more notice is due if it is still stuck after this much business time.
    pub(crate) escalate_after: Option<Duration>,
}
