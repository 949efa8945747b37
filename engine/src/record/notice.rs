//! Notices for people, as a commit carries them.

use std::time::Duration;

use crate::base::words::words;

words! {
    /// Why a person should look at an instance.
    pub enum Kind {
        /// It needs a person.
        Stuck = "stuck",
        /// A person paused it.
        Paused = "paused",
        /// No worker knows its version.
        Version = "version",
        /// Its deadline passed after its pivot.
        Deadline = "deadline",
        /// It has been stuck for [`crate::Saga::ESCALATE_AFTER`].
        Escalated = "escalated",
        /// A tx step of it fails with an error that does not pass by itself ([`crate::StepError::is_worth_retrying`]). It is tried for
        /// [`crate::StepError::PATIENCE`], then the instance is stuck. Or the signal that it awaits from the end of another instance cannot be given
        /// ([`crate::Engine::signal_at_end`]); that is tried again and again.
        Failing = "failing",
        /// A step of it has been failing for longer than its terms expect ([`crate::Terms::slow_after`]); it is tried on.
        Slow = "slow",
        /// A person gave it up and handed what is left to somebody.
        HandedOver = "handed_over",
        ..
        /// A kind of a newer build, with its word. It is only read.
        Other
    }
}

/// A notice that a commit writes.
#[derive(Debug, Clone)]
pub(crate) struct Tell {
    pub(crate) kind: Kind,
    pub(crate) saga: &'static str,
    pub(crate) why: String,
    /// One more notice is due if it is still stuck after this much business time.
    pub(crate) escalate_after: Option<Duration>,
}
