//! Crash quarantine: an instance whose step ends the process must not end one worker after the other.
//!
//! What a dead worker held is suspect until its next commit. A worker with a [`Quarantine`] drives suspects not itself but in a child
//! process: all of them together first. If the child dies, those it held uncommitted are halved and tried again, so that whoever is
//! innocent is slowed by a few process starts and never blamed. Only the death of a child that held a single instance, seen by
//! its living parent, counts against that instance; the third makes it `stuck`. A child that ended well has not died, whatever it left
//! undone (the database was away, a call took too long): that is tried again.
//!
//! A graceful end, and a lease that ran out while the database itself was away, make nobody suspect.

use std::{fmt, io::BufRead as _, process::Stdio, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    claim,
    database::in_time,
    engine::Engine,
    held::Penned,
    store,
    trouble::Trouble,
    worker::{Shift, WorkerConfig, shift},
};

/// So many deaths of a process that drove nothing else make an instance `stuck`.
const DEATHS: i16 = 3;

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

/// How a worker starts the child processes in which suspects are driven.
#[derive(Clone)]
pub struct Quarantine(Arc<dyn Fn() -> Command + Send + Sync>);

impl Quarantine {
    /// By that command, which must end in [`quarantined`] with an engine that knows the same sagas.
    pub fn by(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self(Arc::new(command))
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quarantine")
    }
}

/// What the parent tells its child, in one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sentence {
    /// The parent, whose instances these are.
    pub(crate) parent: Uuid,
    pub(crate) suspects: Vec<Uuid>,
}

impl Sentence {
    /// The name under which children of that parent work.
    fn name(parent: Uuid) -> String {
        format!("quarantine of {parent}")
    }
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

/// The parent's side: drives suspects in child processes until the shift stops.
pub(crate) async fn run(
    shift: Arc<Shift>,
    quarantine: Quarantine,
    mut suspects: mpsc::UnboundedReceiver<Penned>,
) {
    let mut all = Vec::new();
    let trouble = Trouble::new("suspects cannot be driven apart; trying again");
    loop {
        tokio::select! {
            count = suspects.recv_many(&mut all, 4_096) => if count == 0 { return },
            () = shift.stop.cancelled() => return,
        }
        let mut groups = vec![std::mem::take(&mut all)];
        while let Some(group) = groups.pop() {
            if shift.is_stopping() {
                // They stay owned, and suspect, until the lease is given up.
                return;
            }
            let Ended { died, mut open } = match try_one(&shift, &quarantine, &group).await {
                Ok(ended) => {
                    trouble.end();
                    ended
                }
                Err(error) => {
                    trouble.begin(&error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    groups.push(group);
                    continue;
                }
            };
            let mut left = group;
            left.retain(|penned| open.contains(&penned.reserved.id));
            if open.len() == 1 {
                if !died {
                    // The sweep finds it adrift, and pens it again.
                    continue;
                }
                match blame(&shift, open.remove(0)).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "a death could not be counted"),
                }
            }
            if left.len() > 1 {
                let half = left.split_off(left.len() / 2);
                groups.push(half);
            }
            if !left.is_empty() {
                groups.push(left);
            }
        }
    }
}

/// How a child ended.
struct Ended {
    died: bool,
    /// What it held, uncommitted, and still suspect.
    open: Vec<Uuid>,
}

/// Has a child drive them until it ends.
async fn try_one(
    shift: &Shift,
    quarantine: &Quarantine,
    group: &[Penned],
) -> Result<Ended, Box<dyn std::error::Error + Send + Sync>> {
    let suspects = group.iter().map(|penned| penned.reserved.id).collect::<Vec<_>>();
    tracing::info!(suspects = suspects.len(), "driving suspects in a process of their own");
    let mut line = serde_json::to_string(&Sentence { parent: shift.worker_id, suspects })?;
    line.push('\n');
    let mut child = (quarantine.0)().stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = child.stdin.take().ok_or("a child process without standard input")?;
    // Should it have died already, its end tells.
    let _ = input.write_all(line.as_bytes()).await;
    let ended = tokio::select! {
        ended = child.wait() => Some(ended?),
        () = shift.stop.cancelled() => None,
    };
    // Its standard input ends, and so does it.
    drop(input);
    let ended = match ended {
        Some(ended) => ended,
        None => child.wait().await?,
    };
    let open = claim::take_back(shift, &Sentence::name(shift.worker_id)).await?;
    let died = !ended.success();
    match (died, open.len()) {
        (true, 0) => {
            return Err(format!("the process ended before it drove anything: {ended}").into());
        }
        (true, suspects) => {
            tracing::warn!(%ended, suspects, "a process that drove suspects died");
        }
        (false, 0) => {}
        (false, suspects) => {
            tracing::info!(suspects, "a process that drove suspects has left some as they were");
        }
    }
    Ok(Ended { died, open })
}

/// One more death of a process that drove nothing else; true if that was one too many.
async fn blame(shift: &Shift, id: Uuid) -> Result<bool, sqlx::Error> {
    let blaming = sqlx::query_as(
        "-- name: blame
        update saga.instance set deaths = deaths + 1, updated_at = clock_timestamp()
        where shard = $1 and saga_id = $2 and owner = $3 returning deaths, epoch, seq",
    )
    .bind(crate::id::shard_in(id))
    .bind(id)
    .bind(shift.worker_id)
    .fetch_optional(&shift.pool);
    let blamed: Option<(i16, i32, i32)> = in_time(blaming).await?;
    let Some((deaths, epoch, seq)) = blamed.filter(|(deaths, ..)| *deaths >= DEATHS) else {
        return Ok(false);
    };
    let why = format!("its step ended the process, {deaths} times");
    tracing::error!(saga_id = %id, why);
    in_time(store::stick(&shift.pool, &shift.fence(id, epoch, Some(seq)), &why)).await?;
    shift.engine.ended(id);
    Ok(true)
}
