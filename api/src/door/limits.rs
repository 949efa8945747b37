//! How often one caller, or one address without a token, may ask. Generous: it stops loops and
//! guessing, not work. Zero switches a limit off.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use poem::http::StatusCode;

use super::{caller::Caller, problem::Problem};

/// The limits, in requests.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Per caller and second.
    pub per_caller_s: u32,
    /// Attempts to log in, to register or to verify, per address and minute.
    pub attempts_per_minute: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { per_caller_s: 200, attempts_per_minute: 60 }
    }
}

impl Rates {
    /// No limits, for measuring.
    pub const OFF: Self = Self { per_caller_s: 0, attempts_per_minute: 0 };
}

/// Counts per caller and per address, in this process.
pub struct Limits {
    callers: Option<DefaultKeyedRateLimiter<String>>,
    attempts: Option<DefaultKeyedRateLimiter<String>>,
}

impl Limits {
    /// Limits at these rates.
    pub fn new(rates: Rates) -> Self {
        let per_s = NonZeroU32::new(rates.per_caller_s).map(|n| {
            // A burst of a page's worth of requests is normal.
            Quota::per_second(n).allow_burst(n.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
        });
        Self {
            callers: per_s.map(RateLimiter::keyed),
            attempts: NonZeroU32::new(rates.attempts_per_minute)
                .map(|n| RateLimiter::keyed(Quota::per_minute(n))),
        }
    }

    /// Counts a request of this caller. 429 when it is one too many.
    pub fn caller(&self, caller: &Caller) -> Result<(), Problem> {
        count(self.callers.as_ref(), caller.key())
    }

    /// Counts an attempt at `what` from this address.
    pub fn attempt(&self, what: &str, from: Option<IpAddr>) -> Result<(), Problem> {
        let from = from.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        count(self.attempts.as_ref(), format!("{what} {from}"))
    }

    /// Forgets those who have been quiet; called now and then.
    pub fn tidy(&self) {
        for limiter in [&self.callers, &self.attempts].into_iter().flatten() {
            limiter.retain_recent();
        }
    }
}

fn count(limiter: Option<&DefaultKeyedRateLimiter<String>>, key: String) -> Result<(), Problem> {
    use governor::clock::{Clock, DefaultClock};
    let Some(limiter) = limiter else { return Ok(()) };
    limiter.check_key(&key).map_err(|too_early| {
        let wait = too_early.wait_time_from(DefaultClock::default().now());
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests; wait as long as Retry-After says.",
        )
        .retry_after_s(wait.as_secs() + 1)
    })
}
