//! How often one caller, or one address without a token, may ask. Generous: it stops loops and
//! guessing, not work. Zero switches a limit off.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use poem::http::StatusCode;

use super::{caller::Caller, problem::Problem};

/// Failures on one account before the next attempt has to wait.
const FREE_FAILURES: u32 = 5;
/// The longest wait.
const MINUTE: Duration = Duration::from_secs(60);
/// When failures are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Accounts remembered at most.
const ACCOUNTS: usize = 100_000;

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
    failures: Mutex<HashMap<[u8; 32], (u32, Instant)>>,
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
            failures: Mutex::default(),
        }
    }

    /// Counts a request of this caller. 429 when it is one too many.
    pub fn caller(&self, caller: &Caller) -> Result<(), Problem> {
        count(self.callers.as_ref(), caller.key())
    }

    /// Refuses an attempt on an account that lately saw too many failures: 429, for longer and
    /// longer up to a minute. Never for good, or anybody could lock anybody out.
    pub fn account(&self, account: [u8; 32]) -> Result<(), Problem> {
        let failures = self.failures.lock().expect("nothing panics while holding it");
        let Some((count, last)) = failures.get(&account) else { return Ok(()) };
        let excess = count.saturating_sub(FREE_FAILURES);
        let wait =
            Duration::from_secs(if excess == 0 { 0 } else { 1 << excess.min(6) }).min(MINUTE);
        let left = wait.saturating_sub(last.elapsed());
        if self.attempts.is_none() || left.is_zero() { Ok(()) } else { Err(too_many(left)) }
    }

    /// Counts a failure on an account, or forgets them all after a success.
    pub fn tried(&self, account: [u8; 32], succeeded: bool) {
        let mut failures = self.failures.lock().expect("nothing panics while holding it");
        if succeeded {
            failures.remove(&account);
            return;
        }
        if failures.len() >= ACCOUNTS {
            failures.retain(|_, (_, last)| last.elapsed() < FORGOTTEN_AFTER);
        }
        if failures.len() < ACCOUNTS {
            let (count, last) = failures.entry(account).or_insert((0, Instant::now()));
            *count = if last.elapsed() > FORGOTTEN_AFTER { 1 } else { *count + 1 };
            *last = Instant::now();
        }
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
    limiter
        .check_key(&key)
        .map_err(|too_early| too_many(too_early.wait_time_from(DefaultClock::default().now())))
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "Too many requests; wait as long as Retry-After says.",
    )
    .retry_after_s(wait.as_secs() + 1)
}
