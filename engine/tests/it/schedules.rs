//! Schedules: each tick starts one instance, whoever looks and whoever dies.

use std::time::Duration;

use chrono::{DateTime, Utc};
use stepwise_engine::{
    CatchUp, Gate, Overlap, Schedule, ScheduleError, Start, schedule, testing::Clock,
};

use crate::{
    job::{Input, Job, Signal},
    world::{World, engine, eventually, quick, work_on},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn hourly(input: Input) -> Schedule {
    Schedule::of::<Job>("hourly", "0 * * * *", "Europe/Berlin", Start::new("shop", input))
        .expect("an input is JSON")
}

async fn put(world: &World, schedule: &Schedule) -> Result<(), ScheduleError> {
    let mut tx = world.pool.begin().await.expect("the database is there");
    let put = world.engine.put_schedule(&mut tx, schedule).await;
    tx.commit().await.expect("the database is there");
    put
}

/// Moves business time to so many seconds after the next full hour.
async fn past_the_hour(world: &World, seconds: u64) {
    let now: DateTime<Utc> = sqlx::query_scalar("-- name: test now\nselect saga.now()")
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
    let left = 3_600 - now.timestamp().rem_euclid(3_600).unsigned_abs();
    Clock::of(&world.pool).advance(Duration::from_secs(left + seconds)).await;
}

/// The start keys of all instances, oldest tick first.
async fn keys(world: &World) -> Vec<String> {
    sqlx::query_scalar("-- name: test keys\nselect start_key from saga.instance order by start_key")
        .fetch_all(&world.pool)
        .await
        .expect("the database is there")
}

async fn list(world: &World) -> Vec<schedule::Listed> {
    world.engine.schedules().await.expect("the database is there")
}

async fn next_at(world: &World) -> Option<DateTime<Utc>> {
    world.engine.schedules().await.expect("the database is there")[0].next_at
}

/// Waits until every tick so far is decided.
async fn decided(world: &World) {
    eventually("all ticks to be decided", async || {
        let now: DateTime<Utc> = sqlx::query_scalar("-- name: test now\nselect saga.now()")
            .fetch_one(&world.pool)
            .await
            .expect("the database is there");
        next_at(world).await.is_none_or(|next| next > now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_starts_one_instance_under_three_workers_and_names_its_time() {
    let world = World::new().await;
    let others = [0, 1].map(|_| engine(world.pool.clone(), &world.provider));
    let workers = [
        world.worker(quick()).await,
        work_on(&others[0], quick()).await,
        work_on(&others[1], quick()).await,
    ];
    put(&world, &hourly(Input::Nothing)).await.expect("it is a schedule");
    for hours in 1..=12 {
        past_the_hour(&world, 1).await;
        eventually("the tick", async || keys(&world).await.len() >= hours).await;
    }
    let first: DateTime<Utc> = keys(&world).await[0]
        .strip_prefix("hourly@")
        .and_then(|tick| tick.parse().ok())
        .expect("the key names the tick");
    let expected = (0..12).map(|hour| {
        let tick = first + chrono::Duration::hours(hour);
        format!("hourly@{}", tick.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    });
    assert_eq!(keys(&world).await, expected.collect::<Vec<_>>());
    for worker in workers {
        worker.stop().await;
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firing_that_is_broken_off_in_the_middle_leaves_nothing_and_is_done_again() {
    let world = World::new().await;
    put(&world, &hourly(Input::Nothing)).await.expect("it is a schedule");
    // The firing stands in the middle: its instance is inserted, its next tick is not.
    let mut locker = world.pool.begin().await.expect("the database is there");
    sqlx::raw_sql(
        "-- name: test hold the firing
        create function test.hold() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(42); return new; end $$;
        create trigger hold before update on saga.schedule for each row execute function test.hold();",
    )
    .execute(&world.pool)
    .await
    .expect("the trigger is new");
    sqlx::query("-- name: test take 42\nselect pg_advisory_xact_lock(42)")
        .execute(&mut *locker)
        .await
        .expect("it is free");
    let worker = world.worker(quick()).await;
    past_the_hour(&world, 1).await;
    let mut ended = 0;
    eventually("three firings to be broken off", async || {
        let done: i64 = sqlx::query_scalar(
            "-- name: test break off
            select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and wait_event = 'advisory' and query like '-- name: decide ticks%'",
        )
        .fetch_one(&world.pool)
        .await
        .expect("this session is spared");
        ended += done;
        ended >= 3
    })
    .await;
    assert_eq!(keys(&world).await, Vec::<String>::new(), "nothing of them is left");
    locker.rollback().await.expect("the database is there");
    eventually("the tick", async || !keys(&world).await.is_empty()).await;
    decided(&world).await;
    assert_eq!(keys(&world).await.len(), 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn after_an_outage_missed_ticks_are_made_up_for_by_policy() {
    for (catch_up, expected) in [(CatchUp::Skip, 1), (CatchUp::One, 2), (CatchUp::All(3), 4)] {
        let world = World::new().await;
        put(&world, &Schedule { catch_up, ..hourly(Input::Nothing) }).await.expect("it is one");
        Clock::of(&world.pool).advance(10 * HOUR).await;
        past_the_hour(&world, 5).await;
        let worker = world.worker(quick()).await;
        decided(&world).await;
        assert_eq!(keys(&world).await.len(), expected, "{catch_up:?}, and the one that is on time");
        worker.stop().await;
        world.close().await;
    }
}

#[tokio::test]
async fn a_tick_is_left_out_while_an_earlier_instance_is_open_if_so_declared() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let schedule = Schedule { overlap: Overlap::Skip, ..hourly(Input::Wait) };
    put(&world, &schedule).await.expect("it is one");
    past_the_hour(&world, 1).await;
    eventually("the first", async || keys(&world).await.len() == 1).await;
    past_the_hour(&world, 1).await;
    decided(&world).await;
    assert_eq!(keys(&world).await.len(), 1, "the first is open");
    let listed = list(&world).await;
    let why = listed[0].left_out_why.as_deref();
    assert_eq!(why, Some("an earlier instance of this schedule is open"));
    assert!(listed[0].left_out_at > listed[0].last_at, "{listed:?}");
    put(&world, &hourly(Input::Wait)).await.expect("it is one");
    past_the_hour(&world, 1).await;
    eventually("another beside it", async || keys(&world).await.len() == 2).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_schedule_never_takes_the_instances_of_another_for_its_own() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    for name in ["hourly", "hourly@eu", "hourly@"] {
        let schedule =
            Schedule { name: name.into(), overlap: Overlap::Skip, ..hourly(Input::Wait) };
        put(&world, &schedule).await.expect("it is one");
    }
    past_the_hour(&world, 1).await;
    eventually("one tick each", async || keys(&world).await.len() == 3).await;
    // Only the instance of the first one ends.
    let id = sqlx::query_scalar(
        "-- name: test first
        select saga_id from saga.instance where start_key like 'hourly@20%'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it has ticked");
    world.signal::<Job>(id, "go", Signal::Go).await;
    assert_eq!(world.ended(id).await.status, "completed");
    past_the_hour(&world, 1).await;
    eventually("its next tick", async || keys(&world).await.len() == 4).await;
    eventually("the others to be left out", async || {
        list(&world).await.iter().filter(|one| one.left_out_at.is_some()).count() == 2
    })
    .await;
    let listed = list(&world).await;
    assert_eq!(
        listed.iter().find(|one| one.name == "hourly").map(|one| one.left_out_at),
        Some(None)
    );
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn ticks_that_were_missed_are_shown_with_the_reason() {
    let world = World::new().await;
    put(&world, &hourly(Input::Nothing)).await.expect("it is one");
    past_the_hour(&world, 600).await;
    let worker = world.worker(quick()).await;
    decided(&world).await;
    let listed = list(&world).await;
    assert_eq!((listed[0].last_at, keys(&world).await.len()), (None, 0));
    let why = listed[0].left_out_why.as_deref();
    assert_eq!(why, Some("it was missed: no worker was there to start it"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_deploy_gate_reads_schedules_and_watched_effects() {
    let world = World::new().await;
    put(&world, &hourly(Input::Wait)).await.expect("it is one");
    let known = || Gate::new().knows::<Job>();
    let check = async |gate: Gate| {
        let found = gate.check(&world.pool).await.expect("the database is there");
        found.into_iter().map(|one| (one.why, one.count)).collect::<Vec<_>>()
    };
    assert_eq!(check(known()).await, []);
    let unknown = "schedule hourly: this binary does not know the saga".to_owned();
    assert_eq!(check(Gate::new()).await, [(unknown, 1)]);
    let id = world.start::<Job>("watched", Input::Nothing).await;
    sqlx::query(
        "-- name: test plant
        with watched as (
            insert into saga.watch (shard, saga_id, step_no, version, activity, undo, until, next_at)
            select shard, saga_id, n, n, '\"Work\"', case n when 1 then '{\"activity\":\"Nothing\"}' else '{}' end::jsonb,
                'infinity', 'infinity'
            from saga.instance, generate_series(1, 2) n where saga_id = $1
        )
        update saga.schedule set start = jsonb_set(start, '{input}', '\"Dance\"')",
    )
    .bind(id)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let found = check(known()).await;
    for expected in [
        "schedule hourly: its input does not fit: unknown variant `Dance`",
        "a watched effect: the stored undo does not fit: unknown variant `Nothing`",
        "a watched effect: this binary knows versions up to 1 only",
    ] {
        assert!(found.iter().any(|(why, _)| why.starts_with(expected)), "{expected} in {found:?}");
    }
    drop(world);
}

#[tokio::test]
async fn a_paused_schedule_has_no_ticks_and_owes_none_and_a_removed_one_is_gone() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    put(&world, &hourly(Input::Nothing)).await.expect("it is one");
    let before = next_at(&world).await;
    put(&world, &hourly(Input::Nothing)).await.expect("it is one");
    assert_eq!(next_at(&world).await, before, "the same again changes nothing");
    let mut tx = world.pool.begin().await.expect("the database is there");
    assert!(world.engine.pause_schedule(&mut tx, "hourly").await.expect("the database is there"));
    assert!(!world.engine.pause_schedule(&mut tx, "hourly").await.expect("the database is there"));
    tx.commit().await.expect("the database is there");
    put(&world, &hourly(Input::Nothing)).await.expect("it is one");
    assert_eq!(next_at(&world).await, None, "putting it again does not resume it");
    Clock::of(&world.pool).advance(5 * HOUR).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    assert!(world.engine.resume_schedule(&mut tx, "hourly").await.expect("it reads"));
    assert!(!world.engine.resume_schedule(&mut tx, "hourly").await.expect("it reads"));
    tx.commit().await.expect("the database is there");
    past_the_hour(&world, 1).await;
    decided(&world).await;
    assert_eq!(keys(&world).await.len(), 1, "only the tick after it was resumed");
    let mut tx = world.pool.begin().await.expect("the database is there");
    assert!(world.engine.remove_schedule(&mut tx, "hourly").await.expect("the database is there"));
    assert!(!world.engine.remove_schedule(&mut tx, "hourly").await.expect("the database is there"));
    tx.commit().await.expect("the database is there");
    assert!(list(&world).await.is_empty());
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_schedule_whose_start_the_database_refuses_says_so_and_keeps_nothing_else_from_acting() {
    let world = World::new().await;
    sqlx::raw_sql(
        "-- name: test refuse
        create function test.refuse_start() returns trigger language plpgsql as
        $$ begin raise exception 'refused by the test' using errcode = 'check_violation'; end $$;
        create trigger refuse before insert on saga.instance
            for each row when (new.subject = 'refused') execute function test.refuse_start();",
    )
    .execute(&world.pool)
    .await
    .expect("the trigger is new");
    put(&world, &hourly(Input::Nothing)).await.expect("it is one");
    let start = Start::new("refused", Input::Nothing);
    let refused = Schedule::of::<Job>("refused", "0 * * * *", "Europe/Berlin", start)
        .expect("an input is JSON");
    put(&world, &Schedule { catch_up: CatchUp::One, ..refused }).await.expect("it is one");
    let unread = Start::new("unread", Input::Nothing);
    let unread = Schedule::of::<Job>("an unread one", "0 * * * *", "Europe/Berlin", unread);
    put(&world, &unread.expect("an input is JSON")).await.expect("it is one");
    sqlx::raw_sql(
        "-- name: test unread start\nupdate saga.schedule set start = '[1]' where name = 'an unread one'",
    )
    .execute(&world.pool)
    .await
    .expect("it is there");
    let late = Start::new("late", Input::Wait).within(Duration::from_secs(1));
    let late = world.start_with::<Job>(late).await;
    past_the_hour(&world, 1).await;
    let worker = world.worker(quick()).await;
    let error = async |name: &str| {
        let listed = world.engine.schedules().await.expect("the database is there");
        listed.into_iter().find(|one| one.name == name).expect("it is put").last_error
    };
    let started = async |name| keys(&world).await.iter().any(|key| key.starts_with(name));
    eventually("the error to be shown", async || {
        error("refused").await.is_some_and(|why| why.contains("refused by the test"))
    })
    .await;
    eventually("the other error, too", async || {
        let why = error("an unread one").await;
        why.is_some_and(|why| why.starts_with("its start cannot be read: "))
    })
    .await;
    eventually("the other schedule's tick", async || started("hourly@").await).await;
    assert_eq!(world.ended(late).await.status, "unwound", "its deadline was looked at");
    assert!(!started("refused@").await);
    sqlx::raw_sql("-- name: test refuse no more\ndrop trigger refuse on saga.instance")
        .execute(&world.pool)
        .await
        .expect("it is there");
    eventually("the tick that was refused", async || started("refused@").await).await;
    assert_eq!(error("refused").await, None);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_could_never_tick_or_start_is_refused_with_the_reason() {
    let world = World::new().await;
    let good = hourly(Input::Nothing);
    let with = |change: fn(&mut Schedule)| {
        let mut schedule = good.clone();
        change(&mut schedule);
        schedule
    };
    let refused = put(&world, &with(|s| s.cron = "61 * * * *".into())).await;
    assert!(matches!(refused, Err(ScheduleError::Cron { .. })), "{refused:?}");
    let refused = put(&world, &with(|s| s.cron = "0 0 30 2 *".into())).await;
    assert!(matches!(refused, Err(ScheduleError::Never(_))), "{refused:?}");
    let refused = put(&world, &with(|s| s.zone = "Europe/Atlantis".into())).await;
    assert!(matches!(refused, Err(ScheduleError::Zone(_))), "{refused:?}");
    let refused = put(&world, &with(|s| s.saga = "jobs".into())).await;
    assert!(matches!(refused, Err(ScheduleError::Unknown(_))), "{refused:?}");
    let refused = put(&world, &with(|s| s.start.input = serde_json::json!("Dance"))).await;
    assert!(matches!(refused, Err(ScheduleError::Input(_))), "{refused:?}");
    world.close().await;
}
