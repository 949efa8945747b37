//! Rate limits per caller and per address; [`Rates`] says which requests count. They are generous: they stop loops and guessing,
//! not normal use. Zero switches a limit off.

use std::{net::IpAddr, time::Duration};

use poem::http::StatusCode;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use stepwise_workflows::customer::attempts::Scopes;
use uuid::Uuid;

use super::{
    buckets::{Buckets, Rate},
    caller::Caller,
    origin::Origin,
    problem::Problem,
};

/// The limits of a caller.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Requests per caller and second.
    pub per_caller_s: u32,
    /// Requests per address and second: those without a valid token, those of guests, and the first one that a process gets with each token. For
    /// IPv6 an address is a /64 network.
    pub per_address_s: u32,
    /// Attempts per minute: log-ins, registrations, verifications, requests for mails, resets of passwords and new guest carts, each kind per address;
    /// exports, per customer.
    pub attempts_per_minute: u32,
    /// Open event streams per caller.
    pub streams_per_caller: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            per_caller_s: 200,
            per_address_s: 1_000,
            attempts_per_minute: 60,
            streams_per_caller: 100,
        }
    }
}

impl Rates {
    /// No limits, for measurements.
    pub const OFF: Self =
        Self { per_caller_s: 0, per_address_s: 0, attempts_per_minute: 0, streams_per_caller: 0 };
}

/// Counts requests per caller and per address. All processes of an installation count together ([`Buckets`]). Attempts to log in to one
/// account are counted in `stepwise_workflows::customer::attempts`.
pub struct Limits {
    callers: Option<Rate>,
    addresses: Option<Rate>,
    attempts: Option<Rate>,
    buckets: Buckets,
    secret: Vec<u8>,
}

impl Limits {
    /// Creates limits of these rates. All processes of an installation share the database and the secret.
    pub fn new(rates: Rates, db: PgPool, secret: Vec<u8>) -> Self {
        Self {
            callers: Rate::per_second(rates.per_caller_s),
            addresses: Rate::per_second(rates.per_address_s),
            attempts: Rate::per_minute(rates.attempts_per_minute),
            buckets: Buckets::new(db),
            secret,
        }
    }

    /// Counts a request of this caller. 429 if the caller is over the limit.
    pub async fn caller(&self, caller: &Caller) -> Result<(), Problem> {
        self.count(self.callers, b"caller", &caller.key()).await
    }

    /// Counts a request for its address ([`Rates::per_address_s`]). 429 if the address is over the limit.
    pub async fn address(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        self.count(self.addresses, b"address", &origin(from)).await
    }

    /// Counts an attempt at `what` from this address ([`Rates::attempts_per_minute`]). 429 if there were too many.
    pub async fn attempt(&self, what: &str, from: Option<IpAddr>) -> Result<(), Problem> {
        self.count(self.attempts, what.as_bytes(), &origin(from)).await
    }

    async fn count(&self, rate: Option<Rate>, what: &[u8], who: &str) -> Result<(), Problem> {
        let Some(rate) = rate else { return Ok(()) };
        let name = self.keyed(b"rate", [what, who.as_bytes()]);
        self.buckets.take(name, rate).await.map_err(too_many)
    }

    /// The keys under which an attempt to log in to the account of `email`, this customer's, is counted. `None` if limits are off.
    /// `earlier_token` is the hash of a token of an earlier session of this account.
    pub fn log_in_scopes(
        &self,
        email: &str,
        customer_id: Option<Uuid>,
        from: Option<IpAddr>,
        earlier_token: Option<[u8; 32]>,
    ) -> Option<Scopes> {
        self.attempts.as_ref()?;
        let email = email.trim().to_lowercase();
        let hashed = |from: &[u8]| self.keyed(b"log-in attempt", [email.as_bytes(), from]);
        let account = hashed(b"");
        let network = origin(from);
        let from = earlier_token.as_ref().map_or(network.as_bytes(), |hash| &hash[..]);
        let own = hashed(from);
        Some(Scopes { own, account, is_known: earlier_token.is_some(), customer_id })
    }

    /// The key under which requests for a mail of this kind to `email` are counted. `None` if limits are off.
    pub fn mail_scope(&self, kind: &str, email: &str) -> Option<[u8; 32]> {
        self.attempts.as_ref()?;
        Some(self.keyed(b"mails", [kind.as_bytes(), email.trim().to_lowercase().as_bytes()]))
    }

    /// A keyed hash, which only the processes of this installation can compute.
    fn keyed(&self, purpose: &[u8], parts: [&[u8]; 2]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(purpose);
        for part in [&self.secret[..], parts[0], parts[1]] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Forgets callers and addresses that have sent nothing for a while. The server calls this once a minute.
    pub fn tidy(&self) {
        self.buckets.tidy();
    }
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
