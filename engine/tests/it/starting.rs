//! The transaction that a start is part of: what its end hands over, and what remains of a start that is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use sqlx::PgConnection;
use stepwise_engine::{HandOver, Saga, Start, StartError, Started, Status, Transaction};
use tracing::instrument::WithSubscriber as _;
use uuid::Uuid;

use crate::{
    odd::{self, Odd},
    order::{Input, Order},
    plain::Five,
    provider::Behaviour,
    statements::counting,
    tasks::{Leaf, Root, Todo},
    world::{World, eventually, quick},
};

fn order(subject: &str) -> Start<Input> {
    Start::new(subject, Input { order: subject.to_owned(), notify: false })
}

/// Started in a transaction that its caller ends.
async fn joining<S: Saga>(
    world: &World,
    tx: &mut PgConnection,
    start: Start<S::Input>,
) -> (Uuid, HandOver) {
    let mut joined = Transaction::over(tx);
    let started = world.engine.start::<S>(&mut joined, start).await.expect("it can be started");
    (started.id, joined.hand_over_later())
}

/// Everything that a start may write: instances, journal, effects, orders.
async fn rows(world: &World) -> i64 {
    sqlx::query_scalar(
        "-- name: test rows
        select (select count(*) from saga.instance) + (select count(*) from saga.journal)
            + (select count(*) from saga.effect) + (select count(*) from test.orders)",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

/// Nothing is held for a start any more, and nothing was called.
async fn nothing_was_begun(world: &World) {
    // Not asked of the engine: its claimer holds some permits while it looks for work.
    let room = quick().room;
    eventually("the permit to be free again", async || world.engine.room() == room).await;
    assert!(world.provider.operations().is_empty(), "{:?}", world.provider.operations());
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing_and_calls_nothing() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    world.engine.start::<Order>(&mut tx, order("never")).await.expect("it can be started");
    tx.rollback().await.expect("the database is there");
    nothing_was_begun(&world).await;

    let mut tx = world.pool.begin().await.expect("the database is there");
    let (_, by_hand) = joining::<Order>(&world, &mut tx, order("never")).await;
    tx.rollback().await.expect("the database is there");
    by_hand.after_commit();
    nothing_was_begun(&world).await;
    assert_eq!(rows(&world).await, 0);

    let id = world.start_with::<Order>(order("never")).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_is_handed_over_by_hand_after_the_commit_is_driven_at_once_and_once() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let (id, by_hand) = joining::<Five>(&world, &mut tx, Start::new("by hand", ())).await;
    tx.commit().await.expect("the database is there");
    by_hand.after_commit();
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.epoch), ("completed", 1), "nobody else has claimed it");
    assert_eq!(world.provider.requests("do-1").len(), 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_is_handed_over_before_the_commit_is_left_to_the_sweep() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let (id, by_hand) = joining::<Five>(&world, &mut tx, Start::new("too early", ())).await;
    by_hand.after_commit();
    nothing_was_begun(&world).await;
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

/// Postgres answers such a commit without an error, and rolls back.
#[tokio::test]
async fn a_commit_after_a_failure_that_was_passed_over_is_an_error_and_hands_nothing_over() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    world.engine.start::<Five>(&mut tx, Start::new("passed over", ())).await.expect("started");
    let failed = sqlx::query("-- name: test fail\nselect 1 / 0").execute(&mut *tx).await;
    failed.expect_err("nobody looks at it");
    tx.commit().await.expect_err("nothing can be committed");
    nothing_was_begun(&world).await;
    assert_eq!(rows(&world).await, 0);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_hands_nothing_over() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    world.engine.start::<Five>(&mut tx, Start::new("lost", ())).await.expect("started");
    let pid: i32 = sqlx::query_scalar("-- name: test pid\nselect pg_backend_pid()")
        .fetch_one(&mut *tx)
        .await
        .expect("the database is there");
    sqlx::query("-- name: test cut\nselect pg_terminate_backend($1)")
        .bind(pid)
        .execute(&world.pool)
        .await
        .expect("a superuser may");
    tx.commit().await.expect_err("the connection is gone");
    nothing_was_begun(&world).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn transactions_of_other_pools_hand_over_as_well() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = Transaction::from(world.pool.begin().await.expect("the database is there"));
    let started = world.engine.start::<Five>(&mut tx, Start::new("other pool", ())).await;
    tx.commit().await.expect("the database is there");
    let seen = world.ended(started.expect("it can be started").id).await;
    assert_eq!((seen.status.as_str(), seen.epoch), ("completed", 1));
    worker.stop().await;
    world.close().await;
}

/// Refused starts in a transaction that goes on and commits: whether alone, with a first chain, among many or with children, nothing of them
/// is there.
#[tokio::test]
async fn a_start_that_is_refused_leaves_its_transaction_usable_and_nothing_in_it() {
    let world = World::new().await;
    let engine = &world.engine;
    let mut tx = engine.begin().await.expect("the database is there");
    engine.start::<Five>(&mut tx, Start::new("open", ())).await.expect("the first");
    engine.start::<Order>(&mut tx, order("open")).await.expect("the first");
    engine.start::<Leaf>(&mut tx, Start::new("open", Todo::new("open"))).await.expect("the first");
    tx.commit().await.expect("the database is there");
    let before = rows(&world).await;

    let mut tx = engine.begin().await.expect("the database is there");
    let alone = engine.start::<Five>(&mut tx, Start::new("open", ())).await;
    assert!(
        matches!(&alone, Err(StartError::AlreadyOpen { saga: "five", subject }) if subject == "open"),
        "{alone:?}"
    );
    // Its first chain writes a row before the conflict is found.
    let other_order = Input { order: "another".to_owned(), notify: false };
    let chained = engine.start::<Order>(&mut tx, Start::new("open", other_order)).await;
    assert!(matches!(chained, Err(StartError::AlreadyOpen { .. })), "{chained:?}");
    let many = ["new", "open"].map(|subject| Start::new(subject, ())).into();
    let many = engine.start_many::<Five>(&mut tx, many).await;
    assert!(matches!(many, Err(StartError::AlreadyOpen { .. })), "{many:?}");
    let twins = ["twin", "twin"].map(|subject| Start::new(subject, ())).into();
    let twins = engine.start_many::<Five>(&mut tx, twins).await;
    assert!(matches!(twins, Err(StartError::AlreadyOpen { .. })), "{twins:?}");
    let parts = [Todo::new("part"), Todo::new("part")];
    let family = Todo { acts: false, ..Todo::new("family").with(parts) };
    let family = engine.start::<Root>(&mut tx, Start::new("family", family)).await;
    assert!(matches!(family, Err(StartError::AlreadyOpen { .. })), "{family:?}");
    let too_long = engine.start::<Odd>(&mut tx, Start::new("17", odd::Input::Chain(17))).await;
    assert!(matches!(too_long, Err(StartError::Step(_))), "{too_long:?}");
    let nul = engine.start::<Five>(&mut tx, Start::new("a\0b", ())).await;
    assert!(matches!(nul, Err(StartError::Unstorable(_))), "{nul:?}");
    // A statement of its chain fails.
    world.provider.script("link", [Behaviour::Raises("22012")]);
    let raised = engine.start::<Odd>(&mut tx, Start::new("raised", odd::Input::Chain(2))).await;
    assert!(matches!(raised, Err(StartError::Step(_))), "{raised:?}");

    let Started { id, .. } = engine
        .start::<Five>(&mut tx, Start::new("after", ()))
        .await
        .expect("the transaction goes on");
    tx.commit().await.expect("and commits");
    // An instance, its journal row and its effect.
    assert_eq!(rows(&world).await, before + 3);
    assert_eq!(world.see(id).await.status, "running");
    world.close().await;
}

#[tokio::test]
async fn a_start_that_is_refused_visits_no_journal_of_the_days_before() {
    let world = World::new().await;
    sqlx::raw_sql(
        "-- name: test old journal
        create table saga.journal_old partition of saga.journal for values from ('2000-01-01') to ('2000-01-02')",
    )
    .execute(&world.pool)
    .await
    .expect("there is none of that day");
    world.start::<Five>("open", ()).await;
    let visits = async |tx: &mut PgConnection| -> i64 {
        sqlx::query_scalar(
            "-- name: test visits
            select seq_scan + idx_scan from pg_stat_xact_user_tables where relname = 'journal_old'",
        )
        .fetch_one(tx)
        .await
        .expect("the transaction goes on")
    };
    let mut tx = world.engine.begin().await.expect("the database is there");
    // The session may have made the table.
    let before = visits(&mut tx).await;
    let many = ["new", "open"].map(|subject| Start::new(subject, ())).into();
    world.engine.start_many::<Five>(&mut tx, many).await.expect_err("one is open");
    assert_eq!(visits(&mut tx).await, before);
    tx.commit().await.expect("and commits");
    world.close().await;
}

#[tokio::test]
async fn of_two_who_start_the_same_at_the_same_time_the_second_waits_and_may_go_on() {
    let world = World::new().await;
    let engine = &world.engine;
    for commits in [true, false] {
        let subject = format!("raced, {commits}");
        let mut first = engine.begin().await.expect("the database is there");
        engine.start::<Five>(&mut first, Start::new(&subject, ())).await.expect("the first");
        let second = async {
            let mut tx = engine.begin().await.expect("the database is there");
            let started = engine.start::<Five>(&mut tx, Start::new(&subject, ())).await;
            let other = Start::new(format!("beside {subject}"), ());
            engine.start::<Five>(&mut tx, other).await.expect("the transaction goes on");
            tx.commit().await.expect("and commits");
            started
        };
        let ending = async {
            eventually("the second to wait", async || {
                sqlx::query_scalar(
                    "-- name: test waits
                    select exists (select from pg_stat_activity where datname = current_database()
                        and wait_event_type = 'Lock' and query like '-- name: start instances%')",
                )
                .fetch_one(&world.pool)
                .await
                .expect("the database is there")
            })
            .await;
            match commits {
                true => first.commit().await,
                false => first.rollback().await,
            }
            .expect("the database is there");
        };
        let (second, ()) = tokio::join!(second, ending);
        assert_eq!(matches!(second, Err(StartError::AlreadyOpen { .. })), commits, "{second:?}");
        assert_eq!(second.is_ok(), !commits, "{second:?}");
    }
    world.close().await;
}

#[tokio::test]
async fn a_start_costs_the_round_trips_that_it_promises() {
    let world = World::new().await;
    let engine = &world.engine;
    let taken = Arc::new(AtomicUsize::new(0));
    let mut tx = engine.begin().await.expect("the database is there");
    // A connection asks once for the row types.
    engine.start::<Five>(&mut tx, Start::new("first", ())).await.expect("started");
    let counted = async {
        let taken = || taken.swap(0, Relaxed);
        engine.start::<Five>(&mut tx, Start::new("one", ())).await.expect("started");
        assert_eq!(taken(), 1, "one instance");
        let refused = engine.start::<Five>(&mut tx, Start::new("one", ())).await;
        refused.expect_err("it is open");
        assert_eq!(taken(), 1, "one that is refused");
        let two = ["two", "three"].map(|subject| Start::new(subject, ())).into();
        engine.start_many::<Five>(&mut tx, two).await.expect("started");
        assert_eq!(taken(), 1, "two instances");
        let again = ["four", "two"].map(|subject| Start::new(subject, ())).into();
        engine.start_many::<Five>(&mut tx, again).await.expect_err("one is open");
        assert_eq!(taken(), 2, "two of which one is refused");
        let chain = engine.start::<Order>(&mut tx, order("chain")).await.expect("started");
        assert_eq!((chain.status, taken()), (Status::Running, 5), "a chain of a lock and a step");
        tx.commit().await.expect("the database is there");
        assert_eq!(taken(), 1, "the commit");
    };
    counted.with_subscriber(counting("", &taken)).await;
    world.close().await;
}
