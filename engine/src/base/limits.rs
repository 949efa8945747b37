//! Limits on everything that could grow without end. Over a limit an instance is `stuck` with a reason, or the caller is refused; never silence.
//!
//! A check costs a comparison of lengths. An instance that unwinds, has ended or is stuck is not checked: a limit must not stop an undo.

use std::time::{Duration, Instant};

use crate::base::json::{self, Json};

pub use crate::base::json::Unstorable;

/// State, pending step and open undos of an instance together, as JSON.
pub const POSITION_BYTES: usize = 256 * 1024;

/// One input or signal, as JSON.
pub const EVENT_BYTES: usize = 256 * 1024;

/// A subject, start key, queue key or signal id, the name or value of a tag, or what led to a start.
pub const NAME_BYTES: usize = 512;

/// A reason that a person gives.
pub const REASON_BYTES: usize = 16 * 1024;

/// Children that one transition starts.
pub const CHILDREN: usize = 50_000;

/// The time until a deadline or a timer. A later time cannot be shown as a date.
pub const WAIT: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Commits of one instance; what lives longer begins anew ([`crate::saga::To::anew`]).
pub const JOURNAL_LENGTH: i32 = 10_000;

/// How many commits of an instance signals may use. The rest is for the instance itself, whatever senders do.
pub const SIGNALLED_LENGTH: i32 = JOURNAL_LENGTH - 1_000;

/// Signals kept for a state that takes them.
pub const KEPT_SIGNALS: i16 = 1_000;

/// Steps of one chain of tx steps.
pub const CHAIN_STEPS: usize = 16;

/// Commits of one instance within [`LOOP_WINDOW`] without ever waiting.
pub const LOOP_COMMITS: i32 = 1_000;

/// See [`LOOP_COMMITS`].
pub const LOOP_WINDOW: Duration = Duration::from_secs(60);

/// The limit that would be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// See [`POSITION_BYTES`].
    #[error(
        "state, pending step and undos are {0} bytes, more than {POSITION_BYTES}: keep ids, not contents"
    )]
    Position(usize),
    /// See [`EVENT_BYTES`].
    #[error("the input or signal is {0} bytes, more than {EVENT_BYTES}: send ids, not contents")]
    Event(usize),
    /// See [`NAME_BYTES`].
    #[error("the {0} is {1} bytes, more than {NAME_BYTES}")]
    Name(&'static str, usize),
    /// See [`REASON_BYTES`].
    #[error("the reason is {0} bytes, more than {REASON_BYTES}")]
    Reason(usize),
    /// See [`CHILDREN`].
    #[error("{0} children at once, more than {CHILDREN}: start them in several transitions")]
    Children(usize),
    /// See [`WAIT`].
    #[error("a deadline or timer of {0} days, more than 1,000 years")]
    Wait(u64),
    /// See [`JOURNAL_LENGTH`].
    #[error(
        "more than {JOURNAL_LENGTH} commits: a saga that lives so long begins anew (`to(..).anew(..)`)"
    )]
    Journal,
    /// See [`KEPT_SIGNALS`].
    #[error("{KEPT_SIGNALS} signals are kept already and none is taken")]
    KeptSignals,
    /// See [`LOOP_COMMITS`].
    #[error("more than {LOOP_COMMITS} commits within {} s: it goes round without ever waiting", LOOP_WINDOW.as_secs())]
    Loop,
}

/// Why something is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    OverLimit(#[from] Limit),
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
}

/// For calls whose only errors are the database's: the value could not be sent.
impl From<Refused> for sqlx::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => Self::Encode(Box::new(limit)),
            Refused::Unstorable(unstorable) => Self::Encode(Box::new(unstorable)),
        }
    }
}

/// May this be sent?
pub(crate) fn check_event(bytes: usize) -> Result<(), Limit> {
    if bytes > EVENT_BYTES { Err(Limit::Event(bytes)) } else { Ok(()) }
}

/// Can this event be kept in its instance's row, for the saga to be asked again?
pub(crate) fn may_keep(event: &Json) -> bool {
    event.text().is_ok_and(|text| check_event(text.len()).is_ok())
}

/// May this name be used?
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Refused> {
    json::check_text(what, name)?;
    let bytes = name.len();
    if bytes > NAME_BYTES { Err(Limit::Name(what, bytes).into()) } else { Ok(()) }
}

/// May a person give this reason?
pub(crate) fn check_reason(reason: &str) -> Result<(), Refused> {
    json::check_text("reason", reason)?;
    let bytes = reason.len();
    if bytes > REASON_BYTES { Err(Limit::Reason(bytes).into()) } else { Ok(()) }
}

/// The name of a person, and why they want something.
pub(crate) fn check_person(by: &str, why: &str) -> Result<(), Refused> {
    check_name("name of who wants it", by)?;
    check_reason(why)
}

/// May a deadline or timer be so far away?
pub(crate) fn check_wait(wait: Duration) -> Result<(), Limit> {
    if wait > WAIT { Err(Limit::Wait(wait.as_secs() / 86_400)) } else { Ok(()) }
}

/// A time in milliseconds, as statements take it: at most [`WAIT`], so that no date it is added to is beyond the range of the database.
pub(crate) fn ms(time: Duration) -> i64 {
    i64::try_from(time.min(WAIT).as_millis()).unwrap_or(i64::MAX)
}

/// May one more signal be kept beside those?
pub(crate) fn check_kept(kept: i16) -> Result<(), Limit> {
    if kept >= KEPT_SIGNALS { Err(Limit::KeptSignals) } else { Ok(()) }
}

/// Notices an instance that commits again and again without ever waiting.
pub(crate) struct Pace {
    since: Instant,
    seq: i32,
}

impl Pace {
    pub(crate) fn at(seq: i32) -> Self {
        Self { since: Instant::now(), seq }
    }

    /// After a commit.
    pub(crate) fn check(&mut self, seq: i32) -> Result<(), Limit> {
        if seq - self.seq < LOOP_COMMITS {
            return Ok(());
        }
        if self.since.elapsed() < LOOP_WINDOW {
            return Err(Limit::Loop);
        }
        *self = Self::at(seq);
        Ok(())
    }
}
