//! Who publishes: RabbitMQ if there is one, else the feed itself.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_adapters::rabbitmq::{Address, Looked, RabbitError, RabbitPublisher, Topology};
use stepwise_engine::outbox::{DeclaredTopologies, Embedded, Publisher};
use stepwise_workflows::{cloud_event::Envelopes, privacy::KeyStore};

use super::{Failure, settings::Settings};

/// Where events go.
#[derive(Clone)]
pub(super) struct Broker {
    /// Takes them.
    pub(super) publisher: Arc<dyn Publisher>,
    /// Whether it is RabbitMQ.
    pub(super) is_rabbit: bool,
}

/// Checks the address as far as that needs nobody's answer.
pub(super) fn address(settings: &Settings) -> Result<Option<Address>, Failure> {
    let parse = |url: &String| {
        url.parse().map_err(|error: RabbitError| Failure::usage(format!("--amqp-url is {error}")))
    };
    settings.amqp_url.as_ref().map(parse).transpose()
}

/// A broker that is away, or whose exchange was destroyed, is waited for while everything else goes
/// on; one that refuses us for good is a failure at once, since waiting would not help. `db` remembers
/// what was declared.
pub(super) async fn open(
    address: Option<Address>,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
) -> Result<Broker, Failure> {
    let Some(address) = address else {
        return Ok(Broker { publisher: Arc::new(Embedded), is_rabbit: false });
    };
    let publisher = publisher(address, keys, db);
    match publisher.connect().await {
        Ok(()) => {}
        Err(error @ (RabbitError::Unreachable { .. } | RabbitError::Memory(_))) => {
            tracing::warn!(%error, "starting without the broker; events wait for it");
        }
        Err(error @ RabbitError::Destroyed { .. }) => {
            tracing::error!(%error, "starting without the broker");
        }
        Err(error) => return Err(refused(error)),
    }
    Ok(Broker { publisher: Arc::new(publisher), is_rabbit: true })
}

/// Looks whether the broker takes events, in words; changes nothing there.
pub(super) async fn look(
    address: Address,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
) -> Result<String, Failure> {
    match publisher(address, keys, db).look().await {
        Ok(Looked::Takes) => Ok("takes events".to_owned()),
        Ok(Looked::TakesOnceDeclared) => {
            Ok("takes events; the first relay declares the exchange".to_owned())
        }
        Err(error) => Err(refused(error)),
    }
}

/// Declares the exchange and the archive, also where they were destroyed.
pub(super) async fn declare(
    address: Address,
    keys: Arc<dyn KeyStore>,
    db: PgPool,
) -> Result<(), Failure> {
    publisher(address, keys, db).declare().await.map_err(refused)
}

fn publisher(address: Address, keys: Arc<dyn KeyStore>, db: PgPool) -> RabbitPublisher {
    let (envelopes, declared) = (Envelopes::new(keys), DeclaredTopologies::new(db));
    RabbitPublisher::new(address, envelopes, Topology::default(), declared)
}

fn refused(error: RabbitError) -> Failure {
    match error {
        RabbitError::Address { .. } | RabbitError::Denied { .. } => {
            Failure::usage(format!("{error}; correct --amqp-url"))
        }
        RabbitError::Topology { .. } => Failure::usage(format!(
            "{error}; remove what is in the way, or give a virtual host of its own in --amqp-url"
        )),
        RabbitError::Unreachable { .. }
        | RabbitError::Memory(_)
        | RabbitError::Destroyed { .. } => Failure::dependency(error.to_string()),
    }
}
