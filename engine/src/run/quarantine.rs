//! Crash quarantine: an instance whose step ends the process must not end one worker after the other.
//!
//! The instances of a dead worker are suspects until their next step has an outcome. A worker with a [`Quarantine`] drives suspects in a child
//! process: all of them together first. If the child dies, those that committed nothing are halved and tried again. So an innocent instance is
//! delayed by a few process starts and never blamed. Only the death of a child that drove a single instance, seen by its living parent, counts
//! against that instance; the third one makes it `stuck`. A child that ends by itself has not died, even if it left instances undone (the database
//! was away, a call took too long): those are tried again.
//! Nor has a child died that was killed because it did not renew its lease: its instances are halved and tried again. One that stops each child is
//! tried until an operator acts; the gauge `stepwise_sagas_suspect` counts it.
//!
//! No instance becomes a suspect when its worker ends gracefully, or when a lease runs out while the database itself is away.
//!
//! Here is the child's side: it drives the instances that its parent names.

use std::io::BufRead as _;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    database::trouble::Trouble,
    run::work::run_one,
    worker::{
        config::{Assignment, WorkerConfig},
        engine::Engine,
    },
};

pub use crate::worker::config::Quarantine;

/// Why a quarantined worker did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// No parent has named instances to drive.
    #[error("a quarantined worker is started by a worker, not by hand")]
    Untold,
    /// The database cannot be reached.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// The child's side: reads the instances from standard input, drives one step of each, and ends. It stops when its parent does.
///
/// # Errors
/// [`Unable`]. Nothing was driven then, and no instance is blamed.
pub async fn quarantined(engine: Engine, config: WorkerConfig) -> Result<(), Unable> {
    let stop = CancellationToken::new();
    let assignment = assignment(stop.clone()).await.ok_or(Unable::Untold)?;
    let config = WorkerConfig {
        name: Assignment::name(assignment.parent),
        sole: false,
        quarantine: None,
        room: assignment.suspects.len(),
        ..config
    };
    let trouble = Trouble::new("the suspects cannot be driven");
    Ok(run_one(&engine, &config, stop, Some(assignment), &trouble).await?)
}

/// Reads the parent's line. `orphaned` is cancelled when standard input ends, which it does when the parent ends. It reads on a thread of its own,
/// because a runtime waits for its readers before it ends.
async fn assignment(orphaned: CancellationToken) -> Option<Assignment> {
    let (told, hears) = oneshot::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        let read = input.read_line(&mut line);
        if told.send(read.map(|_| line)).is_ok() {
            // The parent writes nothing more: this returns when the input ends.
            let _ = std::io::copy(&mut input, &mut std::io::sink());
        }
        orphaned.cancel();
    });
    serde_json::from_str(&hears.await.ok()?.ok()?).ok()
}
