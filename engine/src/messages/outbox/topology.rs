//! The exchanges that were declared at a broker.

use std::time::Duration;

use sqlx::PgPool;

use crate::database::within;

/// How long each question may take. Connecting to the broker waits for it.
const STATEMENT: Duration = Duration::from_secs(3);

/// Remembers which exchanges were declared at a broker. If one is missing later, somebody has deleted
/// it. Declaring it again by itself would hide that partners have lost their bindings.
///
/// ```
/// use stepwise_engine::outbox::{DeclaredTopologies, Standing};
///
/// /// May a broker's exchanges be declared without asking anybody?
/// async fn may_declare(known: &DeclaredTopologies, broker: &str) -> Result<bool, sqlx::Error> {
///     Ok(match known.standing(broker).await? {
///         Standing::Unknown | Standing::Declared => true,
///         Standing::Destroyed { what } => {
///             println!("somebody has deleted {what}: partners have lost what they had bound to it");
///             false
///         }
///     })
/// }
/// ```
#[derive(Debug, Clone)]
pub struct DeclaredTopologies {
    pool: PgPool,
}

/// The state of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was never declared.
    Unknown,
    /// It was declared, and nothing was found missing.
    Declared,
    /// An exchange was found missing, and no operator has had it declared again.
    Destroyed {
        /// The exchange that was missing.
        what: String,
    },
}

impl DeclaredTopologies {
    /// The memory that is kept in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The state of the topology with this name. The name holds no secrets.
    pub async fn standing(&self, name: &str) -> Result<Standing, sqlx::Error> {
        let asking = sqlx::query_scalar(
            "-- topology: what is known
             select destroyed from saga.broker_topology where name = $1",
        )
        .bind(name)
        .fetch_optional(&self.pool);
        let known: Option<Option<String>> = within(STATEMENT, asking).await?;
        Ok(match known {
            None => Standing::Unknown,
            Some(None) => Standing::Declared,
            Some(Some(what)) => Standing::Destroyed { what },
        })
    }

    /// Remembers that the topology of this name was declared.
    pub async fn insert(&self, name: &str) -> Result<(), sqlx::Error> {
        let noting = sqlx::query(
            "-- topology: it was declared
             insert into saga.broker_topology (name) values ($1)
             on conflict (name) do update set declared_at = clock_timestamp(), destroyed = null",
        )
        .bind(name)
        .execute(&self.pool);
        within(STATEMENT, noting).await.map(|_| ())
    }

    /// Remembers that something of this topology was found missing.
    pub async fn mark_destroyed(&self, name: &str, what: &str) -> Result<(), sqlx::Error> {
        let noting = sqlx::query(
            "-- topology: it was destroyed
             update saga.broker_topology set destroyed = $2 where name = $1 and destroyed is null",
        )
        .bind(name)
        .bind(what)
        .execute(&self.pool);
        within(STATEMENT, noting).await.map(|_| ())
    }
}
