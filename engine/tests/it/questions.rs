//! Questions on any connection of a pool: the question itself tests the connection.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use sqlx::PgConnection;
use stepwise_engine::database::{self, Waits};

use crate::world::World;

async fn pid(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("-- name: test pid\nselect pg_backend_pid()").fetch_one(connection).await
}

#[tokio::test]
async fn a_question_is_asked_again_where_its_connection_was_lost_and_not_where_it_was_refused() {
    let world = World::new().await;
    let options = world.pool.connect_options().as_ref().clone();
    let pool = database::pool(options, Waits::USUAL, 1, Duration::from_secs(5));
    let first = database::ask(&pool, |mut db| async move { pid(&mut db).await })
        .await
        .expect("it is there");
    sqlx::query("-- name: test cut\nselect pg_terminate_backend($1, 5000)")
        .bind(first)
        .execute(&world.pool)
        .await
        .expect("a superuser may");
    let next = database::ask(&pool, |mut db| async move { pid(&mut db).await })
        .await
        .expect("another answers");
    assert_ne!(first, next, "the connection that was lost cannot have answered");

    let asked = AtomicUsize::new(0);
    let refused = database::ask(&pool, |mut db| {
        asked.fetch_add(1, Relaxed);
        async move { sqlx::query("-- name: test fail\nselect 1 / 0").execute(&mut *db).await }
    });
    refused.await.expect_err("nobody can divide by zero");
    assert_eq!(asked.into_inner(), 1, "a refusal is an answer");
    pool.close().await;
    world.close().await;
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_given_up_the_second_time() {
    let world = World::new().await;
    let options = world.pool.connect_options().as_ref().clone();
    let pool = database::pool(options, Waits::USUAL, 2, Duration::from_secs(5));
    let asked = AtomicUsize::new(0);
    let silent = database::ask(&pool, |_db| {
        asked.fetch_add(1, Relaxed);
        std::future::pending::<Result<(), sqlx::Error>>()
    });
    let given_up = tokio::time::timeout(Duration::from_secs(20), silent).await;
    given_up.expect("it has a limit of its own").expect_err("nobody has answered");
    assert_eq!(asked.into_inner(), 2);
    pool.close().await;
    world.close().await;
}
