//! The conventions that all operations share: callers, idempotency, problems, pages, limits.
//!
//! A handler parses, acts and maps the result. The types of its arguments parse the request.
//! [`Door::command`] opens the transaction, answers a repeated request, runs the command, stores the
//! answer and commits. A refusal becomes a problem by the command's own declaration.

pub mod buckets;
pub mod caller;
pub mod codes;
pub mod cors;
pub mod edge;
pub mod gather;
pub mod idempotency;
pub mod incoming;
pub mod json;
pub mod limits;
pub mod matching;
pub mod measure;
pub mod origin;
pub mod page;
pub mod personal;
pub mod prefer;
pub mod problem;
pub mod proxies;
pub mod reads;
pub mod refuses;
pub mod reply;
pub mod streams;
pub mod tokens;
pub mod unread;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use poem::Request;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use stepwise_adapters::paypal::PayPal;
use stepwise_engine::{Engine, Retry, Transaction, database};
use stepwise_workflows::shop::{
    Actor, Cause, Context, Shop,
    password::{PasswordPool, PoolError},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use self::{
    caller::Caller,
    cors::Cors,
    idempotency::{Key, Scope},
    json::Body,
    limits::{Limits, Rates},
    page::Cursors,
    problem::Problem,
    proxies::Proxies,
    reads::Reads,
    reply::Reply,
    streams::Streams,
    tokens::Callers,
};
use crate::readiness::Readiness;

/// The delays before a command that lost a race is run again.
const RACES: Retry = Retry { base: Duration::from_millis(10), cap: Duration::from_millis(80) };

/// How often a command that lost a race is run again.
const MOST_RACES: i16 = 3;

/// The delay before a request that waits for the first one with its key looks again.
const TWIN: Duration = Duration::from_millis(50);

/// How many log-ins use the database at the same moment.
const LOG_INS: usize = 2;

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// The state that all handlers share.
pub struct Door {
    /// The pool of the API. Its acquire time-out turns a lost database into a 503.
    pub db: PgPool,
    /// The shop, with its gateway, key store and mailer.
    pub shop: Arc<Shop>,
    /// The engine, which starts sagas and reports their ends.
    pub engine: Engine,
    /// The secrets with which the gateway signs its webhooks.
    pub webhook_secrets: Vec<SecretString>,
    /// Says whether PayPal has sent a webhook. `None`: the shop takes no payments by PayPal.
    pub paypal: Option<PayPal>,
    /// The states of the other parts of this process.
    pub readiness: Readiness,
    /// Cancelled when the process is told to stop: `/readyz` answers 503, and other requests are still served.
    pub stopping: CancellationToken,
    /// Cancelled when the listener is closed: streams and waits for an operation end.
    pub stop: CancellationToken,
    /// Token lookup.
    pub callers: Callers,
    /// Rate limits.
    pub limits: Limits,
    /// Reads that simultaneous requests share.
    pub reads: Reads,
    /// The open event streams.
    streams: Streams,
    /// Cursor signing.
    pub cursors: Cursors,
    /// The reverse proxies in front of the shop.
    pub proxies: Proxies,
    /// The origins whose pages may call from browsers.
    pub cors: Cors,
    /// The address at which clients reach the shop, if it is configured.
    pub public_url: Option<String>,
    /// The installation's secret, with which stored requests are hashed.
    secret: Vec<u8>,
    log_ins: Semaphore,
    long_reads: Semaphore,
}

/// The settings of the front door.
#[derive(Debug, Clone, Default)]
pub struct DoorSettings {
    /// The name of the installation: part of service keys.
    pub environment: String,
    /// The rate limits of callers.
    pub rates: Rates,
    /// The secrets with which the gateway signs its webhooks; two during a rotation.
    pub webhook_secrets: Vec<SecretString>,
    /// PayPal, if the shop takes payments by PayPal.
    pub paypal: Option<PayPal>,
    /// The address at which clients reach the shop, if it is configured: `https://shop.example`.
    pub public_url: Option<String>,
    /// The origins whose pages may call from browsers.
    pub allowed_origins: Vec<String>,
    /// The reverse proxies in front of the shop.
    pub proxies: Proxies,
}

/// One request for a command: the operation, the caller, the idempotency key and the fingerprint of the body.
pub struct Ask<'a> {
    operation: &'static str,
    who: String,
    cause: Cause,
    key: Option<&'a str>,
    path: &'a str,
    fingerprint: [u8; 32],
    wait: Duration,
    /// How often its command has lost a race.
    races: i16,
}

impl<'a> Ask<'a> {
    /// A request by `caller` for `operation` (its operationId) under `key`.
    pub fn new<const R: bool>(operation: &'static str, caller: &Caller, key: &'a Key<R>) -> Self {
        Self::by(caller.key(), caller.actor(), operation, key)
    }

    /// A request for an operation that needs no caller. `about` is what tells its callers apart, such as the email address that registers: strangers
    /// who happen to use the same key must not get each other's answers.
    pub fn by_anyone<const R: bool>(about: &str, operation: &'static str, key: &'a Key<R>) -> Self {
        Self::by(format!("anyone:{about}"), Actor::Anyone, operation, key)
    }

    fn by<const R: bool>(
        who: String,
        actor: Actor,
        operation: &'static str,
        key: &'a Key<R>,
    ) -> Self {
        let cause = key.incoming.cause(actor);
        let (path, wait, key) = (key.path.as_str(), key.wait, key.key.as_deref());
        Self { operation, who, cause, key, path, fingerprint: [0; 32], wait, races: 0 }
    }

    /// Adds the body's fingerprint.
    #[must_use]
    pub fn with<T>(mut self, body: &Body<T>) -> Self {
        self.fingerprint = body.fingerprint;
        self
    }

    /// Adds the body's password, which its fingerprint leaves out. Another hash of some 20 ms if a key was sent: hold no connection meanwhile.
    pub async fn with_password(
        mut self,
        passwords: &PasswordPool,
        password: &str,
    ) -> Result<Self, PoolError> {
        if let Some(scope) = self.scope() {
            let of_password = passwords.fingerprint(password, scope.salt()).await?;
            let both = Sha256::new().chain_update(self.fingerprint).chain_update(of_password);
            self.fingerprint = both.finalize().into();
        }
        Ok(self)
    }

    /// The same request after its command has lost a race. [`Door::command`] counts that one, too.
    #[must_use]
    pub fn after_lost_race(self) -> Self {
        Self { races: self.races + 1, ..self }
    }

    /// The cause of its command.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The identity of the request, if a key was sent. [`Door::command`] adds the installation's secret to that of an anonymous one.
    pub fn scope(&self) -> Option<Scope> {
        let key = self.key?;
        Some(Scope::new(&self.who, self.operation, key, self.path, &self.fingerprint))
    }
}

impl Door {
    /// The door of this request. The edge puts the door into every request.
    pub fn of(request: &Request) -> &Arc<Self> {
        request.data().expect("the edge puts the door into every request")
    }

    /// Reads the installation's secret for cursors and hashes from the database, and opens the door.
    pub async fn open(
        db: PgPool,
        shop: Arc<Shop>,
        engine: Engine,
        settings: DoorSettings,
        readiness: Readiness,
        stopping: CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let secret: Vec<u8> = sqlx::query_scalar(
            "-- cursor_secret
            select secret from shop.door_secret where name = 'cursor'",
        )
        .fetch_one(&db)
        .await?;
        Ok(Self {
            callers: Callers::new(db.clone(), settings.environment, shop.config.session_idle),
            engine,
            readiness,
            stopping,
            stop: CancellationToken::new(),
            webhook_secrets: settings.webhook_secrets,
            paypal: settings.paypal,
            reads: Reads::new(&db, &shop),
            streams: Streams::new(settings.rates.streams_per_caller),
            limits: Limits::new(settings.rates, db.clone(), secret.clone()),
            cursors: Cursors::new(secret.clone()),
            secret,
            proxies: settings.proxies,
            cors: Cors::new(settings.allowed_origins),
            public_url: settings.public_url,
            log_ins: Semaphore::new(LOG_INS),
            long_reads: Semaphore::new((db.options().get_max_connections() as usize / 2).max(1)),
            db,
            shop,
        })
    }

    /// Waits for one of two turns to use the database for a log-in. Many log-ins at once would otherwise take the connections of customers who
    /// order. Release the turn before comparing a password. 503 if no turn comes in 2 s.
    pub async fn turn_to_log_in(&self) -> Result<SemaphorePermit<'_>, Problem> {
        turn(&self.log_ins).await.ok_or_else(|| {
            Problem::unavailable(
                "passwords_busy",
                "Too many customers log in at this moment. Try again in a second.",
            )
        })
    }

    /// Waits for a turn to use the database for a search, an export or another read that may take long. All of them together get half of the
    /// connections, so that customers who order do not wait for them. 503 if no turn comes in 2 s.
    pub async fn turn_to_read(&self) -> Result<SemaphorePermit<'_>, Problem> {
        turn(&self.long_reads).await.ok_or_else(|| {
            Problem::unavailable(
                codes::READS_BUSY,
                "Too many lists and searches run at this moment. Try again in a second.",
            )
        })
    }

    /// Begins a transaction. 503 if no connection is free in time.
    pub async fn begin(&self) -> Result<Transaction, Problem> {
        Ok(Transaction::from(database::begin(&self.db).await?))
    }

    /// The context of a command in this transaction.
    pub fn context<'a>(&'a self, tx: &'a mut Transaction, cause: Cause) -> Context<'a> {
        Context::new(&self.shop, &self.engine, tx, cause)
    }

    /// Runs one command in a transaction: takes the key, calls `act`, stores the answer and commits. A problem rolls everything back. A command
    /// that lost a race (deadlock, serialization) is run again, three times at most. While another request uses its key, it is told so, or it
    /// waits for as long as the client prefers.
    ///
    /// Cost besides `act`: begin and commit; if a key was sent, one round trip to take the key and one to store the
    /// answer.
    pub async fn command<const STATUS: u16, T, E: From<Problem>>(
        &self,
        ask: Ask<'_>,
        act: impl AsyncFnOnce(&mut Context<'_>) -> Result<Reply<STATUS, T>, Problem> + Clone,
    ) -> Result<Reply<STATUS, T>, E> {
        let (mut races, patience) = (ask.races, Instant::now() + ask.wait);
        loop {
            let mut tx = self.begin().await?;
            let done = match self.answer(&mut tx, &ask, act.clone()).await {
                Ok(reply) => tx.commit().await.map(|()| reply).map_err(Problem::from),
                Err(problem) => {
                    // Roll back now: dropping the transaction would keep the key locked until the connection is used again.
                    let _gone = tx.rollback().await;
                    Err(problem)
                }
            };
            match done {
                Err(problem) if problem.is_lost_race() && races < MOST_RACES => {
                    races += 1;
                    tokio::time::sleep(RACES.delay(races)).await;
                }
                Err(problem)
                    if problem.code() == idempotency::IN_FLIGHT
                        && Instant::now() < patience
                        && !self.stopping.is_cancelled() =>
                {
                    tokio::time::sleep(TWIN).await;
                }
                done => return done.map_err(E::from),
            }
        }
    }

    /// Whether an answer is stored for the caller, operation and key of this request, whatever its body is. 1 round trip if a key was sent.
    pub async fn has_answered(&self, ask: &Ask<'_>) -> Result<bool, Problem> {
        match ask.scope() {
            Some(scope) => Ok(idempotency::is_stored(&self.db, &scope).await?),
            None => Ok(false),
        }
    }

    async fn answer<const STATUS: u16, T>(
        &self,
        tx: &mut Transaction,
        ask: &Ask<'_>,
        act: impl AsyncFnOnce(&mut Context<'_>) -> Result<Reply<STATUS, T>, Problem>,
    ) -> Result<Reply<STATUS, T>, Problem> {
        let mut ctx = self.context(tx, ask.cause.clone());
        let Some(mut scope) = ask.scope() else { return act(&mut ctx).await };
        // An anonymous request belongs to nobody, so its trace is not deleted with a person.
        if ask.cause.actor == Actor::Anyone {
            scope = scope.keyed(&self.secret);
        }
        if let Some(answer) = idempotency::take(&mut ctx, &scope).await? {
            return Ok(Reply::replayed(idempotency::unseal(&*self.shop.keys, answer).await?));
        }
        let reply = act(&mut ctx).await?;
        let kept = reply.answer.clone().owned_by(&ask.cause.actor);
        let kept = idempotency::seal(&*self.shop.keys, kept).await?;
        idempotency::store(&mut ctx, &scope, &kept).await?;
        Ok(reply)
    }
}

/// Waits for a turn. `None` if none comes within [`TURN`].
async fn turn(of: &Semaphore) -> Option<SemaphorePermit<'_>> {
    let turn = tokio::time::timeout(TURN, of.acquire()).await.ok()?;
    Some(turn.expect("it is never closed"))
}
