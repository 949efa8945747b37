//! The round: what a worker looks after beside driving instances. Every worker goes it, none leads.
//!
//! One statement per [`crate::WorkerConfig::poll`] tells whether anything is to be done at all: a tick of a schedule, a deadline, an
//! awaited end, a queue, a pause, a bulk. What is done is done under row locks or a try-lock in a short transaction, so that it is done once however many go
//! the round at the same time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{Executor as _, FromRow, PgConnection};

use crate::{
    bulk,
    database::{all_in_time, in_time, trouble::Trouble},
    upkeep::{deadline, ends, queue, schedule},
    worker::{lane, shift::Shift},
};

/// Rounds that hints ask for are so far apart at least: a burst of ends is one round.
const REST: Duration = Duration::from_millis(5);

/// By saga, the queue key after which its next admission goes on ([`queue::admit`]).
type Cursors = HashMap<String, Option<String>>;

/// What there is to do.
#[derive(Debug, FromRow)]
struct Seen {
    ticks: bool,
    overdue: bool,
    /// Somebody waits for the end of an instance that has ended.
    awaited: bool,
    /// Sagas that have queued instances.
    queues: Vec<String>,
    paused: Vec<String>,
    bulks: bool,
}

/// A worker that stands still in the middle of a round holds up the others for so long at most.
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

/// Goes round until the shift stops.
pub(crate) async fn run(shift: Arc<Shift>, poll: Duration) {
    let mut connection: Option<PgConnection> = None;
    let mut cursors = Cursors::new();
    let trouble =
        Trouble::new("rounds fail: schedules, deadlines, queues and bulks wait; trying again");
    while !shift.is_stopping() {
        let round = async {
            let fresh = connection.is_none();
            let open = lane::connect(&shift.pool, &mut connection).await?;
            if fresh {
                in_time(open.execute(LET_GO)).await?;
            }
            go(&shift, open, &mut cursors).await
        };
        let rest = match round.await {
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
            () = async { shift.round.notified().await; tokio::time::sleep(REST).await } => {}
            () = tokio::time::sleep(rest) => {}
            () = shift.stop.cancelled() => return,
        }
    }
}

/// Answers how long to rest if there is more to do. Round trips: 1 when there is nothing to do.
async fn go(
    shift: &Shift,
    connection: &mut PgConnection,
    cursors: &mut Cursors,
) -> Result<Option<Duration>, sqlx::Error> {
    let known = shift.engine.known();
    let looking = sqlx::query_as(LOOK).bind(&known.names).fetch_one(&mut *connection);
    let seen: Seen = in_time(looking).await?;
    shift.pause(seen.paused);
    if !shift.holds_lease() {
        return Ok(None);
    }
    if seen.ticks {
        all_in_time(schedule::fire(shift, connection, &known.names)).await?;
    }
    if seen.overdue {
        all_in_time(deadline::enforce(shift, connection, &known)).await?;
    }
    if seen.awaited {
        all_in_time(ends::tell(shift, connection, &known.names)).await?;
    }
    for name in seen.queues.iter().filter(|name| !shift.is_paused(name)) {
        let after = cursors.entry(name.clone()).or_default();
        if all_in_time(queue::admit(connection, name, after)).await? > 0 {
            shift.hint.notify_one();
        }
    }
    if !seen.bulks {
        return Ok(None);
    }
    all_in_time(bulk::advance(shift, connection, &known)).await.map(Some)
}
