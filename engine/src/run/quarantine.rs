//! Crash quarantine: an instance whose step ends the process must not end one worker after the other.
//!
//! What a dead worker held is suspect until its next commit. A worker with a [`Quarantine`] drives suspects not itself but in a child
//! process: all of them together first. If the child dies, those it held uncommitted are halved and tried again, so that whoever is
//! innocent is slowed by a few process starts and never blamed. Only the death of a child that held a single instance, seen by
//! its living parent, counts against that instance; the third makes it `stuck`. A child that ended well has not died, whatever it left
//! undone (the database was away, a call took too long): that is tried again.
//!
//! A graceful end, and a lease that ran out while the database itself was away, make nobody suspect.
//!
//! Here is the child's side: it drives what its parent tells it.

use std::io::BufRead as _;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    database::trouble::Trouble,
    run::work::shift,
    worker::{
        config::{Sentence, WorkerConfig},
        engine::Engine,
    },
};

pub use crate::worker::config::Quarantine;

/// Why a quarantined worker did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// Nobody told it what to drive.
    #[error("a quarantined worker is started by a worker, not by hand")]
    Untold,
    /// The database cannot be reached.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// The child's side: reads from standard input what to drive, does one step of each, and ends. It stops when its parent does.
///
/// # Errors
/// [`Unable`]; nothing was driven then, and nobody is blamed.
pub async fn quarantined(engine: Engine, config: WorkerConfig) -> Result<(), Unable> {
    let stop = CancellationToken::new();
    let sentence = sentence(stop.clone()).await.ok_or(Unable::Untold)?;
    let config = WorkerConfig {
        name: Sentence::name(sentence.parent),
        sole: false,
        quarantine: None,
        room: sentence.suspects.len(),
        ..config
    };
    let trouble = Trouble::new("the suspects cannot be driven");
    Ok(shift(&engine, &config, stop, Some(sentence), &trouble).await?)
}

/// Reads what the parent says; `orphaned` is cancelled when standard input ends, as it does with the parent. On a thread of its own:
/// a runtime waits for its readers before it ends.
async fn sentence(orphaned: CancellationToken) -> Option<Sentence> {
    let (told, hears) = oneshot::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        let read = input.read_line(&mut line);
        if told.send(read.map(|_| line)).is_ok() {
            // Nothing more is said: this returns at the end.
            let _ = std::io::copy(&mut input, &mut std::io::sink());
        }
        orphaned.cancel();
    });
    serde_json::from_str(&hears.await.ok()?.ok()?).ok()
}
