//! The terms under which an activity is tried: its effect, time-out, retries and what an unknown outcome means.

use std::time::Duration;

use rand::RngExt as _;

/// Terms of one activity. Start from [`Terms::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What it does outside, for the ledger; `None` if it moves nothing.
    pub effect: Option<EffectKind>,
    /// After this long an attempt counts as [`crate::Outcome::Unknown`].
    pub timeout: Duration,
    /// How attempts are repeated.
    pub retry: Retry,
    /// The step's deadline: an attempt that fails so long after the step was decided, in real time, is the last one. Asking costs 1 round
    /// trip for each failed attempt. `None`: only attempts are counted. An undo has none.
    pub within: Option<Duration>,
    /// How an unknown outcome is settled.
    pub unknown: WhenUnknown,
    /// So many unknown outcomes are settled; one more gives the activity up.
    pub max_unknowns: i16,
    /// How long the provider may still act under our key after the activity was given up: so long its effect is probed now and
    /// then, and taken back if it came after all. Needs a probe ([`WhenUnknown::Ask`]) and an undo. `None`: nobody looks again.
    pub watch: Option<Duration>,
}

/// How an unknown outcome is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnknown {
    /// By [`crate::Steps::probe`]; "never seen" counts only this long after the attempt was given up.
    Ask {
        /// How long a late effect may still come.
        settles_after: Duration,
    },
    /// Repeating it under the same key is harmless.
    Repeat,
}

/// What an activity does outside.
#[derive(Debug, Clone)]
pub struct EffectKind {
    /// For example `authorization`.
    pub kind: &'static str,
    /// A decimal amount and its currency, if it moves money.
    pub amount: Option<(String, String)>,
}

/// How often an activity is tried and how long is waited between: half to all (at random) of `base * 2^(attempt-1)`, at most `cap`.
/// When the attempts are used up, or the deadline ([`Terms::within`]) has passed, the activity is given up: before the pivot the
/// instance unwinds ([`crate::Saga::called_off`]), after it it is `stuck`. So it is at a pivot that may have been done: only a person can say on which side it stands.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
    /// After so many attempts the activity is given up.
    pub max_attempts: i16,
}

impl Terms {
    /// No effect, 10 s time-out, the default [`Retry`], no deadline, repeating is harmless, 3 unknowns, no watch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            effect: None,
            timeout: Duration::from_secs(10),
            retry: Retry::default(),
            within: None,
            unknown: WhenUnknown::Repeat,
            max_unknowns: 3,
            watch: None,
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Retry {
    /// 200 ms doubling to 60 s; 1,440 attempts, about 24 hours.
    fn default() -> Self {
        Self { base: Duration::from_millis(200), cap: Duration::from_secs(60), max_attempts: 1_440 }
    }
}

impl Retry {
    /// The wait before the attempt that follows attempt number `attempt` (from 1).
    #[must_use]
    pub fn delay(&self, attempt: i16) -> Duration {
        let doublings = u32::from(attempt.max(1) as u16 - 1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_with_jitter_up_to_the_cap() {
        let retry = Retry::default();
        for attempt in 1..100 {
            let full = Duration::from_millis(200)
                .saturating_mul(1 << (attempt - 1).min(20))
                .min(retry.cap);
            let delay = retry.delay(attempt);
            assert!(delay >= full / 2 && delay <= full, "attempt {attempt}: {delay:?} of {full:?}");
        }
    }
}
