//! The parent's side of the [quarantine](crate::quarantine): child processes drive the instances of dead workers, and their deaths are counted.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use uuid::Uuid;

use crate::{
    database::{in_time, trouble::Trouble},
    store,
    worker::{
        claim,
        config::{Assignment, Quarantine},
        held::Suspect,
        state::Worker,
    },
};

/// An instance gets `stuck` after so many deaths of processes that drove nothing else.
const DEATHS: i16 = 3;

/// The parent's side: drives suspects in child processes until the worker stops.
pub(crate) async fn run(
    worker: Arc<Worker>,
    quarantine: Quarantine,
    mut suspects: mpsc::UnboundedReceiver<Suspect>,
) {
    let mut all = Vec::new();
    let trouble = Trouble::new("suspects cannot be driven apart; trying again");
    loop {
        tokio::select! {
            count = suspects.recv_many(&mut all, 4_096) => if count == 0 { return },
            () = worker.stop.cancelled() => return,
        }
        let mut groups = vec![std::mem::take(&mut all)];
        while let Some(group) = groups.pop() {
            if worker.is_stopping() {
                // They stay owned, and suspects, until this worker signs off.
                return;
            }
            let Ended { died, mut open } = match try_one(&worker, &quarantine, &group).await {
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
            left.retain(|suspect| open.contains(&suspect.reserved.id));
            if open.len() == 1 {
                if !died {
                    // The sweep finds it undriven, and sends it here again.
                    continue;
                }
                match blame(&worker, open.remove(0)).await {
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
    /// The suspects that have not committed a step.
    open: Vec<Uuid>,
}

/// Starts a child process that drives a group of suspects, and waits for its end.
async fn try_one(
    worker: &Worker,
    quarantine: &Quarantine,
    group: &[Suspect],
) -> Result<Ended, Box<dyn std::error::Error + Send + Sync>> {
    let suspects = group.iter().map(|suspect| suspect.reserved.id).collect::<Vec<_>>();
    tracing::info!(suspects = suspects.len(), "driving suspects in a process of their own");
    let mut line = serde_json::to_string(&Assignment { parent: worker.lease.worker_id, suspects })?;
    line.push('\n');
    let mut child = (quarantine.0)().stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = child.stdin.take().ok_or("a child process without standard input")?;
    // If the child is dead already, `wait` says so.
    let _ = input.write_all(line.as_bytes()).await;
    let ended = tokio::select! {
        ended = child.wait() => Some(ended?),
        () = worker.stop.cancelled() => None,
    };
    // The child ends when its standard input does.
    drop(input);
    let ended = match ended {
        Some(ended) => ended,
        None => child.wait().await?,
    };
    let open = claim::take_back(worker, &Assignment::name(worker.lease.worker_id)).await?;
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
            tracing::info!(suspects, "a process that drove suspects has left some unchanged");
        }
    }
    Ok(Ended { died, open })
}

/// Counts one more death of a process that drove only this instance. Returns true if the instance is stuck now.
async fn blame(worker: &Worker, id: Uuid) -> Result<bool, sqlx::Error> {
    let blaming = sqlx::query_as(
        "-- name: blame
        update saga.instance set deaths = deaths + 1, updated_at = clock_timestamp()
        where shard = $1 and saga_id = $2 and owner = $3 returning deaths, epoch, seq",
    )
    .bind(crate::base::id::shard_in(id))
    .bind(id)
    .bind(worker.lease.worker_id)
    .fetch_optional(&worker.pool);
    let blamed: Option<(i16, i32, i32)> = in_time(blaming).await?;
    let Some((deaths, epoch, seq)) = blamed.filter(|(deaths, ..)| *deaths >= DEATHS) else {
        return Ok(false);
    };
    let why = format!("its step ended the process, {deaths} times");
    tracing::error!(saga_id = %id, why);
    in_time(store::stick(&worker.pool, &worker.fence(id, epoch, Some(seq)), &why)).await?;
    worker.engine.wake_waiters(id);
    Ok(true)
}
