//! The wait of an instance, and when it is woken, as the next commit will say.

use std::time::{Duration, Instant};

use crate::{
    base::status::{Status, WaitingOn},
    instance::{Instance, Pending},
    record::commit::Wake,
    saga::Saga,
};

/// How long a step had been failing when its row was read, and when that was.
pub(crate) type Failing = (Duration, Instant);

/// For how many milliseconds it has been failing by now.
pub(crate) fn failing_for_ms(ms: i64) -> Failing {
    (Duration::from_millis(ms.max(0).cast_unsigned()), Instant::now())
}

/// A time in words for operators.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

impl<S: Saga> Instance<S> {
    /// Forgets the failed attempts so far and the time that they took.
    pub(crate) fn start_over(&mut self) {
        (self.progress.attempt, self.progress.answers, self.failing, self.progress.slow) =
            (0, 0, None, false);
    }

    /// How long the pending step or undo has been failing, in business time.
    pub(crate) fn failing_for(&self) -> Duration {
        self.failing.map_or(Duration::ZERO, |(by_then, then)| by_then + then.elapsed())
    }

    /// Parks the instance for a retry after `delay`.
    pub(crate) fn retry_after(&mut self, delay: Duration) {
        self.wake = Wake::Retry(delay);
    }

    /// Parks the instance until `delay` has passed and the provider is asked again for a late effect.
    pub(crate) fn settle_after(&mut self, delay: Duration) {
        self.wake = Wake::Settle(delay);
    }

    /// Makes the instance due: at once, or when its timer fires.
    pub(crate) fn make_due(&mut self) {
        self.wake = match self.pending {
            Pending::Timer { .. } => Wake::Armed,
            _ => Wake::Now,
        };
    }

    /// Parks the instance without a time to wake it. An armed timer stays armed, and fires when the instance goes on.
    pub(crate) fn park_keeping_timer(&mut self) {
        self.wake = Wake::KeepTimer;
    }

    /// Parks the instance without a time to wake it, and without a timer.
    pub(crate) fn never(&mut self) {
        self.wake = Wake::Never;
    }

    /// Has its driver nothing more to do?
    pub(crate) fn parks(&self) -> bool {
        match self.waiting_on() {
            None => true,
            Some(_) if self.wake == Wake::Keep => false,
            Some(waiting_on) => {
                !matches!(waiting_on, WaitingOn::Worker | WaitingOn::Activity)
                    || self.wake == Wake::Now
            }
        }
    }

    pub(crate) fn waiting_on(&self) -> Option<WaitingOn> {
        if self.status.is_final() {
            return None;
        }
        if self.status.needs_operator() {
            return Some(WaitingOn::Operator);
        }
        if self.progress.ended {
            return Some(WaitingOn::Parent);
        }
        Some(match (&self.wake, &self.pending) {
            (Wake::Retry(_) | Wake::Settle(_), _) => WaitingOn::Retry,
            (Wake::Timer { asleep: true, .. } | Wake::Armed, _) => WaitingOn::Timer,
            (Wake::Timer { asleep: false, .. }, _) => WaitingOn::Signal,
            (Wake::Now, _) => WaitingOn::Worker,
            (Wake::Keep | Wake::Never | Wake::KeepTimer, Pending::Children { .. }) => {
                WaitingOn::Children
            }
            (Wake::Keep | Wake::Never | Wake::KeepTimer, Pending::Call { .. }) => {
                WaitingOn::Activity
            }
            (
                Wake::Keep | Wake::Never | Wake::KeepTimer,
                Pending::Run { .. } | Pending::Event { .. },
            ) => WaitingOn::Worker,
            (Wake::Keep | Wake::Never | Wake::KeepTimer, _) if self.status == Status::Unwinding => {
                WaitingOn::Activity
            }
            (Wake::Keep | Wake::Never | Wake::KeepTimer, Pending::Timer { .. }) => {
                WaitingOn::Worker
            }
            (Wake::Keep | Wake::Never | Wake::KeepTimer, Pending::Nothing) => WaitingOn::Signal,
        })
    }

    /// When the next commit will have it woken.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}
