//! The parent's side of the [quarantine](crate::quarantine): child processes drive the instances of dead workers, and their deaths are counted.

use std::{
    convert::Infallible,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, process::ChildStdin, sync::mpsc};
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    database::{in_time, trouble::Trouble},
    store,
    worker::{
        claim,
        config::{Assignment, Quarantine},
        driving::Suspect,
        state::Worker,
    },
};

/// An instance gets `stuck` after so many deaths of processes that drove nothing else.
const DEATHS: i16 = 3;

/// The time that a child process has from its start until it holds a lease, in addition to two leases.
const START: Duration = Duration::from_secs(10);

/// The time that a child process has to end after its standard input has ended. It is shorter than a worker's drain, so that a worker that stops takes
/// back the instances of a child that hangs.
const END: Duration = Duration::from_secs(10);

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

/// Starts a child process that drives a group of suspects, and waits for its end. A child that hangs is killed. That is not a death: the machine or a
/// person may have stopped the process, so no instance is blamed.
async fn try_one(
    worker: &Worker,
    quarantine: &Quarantine,
    group: &[Suspect],
) -> Result<Ended, Box<dyn std::error::Error + Send + Sync>> {
    let suspects = group.iter().map(|suspect| suspect.reserved.id).collect::<Vec<_>>();
    tracing::info!(suspects = suspects.len(), "driving suspects in a process of their own");
    let ended = run_child(worker, quarantine, &suspects).await?;
    let mut open = claim::take_back(worker, &Assignment::name(worker.lease.worker_id)).await?;
    let Some(ended) = ended else {
        // The sweep may have freed them when the child's lease ran out, and this worker has claimed them again.
        open = still_suspect(worker, &suspects).await?;
        if let [saga_id] = open[..] {
            tracing::warn!(%saga_id, "the process that drove this instance hung; the instance is tried again");
        }
        return Ok(Ended { died: false, open });
    };
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

/// Runs a child process to its end. Returns its exit status, or `None` if it hung and was killed.
async fn run_child(
    worker: &Worker,
    quarantine: &Quarantine,
    suspects: &[Uuid],
) -> Result<Option<ExitStatus>, Box<dyn std::error::Error + Send + Sync>> {
    let parent = worker.lease.worker_id;
    let mut line = serde_json::to_string(&Assignment { parent, suspects: suspects.to_vec() })?;
    line.push('\n');
    let earlier = children(worker).await?;
    let mut child = (quarantine.0)().stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = child.stdin.take().ok_or("a child process without standard input")?;
    let is_stopping = tokio::select! {
        ended = child.wait() => return Ok(Some(ended?)),
        never = write_and_hold(&mut input, &line) => match never {},
        () = until_it_hangs(worker, &earlier) => false,
        () = worker.stop.cancelled() => true,
    };
    // The child ends when its standard input does.
    drop(input);
    if is_stopping && let Ok(ended) = tokio::time::timeout(END, child.wait()).await {
        return Ok(Some(ended?));
    }
    tracing::warn!(
        name = Assignment::name(parent),
        pid = child.id(),
        suspects = suspects.len(),
        "a process that drove suspects hangs and is killed"
    );
    child.kill().await?;
    Ok(None)
}

/// Writes the line and never returns. A child that is frozen may leave the pipe full. If the child is dead, its exit status says so.
async fn write_and_hold(input: &mut ChildStdin, line: &str) -> Infallible {
    let _ = input.write_all(line.as_bytes()).await;
    std::future::pending().await
}

/// Returns when the child process that was started after the `earlier` ones does not renew its lease any more, or does not begin. While the database is
/// away no child can renew, so this worker looks at its own lease too. A child that signs off has half a lease to end.
async fn until_it_hangs(worker: &Worker, earlier: &[Uuid]) {
    let lasts = worker.lease.lasts();
    let mut hangs_at = Instant::now() + START + 2 * lasts;
    loop {
        tokio::time::sleep(lasts / 3).await;
        let holds_lease = child_holds_lease(worker, earlier).await;
        let (now, patience) = (Instant::now(), lasts / 2);
        match holds_lease {
            Ok(true) => hangs_at = now + patience,
            Ok(false) if worker.lease.may_judge() => {
                if now >= hangs_at {
                    return;
                }
            }
            Ok(false) | Err(_) => hangs_at = hangs_at.max(now + patience),
        }
    }
}

/// The child processes that this worker has had, by their lease rows.
async fn children(worker: &Worker) -> Result<Vec<Uuid>, sqlx::Error> {
    let asking = sqlx::query_scalar(
        "-- name: children of a worker
        select worker_id from saga.worker where name = $1",
    )
    .bind(Assignment::name(worker.lease.worker_id))
    .fetch_all(&worker.pool);
    in_time(asking).await
}

/// Whether a child process that is none of the `earlier` ones holds a lease.
async fn child_holds_lease(worker: &Worker, earlier: &[Uuid]) -> Result<bool, sqlx::Error> {
    let asking = sqlx::query_scalar(
        "-- name: child holds a lease
        select exists (select from saga.worker
            where name = $1 and worker_id <> all($2) and lease_until > clock_timestamp())",
    )
    .bind(Assignment::name(worker.lease.worker_id))
    .bind(earlier)
    .fetch_one(&worker.pool);
    in_time(asking).await
}

/// Which of these this worker owns and are suspects.
async fn still_suspect(worker: &Worker, suspects: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    let asking = sqlx::query_scalar(
        "-- name: still suspect
        select saga_id from saga.instance
        where shard = any($1) and saga_id = any($2) and owner = $3 and suspect",
    )
    .bind(suspects.iter().map(|id| shard_in(*id)).collect::<Vec<_>>())
    .bind(suspects)
    .bind(worker.lease.worker_id)
    .fetch_all(&worker.pool);
    in_time(asking).await
}

/// Counts one more death of a process that drove only this instance. Returns true if the instance is stuck now.
async fn blame(worker: &Worker, id: Uuid) -> Result<bool, sqlx::Error> {
    let blaming = sqlx::query_as(
        "-- name: blame
        update saga.instance set deaths = deaths + 1, updated_at = clock_timestamp()
        where shard = $1 and saga_id = $2 and owner = $3 returning deaths, epoch, seq",
    )
    .bind(shard_in(id))
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
