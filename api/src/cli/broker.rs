//! Opens the publisher of events: RabbitMQ if there is one, or else the feed of this program.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_adapters::rabbitmq::{Address, Looked, RabbitError, RabbitPublisher, Topology};
use stepwise_engine::outbox::{DeclaredTopologies, Embedded, Publisher};
use stepwise_workflows::{cloud_event::Envelopes, privacy::KeyStore};

use super::{Failure, settings::Settings};

/// The receiver of published events.
#[derive(Clone)]
pub(super) struct Broker {
    /// The publisher that takes the events.
    pub(super) publisher: Arc<dyn Publisher>,
    /// Whether the publisher is RabbitMQ.
    pub(super) is_rabbit: bool,
}

/// Parses the broker's address. Does not connect.
pub(super) fn address(settings: &Settings) -> Result<Option<Address>, Failure> {
    let parse = |url: &String| {
        url.parse().map_err(|error: RabbitError| Failure::usage(format!("--amqp-url is {error}")))
    };
    settings.amqp_url.as_ref().map(parse).transpose()
}

/// Opens the publisher. If the broker is away or its exchange was destroyed, the process starts without it and events wait.
/// If the broker refuses this program for good, this fails, because waiting would not help. Without an address it fails if the
/// database publishes to a broker. `db` records what was declared. Partners find the schemas of events at `base_url`.
pub(super) async fn open(
    address: Option<Address>,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
    base_url: &str,
) -> Result<Broker, Failure> {
    let Some(address) = address else {
        if let Some(known) = in_use(&db).await? {
            return Err(Failure::dependency(not_given(&known)));
        }
        return Ok(Broker { publisher: Arc::new(Embedded), is_rabbit: false });
    };
    let publisher = publisher(address, keys, db, base_url);
    match publisher.connect().await {
        Ok(()) => {}
        Err(error @ (RabbitError::Unreachable { .. } | RabbitError::Memory(_))) => {
            tracing::warn!(%error, "starting without the broker; events wait until it answers");
        }
        Err(error @ RabbitError::Destroyed { .. }) => {
            tracing::error!(%error, "starting without the broker");
        }
        Err(error) => return Err(refused(error)),
    }
    Ok(Broker { publisher: Arc::new(publisher), is_rabbit: true })
}

/// Describes whether the broker takes events. Changes nothing at the broker.
pub(super) async fn look(
    address: Address,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
) -> Result<String, Failure> {
    match publisher(address, keys, db, "").look().await {
        Ok(Looked::Takes) => Ok("takes events".to_owned()),
        Ok(Looked::TakesOnceDeclared) => {
            Ok("takes events once the first relay has declared the exchange".to_owned())
        }
        Ok(Looked::TakesConnections) => Ok(
            "takes connections; publishing was not tried, because this user may not declare queues named stepwise.look.*, or not publish to them"
                .to_owned(),
        ),
        Err(error) => Err(refused(error)),
    }
}

/// Declares the exchange and the archive, also after they were destroyed.
pub(super) async fn declare(
    address: Address,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
) -> Result<(), Failure> {
    publisher(address, keys, db, "").declare().await.map_err(refused)
}

/// The address, without user and password, of the broker to which this database publishes. `None`: no broker was ever used, or it
/// was forgotten.
pub(super) async fn in_use(db: &PgPool) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- broker: in use
        select split_part(name, ' ', 1) from saga.broker_topology order by declared_at desc limit 1",
    )
    .fetch_optional(db)
    .await
}

/// Says that the database publishes to this broker, and that its address was not given. A process that went on would mark events as
/// published that no partner has got.
pub(super) fn not_given(known: &str) -> String {
    format!(
        "this database publishes to RabbitMQ at {known}; give --amqp-url (or STEPWISE_AMQP_URL), or run \
         `stepwise relay --forget-broker` if no partner takes events from it any more"
    )
}

/// Forgets every broker to which this database has published. Changes nothing at the brokers.
pub(super) async fn forget(db: &PgPool) -> Result<(), sqlx::Error> {
    let forgotten = sqlx::query(
        "-- broker: forget
        delete from saga.broker_topology",
    );
    forgotten.execute(db).await.map(|_| ())
}

fn publisher(
    address: Address,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
    base_url: &str,
) -> RabbitPublisher {
    let (envelopes, declared) = (Envelopes::new(keys, base_url), DeclaredTopologies::new(db));
    RabbitPublisher::new(address, envelopes, Topology::default(), declared)
}

fn refused(error: RabbitError) -> Failure {
    match error {
        RabbitError::Address { .. } | RabbitError::Denied { .. } => {
            Failure::usage(format!("{error}; correct --amqp-url"))
        }
        RabbitError::Topology { .. } => Failure::usage(format!(
            "{error}; remove what is in the way, or name another virtual host in --amqp-url"
        )),
        RabbitError::Unreachable { .. }
        | RabbitError::Memory(_)
        | RabbitError::Destroyed { .. } => Failure::dependency(error.to_string()),
    }
}
