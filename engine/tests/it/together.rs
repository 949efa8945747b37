//! A tx step that is done together: the instances that reach it at once share one transaction, and none of them harms another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::PgPool;
use stepwise_engine::{
    Answer, Engine, Start, Status, WorkerConfig,
    hooks::Hooks,
    inspect, migrations,
    testing::{
        Clock, Database, Survived, Unwound, signal, start, survives_every_crash,
        unwinds_from_every_step,
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    badge::{Badge, Desk, Signal, TABLES, guest, written},
    world::{Seen, Worker, eventually, quick, see, work_on},
};

/// A worker, one thread, and guests who wait at the door.
struct Hall {
    db: Database,
    pool: PgPool,
    engine: Engine,
    desk: Desk,
    worker: Option<Worker>,
    /// The first one, who is being printed while the others gather.
    plug: Uuid,
}

impl Hall {
    async fn new(hooks: Hooks) -> Self {
        let db = Database::fresh(&[migrations::migrations()]).await;
        let pool = db.pool().clone();
        sqlx::raw_sql(TABLES).execute(&pool).await.expect("the tables are new");
        let desk = Desk::new(0);
        let engine = Engine::builder(pool.clone()).explored::<Badge, _>(desk.clone()).build();
        let worker = work_on(&engine, WorkerConfig { hooks, ..quick() }).await;
        let mut hall = Self { db, pool, engine, desk, worker: Some(worker), plug: Uuid::nil() };
        hall.desk.book.held.store(1, SeqCst);
        hall.plug = hall.come(&[1]).await[0];
        eventually("the plug at the press", async || hall.prints() == [[1]]).await;
        hall
    }

    /// The guests come and are checked. On this one thread a guest who is checked has reached the next step, too.
    async fn come(&self, guests: &[u32]) -> Vec<Uuid> {
        let mut ids = Vec::new();
        for guest in guests {
            let from = Start::new(format!("guest {guest}"), *guest);
            ids.push(start::<Badge>(&self.engine, from).await);
        }
        let before = self.desk.book.checked.load(SeqCst);
        self.desk.door.add_permits(guests.len());
        let all = before + guests.len();
        eventually("the checks", async || self.desk.book.checked.load(SeqCst) == all).await;
        ids
    }

    fn prints(&self) -> Vec<Vec<u32>> {
        self.desk.book.prints.lock().expect("nobody panics").clone()
    }

    /// All these guests had one call of `print`. Calls with one each may follow.
    fn shared(&self, guests: &[u32]) {
        let sorted = |guests: &[u32]| {
            let mut guests = guests.to_vec();
            guests.sort_unstable();
            guests
        };
        let prints = self.prints();
        assert!(prints.iter().any(|call| sorted(call) == sorted(guests)), "{prints:?}");
    }

    async fn ended(&self, id: Uuid) -> Seen {
        let mut seen = see(&self.pool, id).await;
        eventually("an end", async || {
            seen = see(&self.pool, id).await;
            ["completed", "unwound", "stuck"].contains(&seen.status.as_str())
        })
        .await;
        seen
    }

    /// The instance has ended with one badge that was handed over.
    async fn completes(&self, id: Uuid) {
        let seen = self.ended(id).await;
        assert_eq!(seen.status, "completed", "{seen:?}");
        assert_eq!(written(&self.pool, id).await, (1, 1));
    }

    /// The transaction that wrote what the instance's step did.
    async fn written_by(&self, id: Uuid) -> String {
        sqlx::query_scalar(
            "-- name: test xmin
            select distinct xmin::text from saga.journal where saga_id = $1 and kind in ('tx', 'undo')",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await
        .expect("one transaction has written the chain")
    }

    async fn close(self) {
        self.completes(self.plug).await;
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        let forgotten = inspect::forgotten(&self.pool).await.expect("the database is there");
        assert!(forgotten.is_empty(), "nobody will ever look at {forgotten:?} again");
        drop(self.engine);
        self.db.close().await;
    }
}

fn guests(range: std::ops::Range<u32>, odd: &[u32]) -> Vec<u32> {
    range.chain(odd.iter().copied()).collect()
}

#[tokio::test]
async fn forty_instances_that_reach_a_step_at_once_share_one_call_and_one_transaction() {
    let hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..140, &[guest::FULL, guest::FULL + 1]);
    let ids = hall.come(&guests).await;
    hall.desk.book.press.add_permits(1);
    let (full, fit) = (&ids[40..], &ids[..40]);
    for id in fit {
        hall.completes(*id).await;
    }
    for id in full {
        let seen = hall.ended(*id).await;
        assert_eq!(seen.status, "unwound", "{seen:?}");
        assert_eq!(written(&hall.pool, *id).await, (0, 0), "the same transaction took it back");
    }
    hall.shared(&guests);
    let hands = hall.desk.book.hands.lock().expect("nobody panics").clone();
    assert!(hands.iter().all(|size| *size == 1), "in the rest of a chain each is alone: {hands:?}");
    let shared = hall.written_by(ids[0]).await;
    for id in &ids {
        assert_eq!(hall.written_by(*id).await, shared);
    }
    assert_ne!(hall.written_by(hall.plug).await, shared);
    hall.close().await;
}

#[tokio::test]
async fn more_than_64_instances_take_more_than_one_transaction() {
    let hall = Hall::new(Hooks::default()).await;
    let ids = hall.come(&guests(100..170, &[])).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
    }
    let sizes: Vec<_> = hall.prints().iter().map(Vec::len).collect();
    assert!(sizes.contains(&64) && sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    hall.close().await;
}

#[tokio::test]
async fn a_member_whose_data_the_database_refuses_is_tried_again_and_harms_no_other() {
    let hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..105, &[guest::REFUSED]);
    let ids = hall.come(&guests).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids[..5] {
        hall.completes(*id).await;
    }
    hall.shared(&guests);
    eventually("the failed try", async || see(&hall.pool, ids[5]).await.attempt > 0).await;
    let seen = see(&hall.pool, ids[5]).await;
    assert_eq!(seen.status, "running", "a deploy may mend it");
    assert!(seen.last_error.is_some_and(|why| why.contains("not_13")));
    assert_eq!(written(&hall.pool, ids[5]).await, (0, 0));

    sqlx::query("-- name: test mend\nalter table test.badge drop constraint not_13")
        .execute(&hall.pool)
        .await
        .expect("the database is there");
    Clock::of(&hall.pool).advance(Duration::from_secs(60)).await;
    hall.completes(ids[5]).await;
    hall.close().await;
}

#[tokio::test]
async fn a_member_whose_method_panics_or_forgets_it_is_the_only_one_that_gets_stuck() {
    for (odd, why) in [
        (guest::PANICS, "a tx step panicked"),
        (guest::FORGOTTEN, "a step that is done together answered 0 events for 1 instances"),
    ] {
        let hall = Hall::new(Hooks::default()).await;
        let guests = guests(100..105, &[odd]);
        let ids = hall.come(&guests).await;
        hall.desk.book.press.add_permits(1);
        for id in &ids[..5] {
            hall.completes(*id).await;
        }
        hall.shared(&guests);
        let seen = hall.ended(ids[5]).await;
        assert_eq!((seen.status.as_str(), seen.last_error.as_deref()), ("stuck", Some(why)));
        assert_eq!(written(&hall.pool, ids[5]).await, (0, 0));
        hall.close().await;
    }
}

/// Lets the call at the press go on, and waits for the next one with these guests.
async fn next_at_the_press(hall: &Hall, size: usize) {
    hall.desk.book.held.store(size, SeqCst);
    hall.desk.book.press.add_permits(1);
    eventually("the others at the press", async || {
        hall.prints().iter().any(|call| call.len() == size)
    })
    .await;
}

/// Changes the row of a guest.
async fn note(hall: &Hall, id: Uuid) {
    let noted = signal::<Badge>(&hall.engine, id, "note", Signal::Noted).await;
    assert_eq!(noted, Answer::Applied);
}

#[tokio::test]
async fn members_that_a_signal_changes_meanwhile_go_alone_and_the_others_share_once_more() {
    let hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..105, &[]);
    let ids = hall.come(&guests).await;
    next_at_the_press(&hall, 5).await;
    note(&hall, ids[2]).await;
    note(&hall, ids[4]).await;
    next_at_the_press(&hall, 3).await;
    // They do not wait for the batch of the others.
    hall.completes(ids[2]).await;
    hall.completes(ids[4]).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
    }
    for call in [&guests[..], &[100, 101, 103], &[102], &[104]] {
        hall.shared(call);
    }
    let prints = hall.prints();
    assert_eq!(prints.len(), 5, "and the plug: {prints:?}");
    hall.close().await;
}

#[tokio::test]
async fn members_whose_transaction_is_rolled_back_twice_because_of_others_go_alone() {
    let hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..105, &[]);
    let ids = hall.come(&guests).await;
    next_at_the_press(&hall, 5).await;
    note(&hall, ids[2]).await;
    next_at_the_press(&hall, 4).await;
    note(&hall, ids[3]).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
    }
    hall.shared(&guests);
    hall.shared(&[100, 101, 103, 104]);
    for guest in &guests {
        hall.shared(&[*guest]);
    }
    let prints = hall.prints();
    assert_eq!(prints.len(), 8, "each but the plug is alone once: {prints:?}");
    hall.close().await;
}

#[tokio::test]
async fn a_row_of_the_table_that_is_slow_holds_up_no_other() {
    let hall = Hall::new(Hooks::default()).await;
    let ids = hall.come(&[guest::KNOWN]).await;
    let seen = hall.ended(ids[0]).await;
    assert_eq!(seen.status, "completed", "{seen:?}");
    assert_eq!(written(&hall.pool, ids[0]).await, (0, 1));
    assert_eq!(hall.prints(), [[1]], "the plug is still at the press");
    hall.desk.book.press.add_permits(1);
    hall.close().await;
}

#[tokio::test]
async fn who_waits_for_a_batch_is_answered_at_once_when_the_worker_stops() {
    let mut hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..105, &[]);
    let ids = hall.come(&guests).await;
    let worker = hall.worker.take().expect("it has not stopped");
    let meanwhile = async {
        for id in &ids {
            hall.completes(*id).await;
        }
        assert_eq!(see(&hall.pool, hall.plug).await.status, "running", "still at the press");
        hall.desk.book.press.add_permits(1);
    };
    tokio::join!(worker.stop(), meanwhile);
    for guest in &guests {
        hall.shared(&[*guest]);
    }
    hall.close().await;
}

#[tokio::test]
async fn a_batch_after_one_that_failed_is_smaller_until_one_is_committed() {
    let commits = AtomicUsize::new(0);
    // The plug's is the first.
    let refuses = move || commits.fetch_add(1, SeqCst) == 1;
    let hooks = Hooks { refuses_commit: Some(Arc::new(refuses)), ..Hooks::default() };
    let hall = Hall::new(hooks).await;
    let ids = hall.come(&guests(100..240, &[])).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
    }
    let sizes = hall.prints().iter().map(Vec::len).filter(|size| *size > 1).collect::<Vec<_>>();
    assert_eq!(sizes, [64, 32, 44]);
    hall.close().await;
}

#[tokio::test]
async fn members_of_a_transaction_that_the_database_refuses_go_alone() {
    let commits = AtomicUsize::new(0);
    // The plug's is the first.
    let refuses = move || commits.fetch_add(1, SeqCst) == 1;
    let hooks = Hooks { refuses_commit: Some(Arc::new(refuses)), ..Hooks::default() };
    let hall = Hall::new(hooks).await;
    let guests = guests(100..105, &[]);
    let ids = hall.come(&guests).await;
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
        assert_eq!(see(&hall.pool, *id).await.last_error, None, "no try of its own has failed");
    }
    hall.shared(&guests);
    assert!(hall.prints().len() > guests.len(), "{:?}", hall.prints());
    hall.close().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_commit_leaves_nothing_undone_and_nothing_done_twice() {
    let hall = Hall::new(Hooks::default()).await;
    let guests = guests(100..105, &[]);
    let ids = hall.come(&guests).await;
    // The first commit of a guest behind the plug ends its own session.
    sqlx::raw_sql(
        "-- name: test lose a commit
        create sequence test.commits;
        create function test.lose() returns trigger language plpgsql as $$ begin
            if new.guest > 1 and nextval('test.commits') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if;
            return null;
        end $$;
        create constraint trigger lose after insert on test.badge deferrable initially deferred
            for each row execute function test.lose();",
    )
    .execute(&hall.pool)
    .await
    .expect("the plug has not written yet");
    hall.desk.book.press.add_permits(1);
    for id in &ids {
        hall.completes(*id).await;
    }
    hall.shared(&guests);
    hall.close().await;
}

#[test]
fn a_step_that_is_done_together_survives_every_crash() {
    let Survived { refused, ends, .. } = survives_every_crash(&Desk::new(Semaphore::MAX_PERMITS));
    assert!(refused > 0, "its transaction was refused once");
    assert_eq!(ends, [Status::Completed]);
}

#[test]
fn a_step_that_is_done_together_is_taken_back_like_any_other() {
    let Unwound { points, .. } = unwinds_from_every_step(&Desk::new(Semaphore::MAX_PERMITS));
    assert!(points.iter().any(|point| point.contains("Print")), "{points:?}");
}
