//! Looks at a broker without changing anything.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use uuid::Uuid;

use super::session::{self, Address, Answer, Parcel, RabbitError};
use super::topology::{self, Topology};

/// For the whole look.
const LOOK: Duration = Duration::from_secs(5);
const CONFIRM: Duration = Duration::from_secs(2);

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The broker takes messages, and the exchange and the archive are there.
    Takes,
    /// The broker takes messages. Exchange and archive were never declared; the first relay does.
    TakesOnceDeclared,
}

/// Connects, looks for the topology if there should be one, and publishes to a queue that goes with
/// the connection. A broker that has raised an alarm accepts connections and confirms nothing.
pub(super) async fn look(
    address: &Address,
    topology: Option<&Topology>,
) -> Result<(), RabbitError> {
    let at = address.to_string();
    let looking = async {
        let connection = session::connect(address).await?;
        if let Some(topology) = topology {
            topology::check(&connection, topology, &at).await?;
        }
        let failed = |error: lapin::Error| session::unreachable(&at, &error);
        let channel = session::confirming(&connection).await.map_err(failed)?;
        let queue = format!("stepwise.look.{}", Uuid::now_v7().simple());
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await
            .map_err(failed)?;
        let parcel = Parcel {
            exchange: "",
            routing_key: &queue,
            body: b"{}",
            properties: BasicProperties::default(),
        };
        let taken = session::publish(&channel, &parcel, CONFIRM).await;
        let is_blocked = connection.status().blocked();
        let reason = match taken {
            Answer::Taken => return Ok(()),
            _ if is_blocked => super::ALARM.to_owned(),
            Answer::Silence => {
                "it accepts connections and confirms no message: a memory or disk alarm?".to_owned()
            }
            Answer::Returned => "it loses a queue that it has just made".to_owned(),
            Answer::NotTakenByAll => "it refuses a message to an empty queue".to_owned(),
            Answer::Closed(error) => error.to_string(),
            Answer::GivenUp => "the look was given up".to_owned(),
        };
        Err(RabbitError::Unreachable { at: at.clone(), reason })
    };
    tokio::time::timeout(LOOK, looking).await.unwrap_or_else(|_| Err(session::mute(&at)))
}
