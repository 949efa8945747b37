//! The terms under which a call is tried: its effect, time-out, retries and deadline.

use std::time::Duration;

use rand::RngExt as _;

use crate::base::amount::Amount;

/// Terms of one call. Start from [`Terms::new`] or [`Terms::effect`] and change what differs.
///
/// A call, its probe and its undo are tried until their deadline, not a number of times: a provider that is away for a while must
/// not decide what becomes of the business.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::{Retry, Terms, amount};
///
/// let charge = Terms {
///     timeout: Duration::from_secs(3),
///     retry: Retry { cap: Duration::from_secs(10), ..Retry::default() },
///     within: Duration::from_secs(600), // then the charge is given up, and the saga unwinds
///     ..Terms::effect("charge").amount(amount!(25.00 EUR))
/// };
/// assert!(charge.effect.is_some(), "it has a row in the ledger before the bank is called");
/// ```
#[derive(Debug, Clone)]
pub struct Terms {
    /// The effect that it has outside, for the ledger; `None` if it moves nothing.
    pub effect: Option<EffectKind>,
    /// After this long an attempt counts as [`crate::Outcome::Unknown`].
    pub timeout: Duration,
    /// How long is waited between attempts.
    pub retry: Retry,
    /// The step's deadline, in business time since its first attempt failed: an attempt that fails so late is the last one. Before
    /// the pivot the instance then unwinds ([`crate::CalledOff::GaveUp`]), after the pivot it is `stuck`; so it is at a pivot that may
    /// have been done, and where an undo is concerned.
    pub within: Duration,
    /// Give the call up earlier, when the provider itself has answered so many times that it did not do it
    /// ([`crate::Outcome::AnsweredNo`], [`crate::Undone::AnsweredNo`]). Attempts without an answer never count.
    pub enough: Option<u16>,
    /// When the step has been failing for so long, operators are told once ([`crate::record::notice::Kind::Slow`]); trying goes on.
    pub slow_after: Duration,
    /// A probe's "never seen" counts only so long after the attempt ended: a request may still be on its way. Means nothing for a call
    /// without a probe.
    pub settles_after: Duration,
    /// How long the provider may still act under our key after the call was given up. For so long its effect is probed now and
    /// then, and taken back if it came after all. Needs a probe and an undo. `None`: nobody looks again.
    pub watch: Option<Duration>,
}

/// The effect of a call outside.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{EffectKind, StepTable, amount};
///
/// let Some(EffectKind { kind, amount }) = Step::Charge.terms().effect else { unreachable!() };
/// assert_eq!((kind, amount), ("charge", Some(amount!(25.00 EUR))));
/// ```
#[derive(Debug, Clone)]
pub struct EffectKind {
    /// For example `authorization`.
    pub kind: &'static str,
    /// How much it moves, if it moves money.
    pub amount: Option<Amount>,
}

/// How long is waited after a failed attempt: half to all (at random) of `base * 2^(attempt-1)`, at most `cap`, and not beyond the
/// step's deadline. How often it is tried is not limited.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::Retry;
///
/// let retry = Retry { base: Duration::from_secs(1), cap: Duration::from_secs(8) };
/// assert!(retry.delay(3) <= Duration::from_secs(4), "1, 2, 4 s, or up to half less");
/// assert!(retry.delay(30) <= retry.cap);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Terms {
    /// How long a step is tried unless its terms say otherwise. Chains of tx steps, which have no terms, are tried so long too.
    pub const WITHIN: Duration = Duration::from_secs(24 * 3_600);

    /// When operators are told that a step takes long, unless its terms say otherwise.
    pub const SLOW_AFTER: Duration = Duration::from_secs(3_600);

    /// No effect, 10 s time-out, the default [`Retry`], tried for a day, operators are told after an hour, "never seen" counts at once,
    /// no watch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            effect: None,
            timeout: Duration::from_secs(10),
            retry: Retry::default(),
            within: Self::WITHIN,
            enough: None,
            slow_after: Self::SLOW_AFTER,
            settles_after: Duration::ZERO,
            watch: None,
        }
    }

    /// The same for a call that changes something outside, for example `authorization`. The change gets a row in the ledger.
    #[must_use]
    pub fn effect(kind: &'static str) -> Self {
        Self { effect: Some(EffectKind { kind, amount: None }), ..Self::new() }
    }

    /// The effect moves so much money, such as [`amount!(25.00 EUR)`](crate::amount!). Means nothing without an effect.
    #[must_use]
    pub fn amount(mut self, amount: impl Into<Amount>) -> Self {
        if let Some(effect) = &mut self.effect {
            effect.amount = Some(amount.into());
        }
        self
    }

    /// Sets [`Terms::settles_after`].
    #[must_use]
    pub fn settles_after(self, delay: Duration) -> Self {
        Self { settles_after: delay, ..self }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Retry {
    /// 200 ms doubling to 60 s.
    fn default() -> Self {
        Self { base: Duration::from_millis(200), cap: Duration::from_secs(60) }
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
