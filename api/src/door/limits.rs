//! Rate limits per caller, and per address for requests without a token. They are generous: they stop loops and
//! guessing, not normal use. Zero switches a limit off.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use poem::http::StatusCode;
use sha2::{Digest, Sha256};
use stepwise_workflows::customer::attempts::Scopes;

use super::{caller::Caller, origin::Origin, problem::Problem};

/// The limits of a caller.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Requests per caller and second.
    pub per_caller_s: u32,
    /// Attempts to log in, register or verify, per address and minute.
    pub attempts_per_minute: u32,
    /// Open event streams per caller.
    pub streams_per_caller: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { per_caller_s: 200, attempts_per_minute: 60, streams_per_caller: 100 }
    }
}

impl Rates {
    /// No limits, for measurements.
    pub const OFF: Self = Self { per_caller_s: 0, attempts_per_minute: 0, streams_per_caller: 0 };
}

/// Counts requests per caller and per address, in this process. Attempts to log in to one account are counted in
/// the database (`stepwise_workflows::customer::attempts`).
pub struct Limits {
    callers: Option<DefaultKeyedRateLimiter<String>>,
    attempts: Option<DefaultKeyedRateLimiter<String>>,
    secret: Vec<u8>,
}

impl Limits {
    /// Creates limits of these rates. All processes of an installation share the secret.
    pub fn new(rates: Rates, secret: Vec<u8>) -> Self {
        let per_s = NonZeroU32::new(rates.per_caller_s).map(|n| {
            // A page that loads sends a burst of requests.
            Quota::per_second(n).allow_burst(n.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
        });
        Self {
            callers: per_s.map(RateLimiter::keyed),
            attempts: NonZeroU32::new(rates.attempts_per_minute)
                .map(|n| RateLimiter::keyed(Quota::per_minute(n))),
            secret,
        }
    }

    /// Counts a request of this caller. 429 if the caller is over the limit.
    pub fn caller(&self, caller: &Caller) -> Result<(), Problem> {
        count(self.callers.as_ref(), caller.key())
    }

    /// The keys under which an attempt to log in to the account of `email` is counted. `None` if limits are off.
    /// `earlier_token` is the hash of a token of an earlier session of this account.
    pub fn log_in_scopes(
        &self,
        email: &str,
        from: Option<IpAddr>,
        earlier_token: Option<[u8; 32]>,
    ) -> Option<Scopes> {
        self.attempts.as_ref()?;
        let email = email.trim().to_lowercase();
        let account = self.keyed([email.as_bytes(), b""]);
        let network = origin(from);
        let from = earlier_token.as_ref().map_or(network.as_bytes(), |hash| &hash[..]);
        let own = self.keyed([email.as_bytes(), from]);
        Some(Scopes { own, account, is_known: earlier_token.is_some() })
    }

    /// The key under which requests for a mail of this kind to `email` are counted. `None` if limits are off.
    pub fn mail_scope(&self, kind: &str, email: &str) -> Option<[u8; 32]> {
        self.attempts.as_ref()?;
        Some(self.keyed([kind.as_bytes(), email.trim().to_lowercase().as_bytes()]))
    }

    /// A keyed hash, which only the processes of this installation can compute.
    fn keyed(&self, parts: [&[u8]; 2]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"log-in attempt");
        for part in [&self.secret[..], parts[0], parts[1]] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Counts an attempt at `what` from this address, in this process only. It stops floods: n processes together admit
    /// n times the limit.
    pub fn attempt(&self, what: &str, from: Option<IpAddr>) -> Result<(), Problem> {
        count(self.attempts.as_ref(), format!("{what} {}", origin(from)))
    }

    /// Forgets callers and addresses that have sent nothing for a while. The server calls this once a minute.
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

/// The origin of a request, as text.
fn origin(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "unknown".to_owned(), |address| Origin::of(address).to_string())
}

/// 429 with the time to wait.
pub fn too_many(wait: Duration) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "Too many requests; wait as long as Retry-After says.",
    )
    .retry_after_s(wait.as_secs() + 1)
}
