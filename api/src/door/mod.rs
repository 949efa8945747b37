//! The conventions every operation shares: callers, idempotency, problems, pages, limits.
//!
//! A handler is ten lines: parse (its arguments' types do), act ([`Door::command`] opens the
//! transaction, answers repetitions, runs the command, keeps the answer, commits), map (one
//! `match` per resource from refusals to problems).

pub mod caller;
pub mod edge;
pub mod idempotency;
pub mod json;
pub mod limits;
pub mod matching;
pub mod measure;
pub mod origin;
pub mod page;
pub mod personal;
pub mod prefer;
pub mod problem;
pub mod reply;
pub mod tokens;
pub mod unread;

use std::{sync::Arc, time::Duration};

use poem::Request;
use secrecy::SecretString;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use stepwise_engine::{Engine, Retry, Started};
use stepwise_workflows::Shop;
use tokio_util::sync::CancellationToken;

use self::{
    caller::Caller,
    idempotency::{Key, Scope},
    json::Body,
    limits::{Limits, Rates},
    page::Cursors,
    problem::Problem,
    reply::Reply,
    tokens::Callers,
};
use crate::readiness::Readiness;

/// How a command that lost a race is run again.
const RACES: Retry = Retry { base: Duration::from_millis(10), cap: Duration::from_millis(80) };

/// So often a command that lost a race is run again.
const MOST_RACES: i16 = 3;

/// What all handlers share.
pub struct Door {
    /// The pool of the API; its acquire time-out is what turns a lost database into a 503.
    pub db: PgPool,
    /// The shop's decisions and its doors to the outside.
    pub shop: Arc<Shop>,
    /// Starts sagas, and tells when they end.
    pub engine: Engine,
    /// What the gateway signs its webhooks with.
    pub webhook_secrets: Vec<SecretString>,
    /// How the other parts of this process are.
    pub readiness: Readiness,
    /// The process has been told to stop: `/readyz` is a 503, and other requests are still taken.
    pub stopping: CancellationToken,
    /// The listener is closed: streams end, and nobody waits any longer.
    pub stop: CancellationToken,
    /// Token lookup.
    pub callers: Callers,
    /// Rate limits.
    pub limits: Limits,
    /// Cursor signing.
    pub cursors: Cursors,
}

/// What whoever runs the front door decides.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// The name of the installation: part of service keys.
    pub environment: String,
    /// How often a caller may ask.
    pub rates: Rates,
    /// What the gateway signs its webhooks with; two during a rotation.
    pub webhook_secrets: Vec<SecretString>,
}

/// One command as the front door sees it: which, by whom, under which key, with what body.
pub struct Ask<'a> {
    operation: &'static str,
    who: String,
    key: Option<&'a str>,
    path: &'a str,
    fingerprint: [u8; 32],
}

impl<'a> Ask<'a> {
    /// `operation` (its operationId), asked for by `caller` under `key`.
    pub fn new<const R: bool>(operation: &'static str, caller: &Caller, key: &'a Key<R>) -> Self {
        Self { who: caller.key(), ..Self::by_anyone(operation, key) }
    }

    /// An operation that needs no caller.
    pub fn by_anyone<const R: bool>(operation: &'static str, key: &'a Key<R>) -> Self {
        let (path, key) = (key.path.as_str(), key.key.as_deref());
        Self { operation, who: "anyone".to_owned(), key, path, fingerprint: [0; 32] }
    }

    /// With this body.
    #[must_use]
    pub fn with<T>(mut self, body: &Body<T>) -> Self {
        self.fingerprint = body.fingerprint;
        self
    }
}

impl Door {
    /// The door a request came through; put there by the edge.
    pub fn of(request: &Request) -> &Arc<Self> {
        request.data().expect("the edge puts the door into every request")
    }

    /// Reads the shared secrets and opens the door.
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
            db,
            shop,
            engine,
            readiness,
            stopping,
            stop: CancellationToken::new(),
            webhook_secrets: settings.webhook_secrets,
            limits: Limits::new(settings.rates, secret.clone()),
            cursors: Cursors::new(secret),
        })
    }

    /// Begins a transaction; 503 when no connection is to be had in time.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, Problem> {
        Ok(self.db.begin().await?)
    }

    /// Runs one command: begin, key, `act`, keep the answer, commit; then drives the saga that it has started. A problem
    /// rolls all of it back. One that lost a race against others (deadlock, serialization) is run again, three times at most.
    ///
    /// Adds to what `act` costs: one round trip to take the key and one to keep the answer, if a
    /// key was sent; begin and commit.
    pub async fn command<const STATUS: u16, T>(
        &self,
        ask: Ask<'_>,
        act: impl AsyncFnOnce(&mut PgConnection) -> Result<Reply<STATUS, T>, Problem> + Clone,
    ) -> Result<Reply<STATUS, T>, Problem> {
        let mut races = 0;
        loop {
            let mut tx = self.begin().await?;
            let done = match self.answer(&mut tx, &ask, act.clone()).await {
                Ok(reply) => tx.commit().await.map(|()| reply).map_err(Problem::from),
                Err(problem) => {
                    // Now, not when the connection is used again: the key's lock is to be free for who comes next.
                    let _gone = tx.rollback().await;
                    Err(problem)
                }
            };
            match done {
                Err(problem) if problem.is_lost_race() && races < MOST_RACES => {
                    races += 1;
                    tokio::time::sleep(RACES.delay(races)).await;
                }
                Ok(mut reply) => {
                    reply.began.take().into_iter().for_each(Started::hand_over);
                    return Ok(reply);
                }
                Err(problem) => return Err(problem),
            }
        }
    }

    async fn answer<const STATUS: u16, T>(
        &self,
        tx: &mut PgConnection,
        ask: &Ask<'_>,
        act: impl AsyncFnOnce(&mut PgConnection) -> Result<Reply<STATUS, T>, Problem>,
    ) -> Result<Reply<STATUS, T>, Problem> {
        let Some(key) = ask.key else { return act(tx).await };
        let scope = Scope::new(&ask.who, ask.operation, key, ask.path, &ask.fingerprint);
        if let Some(answer) = idempotency::take(tx, &scope).await? {
            return Ok(Reply::replayed(idempotency::unseal(&*self.shop.keys, answer).await?));
        }
        let reply = act(tx).await?;
        let kept = idempotency::seal(&*self.shop.keys, &reply.answer).await?;
        idempotency::store(tx, &scope, &kept).await?;
        Ok(reply)
    }
}
