//! A pass over the upkeep tasks: the work of a worker beside driving instances. Every worker makes passes; none is the leader.
//!
//! One statement per [`crate::WorkerConfig::poll`] tells whether there is any work: a tick of a schedule, a deadline, an awaited end, a queue, a
//! pause, a bulk. The work is done in short transactions under row locks or a try-lock, so that it is done once however many workers make a pass at
//! the same time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{Executor as _, FromRow, PgConnection};

use crate::{
    bulk,
    database::{all_in_time, in_time, trouble::Trouble},
    upkeep::{deadline, ends, queue, schedule},
    worker::{connection, state::Worker},
};

/// The shortest time between two passes that hints ask for, so that many ends at once cause one pass.
const REST: Duration = Duration::from_millis(5);

/// By saga, the queue key after which its next admission continues ([`queue::admit`]).
type Cursors = HashMap<String, Option<String>>;

/// The work that there is.
#[derive(Debug, FromRow)]
struct Seen {
    ticks: bool,
    overdue: bool,
    /// An instance that another one waits for has ended.
    awaited: bool,
    /// Sagas that have queued instances.
    queues: Vec<String>,
    paused: Vec<String>,
    bulks: bool,
}

/// How long a worker that freezes in the middle of a pass can delay the others.
const LET_GO: &str = "-- name: let go\nset idle_in_transaction_session_timeout = '5s'";

const LOOK: &str = concat!(
    "-- name: look around
select
    exists (select from saga.schedule s where s.next_at <= clock.now and s.saga = any($1::text[])) as ticks,
    exists (select from saga.instance i
        where i.deadline_at <= clock.now and i.deadline_at is not null and i.ended_at is null and not i.overdue) as overdue,
    exists (select from saga.end_wait w where ",
    ends::is_due!(),
    ") as awaited,
    array(select k.name from unnest($1::text[]) as k(name)
        where exists (select from saga.instance i
            where i.name = k.name and i.queued and i.queue_key is not null and i.ended_at is null)) as queues,
    array(select p.name from saga.kind_pause p where p.resumed_at is null) as paused,
    exists (select from saga.bulk b where b.status = 'running') as bulks
from (select saga.now() as now) clock"
);

/// Makes passes until the worker stops.
pub(crate) async fn run(worker: Arc<Worker>, poll: Duration) {
    let mut connection: Option<PgConnection> = None;
    let mut cursors = Cursors::new();
    // The log line says `round` for a pass: operators search for it by these words.
    let trouble =
        Trouble::new("rounds fail: schedules, deadlines, queues and bulks wait; trying again");
    while !worker.is_stopping() {
        let pass = async {
            let fresh = connection.is_none();
            let open = connection::connect(&worker.pool, &mut connection).await?;
            if fresh {
                in_time(open.execute(LET_GO)).await?;
            }
            go(&worker, open, &mut cursors).await
        };
        let rest = match pass.await {
            Ok(rest) => {
                trouble.end();
                rest.map_or(poll, |rest| rest.clamp(REST, poll.max(REST)))
            }
            Err(error) => {
                connection = None;
                trouble.begin_with(&error);
                poll.max(Duration::from_millis(500))
            }
        };
        tokio::select! {
            () = async { worker.upkeep.notified().await; tokio::time::sleep(REST).await } => {}
            () = tokio::time::sleep(rest) => {}
            () = worker.stop.cancelled() => return,
        }
    }
}

/// Makes one pass. Returns how long to wait if there is more work. Round trips: 1 if there is no work.
async fn go(
    worker: &Worker,
    connection: &mut PgConnection,
    cursors: &mut Cursors,
) -> Result<Option<Duration>, sqlx::Error> {
    let known = worker.engine.known();
    let looking = sqlx::query_as(LOOK).bind(&known.names).fetch_one(&mut *connection);
    let seen: Seen = in_time(looking).await?;
    worker.pause(seen.paused);
    if !worker.holds_lease() {
        return Ok(None);
    }
    if seen.ticks {
        all_in_time(schedule::fire(worker, connection, &known.names)).await?;
    }
    if seen.overdue {
        all_in_time(deadline::enforce(worker, connection, &known)).await?;
    }
    if seen.awaited {
        all_in_time(ends::tell(worker, connection, &known.names)).await?;
    }
    for name in seen.queues.iter().filter(|name| !worker.is_paused(name)) {
        let after = cursors.entry(name.clone()).or_default();
        if all_in_time(queue::admit(connection, name, after)).await? > 0 {
            worker.hint.notify_one();
        }
    }
    if !seen.bulks {
        worker.bulks_of_newer.end();
        return Ok(None);
    }
    all_in_time(bulk::advance(worker, connection, &known)).await.map(Some)
}
