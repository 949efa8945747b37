//! A batcher: one connection that commits many transitions by one statement (group commit).
//!
//! While a commit runs, the next transitions gather; they are the next batch. There is no timer: an idle batcher commits a single transition at
//! once, and the batches of a busy one grow by themselves. A batch that the database refuses is halved until the refused member is alone.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    database::{Failure, in_time, trouble::Trouble},
    record::{commit::Commit, row::Row},
    store::{
        self,
        commit::{self, Mode, WrittenMembers},
    },
    worker::connection::connect,
};

/// How many transitions one statement writes at most.
const BATCH: usize = 500;

/// The result of writing a transition.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is durable.
    Yes,
    /// It was not written, and this is the row as it is now. `None`: nobody knows whether it was written; read the row again.
    Missed(Option<Box<Row>>),
    /// The database refuses this transition, and will refuse it again.
    Refused(String),
}

type Job = (Commit, oneshot::Sender<Written>);

/// The sending half, for drivers. Clones share the batcher.
#[derive(Clone)]
pub(crate) struct Batcher {
    jobs: mpsc::Sender<Job>,
}

impl Batcher {
    /// Starts the batcher's task; it ends when the last [`Batcher`] is gone.
    pub(crate) fn start(
        pool: PgPool,
        mode: Mode,
        tasks: &tokio_util::task::TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(8 * BATCH);
        tasks.spawn(run(pool, mode, queue, stop));
        Self { jobs }
    }

    /// Writes one transition together with others that wait. Returns when its result is known, or when it cannot be known.
    pub(crate) async fn commit(&self, commit: Commit) -> Written {
        let (answer, answered) = oneshot::channel();
        if self.jobs.send((commit, answer)).await.is_err() {
            return Written::Missed(None);
        }
        answered.await.unwrap_or(Written::Missed(None))
    }
}

async fn run(pool: PgPool, mode: Mode, mut queue: mpsc::Receiver<Job>, stop: CancellationToken) {
    let mut connection = None;
    let mut batch = Vec::with_capacity(BATCH);
    let trouble = Trouble::new("transitions cannot be committed; trying again");
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let (commits, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let written = loop {
            match connect(&pool, &mut connection).await {
                Ok(open) => break write_all(open, mode, commits, &trouble).await,
                Err(error) if stop.is_cancelled() => {
                    tracing::warn!(%error, "the database is away while the worker stops; open transitions wait until its lease runs out");
                    return;
                }
                Err(error) => {
                    trouble.begin_with(&error);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        };
        if written.lost_connection {
            connection = None;
        }
        for (answer, written) in answers.into_iter().zip(written.each) {
            // A driver that is gone needs no answer.
            let _ = answer.send(written);
        }
    }
}

struct Answers {
    each: Vec<Written>,
    lost_connection: bool,
}

/// Round trips and commits: 1; 1 more if some members were not written; about 2 log2 of the batch if one is refused.
async fn write_all(
    connection: &mut PgConnection,
    mode: Mode,
    commits: Vec<Commit>,
    trouble: &Trouble,
) -> Answers {
    let mut each = Vec::with_capacity(commits.len());
    let mut lost_connection = false;
    let mut parts = VecDeque::from([commits]);
    while let Some(mut part) = parts.pop_front() {
        if lost_connection {
            each.extend(part.iter().map(|_| Written::Missed(None)));
            continue;
        }
        match in_time(write(connection, &part, mode)).await {
            Ok(written) => {
                let mut rows = match in_time(read_missed(connection, &part, &written)).await {
                    Ok(rows) => {
                        trouble.end();
                        rows
                    }
                    // Their drivers read them instead.
                    Err(error) => {
                        trouble.begin_with(&error);
                        lost_connection = true;
                        HashMap::new()
                    }
                };
                each.extend(part.iter().map(|c| match written.contains(&(c.id, c.epoch)) {
                    true => Written::Yes,
                    false => Written::Missed(rows.remove(&c.id).map(Box::new)),
                }));
            }
            Err(error) if is_refusal(&error) => {
                if part.len() == 1 {
                    each.push(Written::Refused(error.to_string()));
                } else {
                    let tail = part.split_off(part.len() / 2);
                    parts.push_front(tail);
                    parts.push_front(part);
                }
            }
            Err(error) => {
                // The drivers read their rows again.
                trouble.begin_with(&error);
                lost_connection =
                    !matches!(error, sqlx::Error::Database(_)) || is_of_no_use(&error);
                each.extend(part.iter().map(|_| Written::Missed(None)));
            }
        }
    }
    Answers { each, lost_connection }
}

/// Reads the rows of the members that were not written, all by one statement, so that many locked rows cost no more than one. Round trips: 0 if
/// all were written.
async fn read_missed(
    connection: &mut PgConnection,
    part: &[Commit],
    written: &WrittenMembers,
) -> Result<HashMap<Uuid, Row>, sqlx::Error> {
    let missed = part.iter().filter(|commit| !written.contains(&(commit.id, commit.epoch)));
    let (shards, ids): (Vec<i16>, Vec<Uuid>) = missed.map(|c| (c.shard, c.id)).unzip();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store::instances(connection, shards, ids).await?;
    Ok(rows.into_iter().map(|row| (row.saga_id, row)).collect())
}

/// Writes a batch in one transaction.
async fn write(
    connection: &mut PgConnection,
    part: &[Commit],
    mode: Mode,
) -> Result<WrittenMembers, sqlx::Error> {
    if commit::is_one_statement(part) {
        return commit::write(connection, part, mode).await;
    }
    let mut tx = connection.begin().await?;
    let written = commit::write(&mut tx, part, mode).await?;
    tx.commit().await?;
    Ok(written)
}

/// Does the database refuse a member of the batch? Not where the statement itself does not fit the schema: that would get all of them stuck.
fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_) | sqlx::Error::Encode(_))
        && Failure::of(error) == Failure::Refused
}

/// Is this connection of no more use? Its server is shutting down, or has become read-only while another may have taken over.
fn is_of_no_use(error: &sqlx::Error) -> bool {
    matches!(Failure::of(error), Failure::Away | Failure::ReadOnly)
}
