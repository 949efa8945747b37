//! Checks a broker without changing anything.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use uuid::Uuid;

use super::error::{self, RabbitError};
use super::session::{self, Address, Answer, Parcel};
use super::topology::{self, Topology};

/// The time limit of the whole check.
const LOOK: Duration = Duration::from_secs(5);
const CONFIRM: Duration = Duration::from_secs(2);

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The broker takes messages, and the exchange and the archive exist.
    Takes,
    /// The broker takes messages. The exchange and the archive were never declared; the first relay will declare them.
    TakesOnceDeclared,
    /// The broker takes connections. This user may not declare the temporary queue or not publish to it, which a relay
    /// need not be allowed to do.
    TakesConnections,
}

/// Connects, checks the topology if it was declared before, and publishes a message to a temporary queue. The message
/// is needed because a broker that has raised an alarm accepts connections and confirms nothing. Answers whether this
/// user was allowed to publish it.
pub(super) async fn look(
    address: &Address,
    topology: Option<&Topology>,
) -> Result<bool, RabbitError> {
    let at = address.to_string();
    let looking = async {
        let connection = session::connect(address).await?;
        if let Some(topology) = topology {
            topology::check(&connection, topology, &at).await?;
        }
        let failed = |error: lapin::Error| error::unreachable(&at, &error);
        let channel = session::confirming(&connection).await.map_err(failed)?;
        let queue = format!("stepwise.look.{}", Uuid::now_v7().simple());
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declared =
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
        match declared {
            Err(error) if error::is_access_refused(&error) => return Ok(false),
            declared => declared.map_err(failed)?,
        };
        let parcel = Parcel {
            exchange: "",
            routing_key: &queue,
            body: b"{}",
            properties: BasicProperties::default(),
        };
        let taken = session::publish(&channel, &parcel, CONFIRM).await;
        let is_blocked = connection.status().blocked();
        let reason = match taken {
            Answer::Taken => return Ok(true),
            Answer::Closed(error) if error::is_access_refused(&error) => return Ok(false),
            _ if is_blocked => super::ALARM.to_owned(),
            Answer::Silence => {
                "it accepts connections but confirms no message; it may have a memory or disk alarm"
                    .to_owned()
            }
            Answer::Returned => "it loses a queue that it has just declared".to_owned(),
            Answer::NotTakenByAll => "it refuses a message to an empty queue".to_owned(),
            Answer::Closed(error) => error.to_string(),
            Answer::GivenUp => "the check was cancelled".to_owned(),
        };
        Err(RabbitError::Unreachable { at: at.clone(), reason })
    };
    tokio::time::timeout(LOOK, looking).await.unwrap_or_else(|_| Err(error::mute(&at)))
}
