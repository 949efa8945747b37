//! Limits on everything that could grow without end. Over a limit an instance is `stuck` with a reason, or the caller is refused; never silence.
//!
//! They cost a comparison of lengths. An instance that unwinds, ends or is stuck already is let be: what takes back must not be stopped.

use std::time::{Duration, Instant};

use crate::{commit::Commit, status::Status};

/// State, pending step and open undos of an instance together, as JSON.
pub const POSITION_BYTES: usize = 256 * 1024;
/// One input or signal, as JSON.
pub const EVENT_BYTES: usize = 256 * 1024;
/// Commits of one instance; what lives longer begins anew ([`crate::saga::To::anew`]).
pub const JOURNAL_LENGTH: i32 = 10_000;
/// Signals may take an instance so far; the rest of its journal is its own, whatever senders do.
pub const SIGNALLED_LENGTH: i32 = JOURNAL_LENGTH - 1_000;
/// Signals kept for a state that takes them.
pub const KEPT_SIGNALS: i16 = 1_000;
/// Steps of one chain of tx steps.
pub const CHAIN_STEPS: usize = 16;
/// Commits of one instance within [`LOOP_WINDOW`] without ever waiting.
pub const LOOP_COMMITS: i32 = 1_000;
/// See [`LOOP_COMMITS`].
pub const LOOP_WINDOW: Duration = Duration::from_secs(60);

/// Which limit would be passed.
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

/// May this be written?
pub(crate) fn check(commit: &Commit) -> Result<(), Limit> {
    if commit.status != Status::Running {
        return Ok(());
    }
    let bytes = commit.state.len() + commit.pending.len() + commit.undos.len();
    if bytes > POSITION_BYTES {
        return Err(Limit::Position(bytes));
    }
    if commit.new_seq > JOURNAL_LENGTH { Err(Limit::Journal) } else { Ok(()) }
}

/// May a signal have this commit written? What makes an instance unwind or end is never too much.
pub(crate) fn check_signalled(commit: &Commit, applied: bool) -> Result<(), Limit> {
    if commit.new_seq > SIGNALLED_LENGTH && (!applied || commit.status == Status::Running) {
        return Err(Limit::Journal);
    }
    if applied { check(commit) } else { Ok(()) }
}

/// May this be the first commit of an instance?
pub(crate) fn check_start(commit: &Commit) -> Result<(), Limit> {
    check_event(commit.journal[0].event.as_deref().unwrap_or_default())?;
    check(commit)
}

/// May this be sent?
pub(crate) fn check_event(json: &str) -> Result<(), Limit> {
    if json.len() > EVENT_BYTES { Err(Limit::Event(json.len())) } else { Ok(()) }
}

/// May one more signal be kept beside those?
pub(crate) fn check_kept(kept: i16) -> Result<(), Limit> {
    if kept >= KEPT_SIGNALS { Err(Limit::KeptSignals) } else { Ok(()) }
}

/// Notices who goes round in circles while it is driven.
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
