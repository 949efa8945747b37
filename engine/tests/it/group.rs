//! Group commit: one fenced, one row-locked and one poisonous member beside healthy ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use stepwise_engine::{
    WorkerConfig,
    hooks::{Hooks, Site},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    plain::Five,
    provider::Behaviour,
    world::{World, eventually, quick},
};

/// Starts one instance that is held in its first call.
async fn held(world: &World, subject: &str, poison: bool) -> (Uuid, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let then = if poison { Behaviour::Poisons } else { Behaviour::Acts };
    world.provider.script("do-1", [Behaviour::Held(gate.clone(), Box::new(then))]);
    let before = world.provider.requests("do-1").len();
    let id = world.start::<Five>(subject, ()).await;
    world.asked("do-1", before + 1).await;
    (id, gate)
}

/// The transaction that wrote the outcome of an instance's first step.
async fn written_by(world: &World, id: Uuid) -> Option<String> {
    sqlx::query_scalar(
        "-- name: test xmin
        select xmin::text from saga.journal where saga_id = $1 and kind = 'outcome' and step_no = 1",
    )
    .bind(id)
    .fetch_optional(&world.pool)
    .await
    .expect("the database is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_a_fenced_a_locked_and_a_poisonous_member_writes_the_others_at_once() {
    let world = World::new().await;
    let arrived = Arc::new(AtomicUsize::new(0));
    let counter = arrived.clone();
    let hooks = Hooks {
        stops_at: Some(Arc::new(move |site| {
            if site == Site::BeforeCommit {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            false
        })),
        ..Hooks::default()
    };
    let worker = world.worker(WorkerConfig { batchers: 1, hooks, ..quick() }).await;

    let mut members = Vec::new();
    for (subject, poison) in [
        ("plug", false),
        ("one", false),
        ("two", false),
        ("fenced", false),
        ("locked", false),
        ("poison", true),
    ] {
        members.push(held(&world, subject, poison).await);
    }
    let [plug, one, two, fenced, locked, poison] = [0, 1, 2, 3, 4, 5].map(|n| members[n].0);

    // The batcher is busy with the plug while the others gather.
    let mut busy = world.pool.begin().await.expect("the database is there");
    sqlx::query(
        "-- name: test hold the batcher\nlock table saga.journal in share row exclusive mode",
    )
    .execute(&mut *busy)
    .await
    .expect("nobody else locks it");
    for (n, (_, gate)) in members.iter().enumerate() {
        gate.add_permits(1);
        eventually("the member's commit", async || arrived.load(Ordering::SeqCst) == n + 1).await;
        if n == 0 {
            eventually("the batcher to be held up", async || waiting_commits(&world).await == 1)
                .await;
        }
    }
    sqlx::query("-- name: test take over\nupdate saga.instance set epoch = epoch + 1, owner = $2 where saga_id = $1")
        .bind(fenced)
        .bind(Uuid::now_v7())
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let mut caller = world.pool.begin().await.expect("the database is there");
    sqlx::query(
        "-- name: test hold a row\nselect from saga.instance where saga_id = $1 for update",
    )
    .bind(locked)
    .execute(&mut *caller)
    .await
    .expect("nobody else locks it");
    busy.commit().await.expect("the database is there");

    // Not held up by the lock, which is still there.
    for id in [plug, one, two] {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    let (first, second) = (written_by(&world, one).await, written_by(&world, two).await);
    assert!(first.is_some() && first == second, "one commit for both: {first:?}, {second:?}");
    assert_ne!(first, written_by(&world, plug).await, "the plug went before them");
    let stuck = world.ended(poison).await;
    assert_eq!(stuck.status, "stuck");
    let why = stuck.last_error.unwrap_or_default();
    assert!(
        why.contains("cannot be stored") && why.contains("refused by the test"),
        "a reason: {why}"
    );
    assert_eq!(written_by(&world, locked).await, None);

    caller.commit().await.expect("the database is there");
    assert_eq!(world.ended(locked).await.status, "completed");
    assert_ne!(written_by(&world, locked).await, first, "a later batch");
    assert_eq!(written_by(&world, fenced).await, None, "the fenced one was dropped");
    assert_eq!(world.see(fenced).await.seq, 1);
    worker.stop().await;
    // Whoever took the fenced one over is made up.
    sqlx::query("-- name: test tidy\ndelete from saga.instance where saga_id = $1")
        .bind(fenced)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    world.close().await;
}

async fn waiting_commits(world: &World) -> i64 {
    sqlx::query_scalar(
        "-- name: test waiting commits
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%commit transitions%'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

#[tokio::test]
async fn a_foreign_nul_in_an_outcome_is_stored_as_a_replacement_character() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::Refers("a\0b".into())]);
    let id = world.start::<Five>("nul", ()).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "completed", "{seen:?}");
    assert_eq!(world.effects(id).await[0].2.as_deref(), Some("a\u{fffd}b"));
    worker.stop().await;
    world.close().await;
}
