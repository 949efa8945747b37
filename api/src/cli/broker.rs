//! Who publishes: RabbitMQ if there is one, else the feed itself.

use std::sync::Arc;

use stepwise_adapters::rabbitmq::{Address, RabbitError, RabbitPublisher, Topology};
use stepwise_engine::outbox::{Embedded, Publisher, PublisherState};
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

impl Broker {
    /// Whether it takes events at this moment.
    pub(super) fn is_connected(&self) -> bool {
        self.publisher.state() == PublisherState::Connected
    }
}

/// Checks the address as far as that needs nobody's answer.
pub(super) fn address(settings: &Settings) -> Result<Option<Address>, Failure> {
    let parse = |url: &String| {
        url.parse().map_err(|error: RabbitError| Failure::usage(format!("--amqp-url is {error}")))
    };
    settings.amqp_url.as_ref().map(parse).transpose()
}

/// A broker that is away is waited for while everything else goes on; one that refuses us for good
/// is a failure at once, since waiting would not help.
pub(super) async fn open(
    address: Option<Address>,
    keys: Arc<dyn KeyStore>,
) -> Result<Broker, Failure> {
    let Some(address) = address else {
        return Ok(Broker { publisher: Arc::new(Embedded), is_rabbit: false });
    };
    let publisher = RabbitPublisher::new(address, Envelopes::new(keys), Topology::default());
    match publisher.connect().await {
        Ok(()) => {}
        Err(error @ RabbitError::Unreachable { .. }) => {
            tracing::warn!(%error, "starting without the broker; events wait for it");
        }
        Err(error @ (RabbitError::Address { .. } | RabbitError::Denied { .. })) => {
            return Err(Failure::usage(format!("{error}; correct --amqp-url")));
        }
        Err(error @ RabbitError::Topology { .. }) => {
            return Err(Failure::usage(format!(
                "{error}; remove what is in the way, or give a virtual host of its own in --amqp-url"
            )));
        }
    }
    Ok(Broker { publisher: Arc::new(publisher), is_rabbit: true })
}
