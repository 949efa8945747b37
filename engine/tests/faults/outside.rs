//! The way to the outside world: one request a connection, one JSON line each way, over a Unix socket.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{Cause, Retry};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// A call that has no answer after this long never gets one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request to the outside world.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum Request {
    /// Do it, once per key; `reference` is what it is about, if that exists already.
    Do { op: String, key: String, reference: Option<String> },
    /// Say what became of that key.
    Ask { key: String },
    /// Take back what was done under that key; later requests under it are refused.
    Undo { key: String },
    /// Take this message.
    Publish { subject: String, sequence: i64, id: uuid::Uuid },
}

/// Its answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Done(String),
    Declined,
    /// Done, if the customer approves.
    Challenged(String),
    /// Surely nothing was done.
    NotDone,
    /// Never heard of it.
    Nothing,
    /// Something that the worker's code cannot bear.
    Ill(Illness),
}

/// Conditions that code cannot bear.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub(crate) enum Illness {
    /// The code that calls the outside panics.
    Panics,
    /// The saga panics.
    Booms,
    /// The process is gone.
    Aborts,
    /// The process stands still.
    Freezes,
}

/// The outside world, from a worker's point of view.
#[derive(Clone, Debug)]
pub(crate) struct Outside(pub(crate) PathBuf);

impl Outside {
    /// Asks once. [`Reply::NotDone`] is sure; an error is not knowing.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, Cause> {
        let Ok(mut stream) = UnixStream::connect(&self.0).await else { return Ok(Reply::NotDone) };
        let asking = async {
            let mut line = serde_json::to_string(&request).map_err(Cause::new)?;
            line.push('\n');
            stream.write_all(line.as_bytes()).await.map_err(Cause::new)?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await.map_err(Cause::new)?;
            serde_json::from_str(&answer).map_err(|_| Cause::new("no answer"))
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| Err(Cause::new("no answer in time")))
    }
}

/// Retries that a test can wait for.
pub(crate) fn patient() -> Retry {
    Retry { base: Duration::from_millis(20), cap: Duration::from_millis(300) }
}
