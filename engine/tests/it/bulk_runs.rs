//! While a bulk runs: once each, at its rate, whoever dies.

use serde_json::json;
use stepwise_engine::{
    Engine,
    bulk::{BulkError, ItemResult, Status, Stored},
    operate::Verb,
};
use uuid::Uuid;

use crate::{
    bulk::{apply, done, find, items, of, operated, plan, stuck_notices, until, waiting_jobs},
    plain::{Five, FiveSteps},
    world::{Mortal, World, engine, quick, work_on},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_in_the_middle_of_a_bulk_leave_it_to_others_and_nothing_is_done_twice() {
    let world = World::new().await;
    waiting_jobs(&world, 400).await;
    let bulk = plan(&world, Verb::Pause, of("job")).await;
    apply(&world, &bulk, 300).await;
    let mut so_far = 0;
    for round in 0..4 {
        let mortal = Mortal::new(&world, &format!("mortal {round}"), usize::MAX);
        let seen = until(&world, bulk.bulk_id, "progress", |bulk| bulk.applied > so_far + 20).await;
        mortal.kill();
        assert_eq!(seen.status, Status::Running, "{seen:?}");
        so_far = seen.applied;
    }
    let worker = world.worker(quick()).await;
    let end = done(&world, bulk.bulk_id).await;
    assert_eq!((end.applied, end.refused, end.moved_on, end.failed), (400, 0, 0, 0));
    assert_eq!(operated(&world).await, [(1, 400)]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_stopped_bulk_touches_nothing_until_it_is_resumed() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    waiting_jobs(&world, 200).await;
    let bulk = plan(&world, Verb::Pause, of("job")).await;
    apply(&world, &bulk, 50).await;
    until(&world, bulk.bulk_id, "some progress", |bulk| bulk.applied > 5).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let stopped = world.engine.stop_bulk(&mut tx, bulk.bulk_id, "cyd").await.expect("it runs");
    tx.commit().await.expect("the database is there");
    assert_eq!((stopped.status, stopped.stopped_by.as_deref()), (Status::Stopped, Some("cyd")));
    // Another bulk shows that rounds went on.
    let ids = stuck_notices(&world, 1).await;
    let other = plan(&world, Verb::Retry, of("order")).await;
    apply(&world, &other, 1_000).await;
    done(&world, other.bulk_id).await;
    assert_eq!(world.ended(ids[0]).await.status, "completed");
    let still = find(&world, bulk.bulk_id).await;
    assert_eq!((still.applied, still.left), (stopped.applied, stopped.left));
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.resume_bulk(&mut tx, bulk.bulk_id, Some(2_000)).await.expect("it is stopped");
    tx.commit().await.expect("the database is there");
    assert_eq!(done(&world, bulk.bulk_id).await.applied, 200);
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_keep_one_rate_and_do_every_item_once() {
    let world = World::new().await;
    let second = engine(world.pool.clone(), &world.provider);
    let (one, two) = (world.worker(quick()).await, work_on(&second, quick()).await);
    waiting_jobs(&world, 240).await;
    let bulk = plan(&world, Verb::Pause, of("job")).await;
    apply(&world, &bulk, 80).await;
    assert_eq!(done(&world, bulk.bulk_id).await.applied, 240);
    assert_eq!(operated(&world).await, [(1, 240)]);
    let (most, seconds): (i64, f64) = sqlx::query_as(
        "-- name: test rate
        select max(n), extract(epoch from max(done_at) - min(done_at))::float8 from (
            select done_at, count(*) over (order by done_at range between current row and interval '1 second' following) as n
            from saga.bulk_item where bulk_id = $1) w",
    )
    .bind(bulk.bulk_id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    println!("at most {most} in a second, {seconds:.2} s in all");
    // A quarter of a second is made up for, and the clock is read before the work.
    assert!(most <= 80 + 20 + 20, "{most} in a second");
    assert!(seconds > 2.4, "{seconds} s for 240 items at 80 per second");
    one.stop().await;
    two.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_item_that_the_database_refuses_fails_and_one_that_is_locked_waits() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    waiting_jobs(&world, 30).await;
    let ids: Vec<Uuid> = sqlx::query_scalar("-- name: test ids\nselect saga_id from saga.instance")
        .fetch_all(&world.pool)
        .await
        .expect("the database is there");
    let poison = format!(
        "-- name: test poison
        create trigger refuse before update on saga.instance for each row
        when (new.saga_id = '{}' and new.status = 'paused') execute function test.refuse();",
        ids[7]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(poison)).execute(&world.pool).await.expect("it is new");
    let mut holder = world.pool.begin().await.expect("the database is there");
    sqlx::query("-- name: test hold\nselect from saga.instance where saga_id = $1 for update")
        .bind(ids[11])
        .execute(&mut *holder)
        .await
        .expect("the database is there");
    let bulk = plan(&world, Verb::Pause, of("job")).await;
    apply(&world, &bulk, 1_000).await;
    let seen = until(&world, bulk.bulk_id, "the others", |bulk| bulk.applied == 28).await;
    assert_eq!((seen.status, seen.left), (Status::Running, 2), "nobody waited for those");
    holder.rollback().await.expect("the database is there");
    let end = done(&world, bulk.bulk_id).await;
    assert_eq!((end.applied, end.failed), (29, 1));
    let items = items(&world, bulk.bulk_id).await;
    let failed = items.iter().find(|item| item.saga_id == ids[7]).expect("it was planned");
    assert_eq!(failed.result, Some(ItemResult::Failed));
    assert!(
        failed.error.as_deref().is_some_and(|why| why.contains("refused by the test")),
        "{failed:?}"
    );
    assert_eq!(world.see(ids[7]).await.status, "running");
    assert_eq!(operated(&world).await, [(1, 29)]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn items_of_a_saga_that_a_worker_does_not_know_are_left_to_one_that_does() {
    let world = World::new().await;
    waiting_jobs(&world, 3).await;
    world.start::<Five>("five", ()).await;
    let [jobs, fives] =
        [plan(&world, Verb::Pause, of("job")).await, plan(&world, Verb::Pause, of("five")).await];
    apply(&world, &jobs, 1_000).await;
    apply(&world, &fives, 1_000).await;
    let due = || async {
        sqlx::query_scalar::<_, chrono::DateTime<chrono::Utc>>(
            "-- name: test when a bulk is due\nselect next_at from saga.bulk where bulk_id = $1",
        )
        .bind(jobs.bulk_id)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    };
    // Its turn comes before that of the other bulk: the stranger meets it first.
    let turn = due().await;
    let steps = FiveSteps(world.provider.clone());
    let stranger = Engine::builder(world.pool.clone()).explored::<Five, _>(steps).build();
    let other = work_on(&stranger, quick()).await;
    done(&world, fives.bulk_id).await;
    let seen = find(&world, jobs.bulk_id).await;
    assert_eq!((seen.status, seen.left), (Status::Running, 3), "and nothing of it was refused");
    assert_eq!(due().await, turn, "nor was its turn put off");
    let worker = world.worker(quick()).await;
    assert_eq!(done(&world, jobs.bulk_id).await.applied, 3);
    other.stop().await;
    worker.stop().await;
    world.close().await;
}

/// Stores the verb of a bulk, and the refusal and the outlook of one item each, as a newer build may.
async fn planned_by_newer(world: &World, id: Uuid, verb: &serde_json::Value) {
    sqlx::query(
        "-- name: test newer bulk
        with item as (select saga_id, row_number() over (order by saga_id) as n from saga.bulk_item where bulk_id = $1),
        refused as (
            update saga.bulk_item m set outlook = null, refusal = '{\"too_cold\": 4}', result = 'refused'
            from item where m.bulk_id = $1 and m.saga_id = item.saga_id and item.n = 1
        ),
        planned as (
            update saga.bulk_item m set outlook = m.outlook || '{\"status\": \"frozen\"}'
            from item where m.bulk_id = $1 and m.saga_id = item.saga_id and item.n = 2
        )
        update saga.bulk set verb = $2, refused = 1 where bulk_id = $1",
    )
    .bind(id)
    .bind(verb)
    .execute(&world.pool)
    .await
    .expect("the database is there");
}

#[tokio::test]
async fn a_bulk_that_a_newer_build_planned_is_listed_and_left_to_that_build() {
    let world = World::new().await;
    waiting_jobs(&world, 3).await;
    world.start::<Five>("five", ()).await;
    // A verb that this build does not know, one with more than it knows of it, and one of which it cannot read an item.
    let verbs = [
        json!({ "freeze": { "degrees": -4 } }),
        json!({ "hand_over": { "to": "finance", "until": "monday" } }),
        json!("pause"),
    ];
    let mut newer = Vec::new();
    for verb in &verbs {
        let bulk = plan(&world, Verb::Pause, of("job")).await;
        apply(&world, &bulk, 1_000).await;
        planned_by_newer(&world, bulk.bulk_id, verb).await;
        newer.push(bulk.bulk_id);
    }
    let ours = plan(&world, Verb::Pause, of("five")).await;
    apply(&world, &ours, 1_000).await;
    let worker = world.worker(quick()).await;
    // Paused, or gone on before its turn came: the bulk comes after all the others either way.
    let end = done(&world, ours.bulk_id).await;
    assert_eq!(end.applied + end.moved_on, 1, "{end:?}");

    let listed = world.engine.bulks(10).await.expect("the list can be read");
    assert_eq!(listed.len(), 4);
    let shown = listed.iter().filter_map(|bulk| match &bulk.verb {
        Stored::Known(_) => None,
        Stored::Unknown(json) => Some(json),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [&verbs[1], &verbs[0]], "as it is stored");
    for id in newer {
        let bulk = find(&world, id).await;
        assert_eq!((bulk.status, bulk.applied, bulk.left), (Status::Running, 0, 2), "{bulk:?}");
        let items = items(&world, id).await;
        let refusals = items.iter().filter_map(|item| item.refusal.clone()).collect::<Vec<_>>();
        assert_eq!(refusals, [Stored::Unknown(json!({ "too_cold": 4 }))]);
        let unread =
            |item: &&stepwise_engine::bulk::Item| matches!(item.outlook, Some(Stored::Unknown(_)));
        assert_eq!(items.iter().filter(unread).count(), 1);
        let summary = world.engine.bulk_summary(id).await.expect("it can be summed up");
        assert_eq!(summary.refusals[0].what, "{\"too_cold\": 4}");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_bulk_with_an_unknown_verb_can_be_stopped_but_not_started_or_resumed() {
    let world = World::new().await;
    waiting_jobs(&world, 3).await;
    let id = plan(&world, Verb::Pause, of("job")).await.bulk_id;
    planned_by_newer(&world, id, &json!("freeze")).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let refused = world.engine.apply_bulk(&mut tx, id, 2, 10, "bob").await;
    assert!(matches!(refused, Err(BulkError::UnknownVerb(_))), "{refused:?}");
    sqlx::query("-- name: test started\nupdate saga.bulk set status = 'running', per_second = 1, next_at = now()")
        .execute(&mut *tx)
        .await
        .expect("the database is there");
    let stopped = world.engine.stop_bulk(&mut tx, id, "bob").await.expect("it can be stopped");
    assert_eq!(stopped.status, Status::Stopped);
    let refused = world.engine.resume_bulk(&mut tx, id, None).await;
    let why = refused.map(|bulk| bulk.status).map_err(|error| error.to_string());
    let says = "this build does not know its verb, \"freeze\": use a newer one";
    assert_eq!(why, Err(says.to_owned()));
    tx.rollback().await.expect("the database is there");
    world.close().await;
}
