//! One verb over many instances: what a plan says is what is done.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use stepwise_engine::{
    Start, Status,
    bulk::{self, Bulk, BulkError, Count, Item, ItemResult, Order as BulkOrder, Stored},
    inspect::Filter,
    operate::{Outlook, Refusal, Verb},
};
use uuid::Uuid;

use crate::{
    job::{Input as JobInput, Job},
    order::{Input, Order},
    plain::{Five, Signal},
    provider::Behaviour,
    statements::counting,
    world::{World, ann, eventually, quick},
};

pub(crate) fn of(name: &str) -> Filter {
    Filter { name: Some(name.to_owned()), ..Filter::default() }
}

fn wants(verb: Verb, filter: Filter) -> BulkOrder {
    BulkOrder { verb, by: "ann".to_owned(), reason: "the gateway is back".to_owned(), filter }
}

pub(crate) async fn plan(world: &World, verb: Verb, filter: Filter) -> Bulk {
    world.engine.plan_bulk(&wants(verb, filter)).await.expect("it can be planned")
}

pub(crate) async fn apply(world: &World, bulk: &Bulk, per_second: u16) {
    let expect = bulk.left.unsigned_abs();
    let mut tx = world.pool.begin().await.expect("the database is there");
    world
        .engine
        .apply_bulk(&mut tx, bulk.bulk_id, expect, per_second, "bob")
        .await
        .expect("it can be started");
    tx.commit().await.expect("the database is there");
}

pub(crate) async fn find(world: &World, id: Uuid) -> Bulk {
    world.engine.bulk(id).await.expect("the database is there").expect("it was planned")
}

pub(crate) async fn until(
    world: &World,
    id: Uuid,
    what: &str,
    holds: impl Fn(&Bulk) -> bool,
) -> Bulk {
    let mut last = None;
    eventually(what, async || {
        let bulk = find(world, id).await;
        let is = holds(&bulk);
        last = Some(bulk);
        is
    })
    .await;
    last.expect("it was seen at least once")
}

pub(crate) async fn done(world: &World, id: Uuid) -> Bulk {
    until(world, id, "the end of the bulk", |bulk| bulk.status == bulk::Status::Done).await
}

pub(crate) async fn items(world: &World, id: Uuid) -> Vec<Item> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = world.engine.bulk_items(id, after, 7).await.expect("the database is there");
        let Some(last) = page.last() else { return all };
        after = Some(last.saga_id);
        all.extend(page);
    }
}

fn planned(item: &Item) -> &Outlook {
    item.outlook.as_ref().and_then(Stored::known).expect("the plan did not refuse it")
}

/// Everything that is known of instances, as one number.
async fn everything(world: &World) -> String {
    sqlx::query_scalar(
        "-- name: test everything
        select md5(concat((select string_agg(i::text, ',' order by saga_id) from saga.instance i),
            (select string_agg(j::text, ',' order by saga_id, seq) from saga.journal j),
            (select string_agg(e::text, ',' order by saga_id, step_no) from saga.effect e),
            (select string_agg(s::text, ',' order by saga_id, signal_id) from saga.signal s),
            (select string_agg(n::text, ',' order by saga_id, seq) from saga.notice n),
            (select string_agg(x.xmin::text, ',' order by saga_id) from saga.instance x)))",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

/// How often each instance was operated, as (times, instances).
pub(crate) async fn operated(world: &World) -> Vec<(i64, i64)> {
    sqlx::query_as(
        "-- name: test operated
        select times, count(*) from (
            select count(*) as times from saga.journal where kind = 'operator' group by saga_id) o
        group by times order by times",
    )
    .fetch_all(&world.pool)
    .await
    .expect("the database is there")
}

/// Orders behind their pivot, stuck at their notice.
pub(crate) async fn stuck_notices(world: &World, number: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..number {
        world.provider.script("notify", vec![Behaviour::NotDone; 5]);
        let order = format!("notice {n}");
        let id = world.start::<Order>(&order, Input { order: order.clone(), notify: true }).await;
        assert_eq!(world.ended(id).await.status, "stuck");
        ids.push(id);
    }
    ids
}

/// `Five`, stuck at the undo of its second step.
async fn stuck_undos(world: &World, number: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..number {
        world.provider.script("do-4", [Behaviour::Declines]);
        world.provider.script("undo-2", [Behaviour::Declines]);
        let id = world.start::<Five>(&format!("undo {n}"), ()).await;
        assert_eq!(world.ended(id).await.status, "stuck");
        ids.push(id);
    }
    ids
}

pub(crate) async fn waiting_jobs(world: &World, number: usize) {
    let mut tx = world.engine.begin().await.expect("the database is there");
    let starts = (0..number).map(|n| Start::new(format!("job {n}"), JobInput::Wait)).collect();
    world.engine.start_many::<Job>(&mut tx, starts).await.expect("they can be started");
    tx.commit().await.expect("the database is there");
}

fn counts(of: &[Count]) -> Vec<(&str, i64)> {
    of.iter().map(|one| (one.what.as_str(), one.count)).collect()
}

#[tokio::test]
async fn a_plan_says_what_would_be_done_and_writes_nothing_to_any_instance() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    stuck_notices(&world, 2).await;
    for order in ["x", "y", "z"] {
        world.provider.script("confirm", [Behaviour::Challenges]);
        let id = world.start::<Order>(order, Input { order: order.into(), notify: false }).await;
        world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
    }
    let ended = world.start::<Order>("e", Input { order: "e".into(), notify: false }).await;
    assert_eq!(world.ended(ended).await.status, "completed");
    worker.stop().await;

    let before = everything(&world).await;
    let bulk = plan(&world, Verb::Cancel, of("order")).await;
    assert_eq!(
        (bulk.status, bulk.items, bulk.refused, bulk.left),
        (bulk::Status::Planned, 5, 2, 3)
    );
    let summary = world.engine.bulk_summary(bulk.bulk_id).await.expect("the database is there");
    assert_eq!(counts(&summary.statuses), [("unwinding", 3)]);
    assert_eq!(counts(&summary.next), [("cancel Confirm", 3)]);
    assert_eq!(
        counts(&summary.undoes),
        [("cancel Confirm", 3), ("cancel_created Create", 3), ("release Reserve", 3)]
    );
    assert_eq!(
        counts(&summary.refusals),
        [("it is past its pivot: nothing is taken back any more", 2)]
    );
    assert_eq!(summary.past_pivot, 0);
    let items = items(&world, bulk.bulk_id).await;
    assert_eq!(items.len(), 5, "page by page, each once; who has ended is not among them");
    for item in items.iter().filter(|item| item.outlook.is_none()) {
        let is = (item.refusal.clone(), item.result);
        let refused = Stored::Known(Refusal::PastPivot);
        assert_eq!(is, (Some(refused), Some(ItemResult::Refused)));
    }
    for item in items.iter().filter_map(|item| item.outlook.as_ref()?.known()) {
        assert_eq!(item.undoes.len(), 3, "{item:?}");
    }
    let retry =
        plan(&world, Verb::Retry, Filter { status: Some(Status::Stuck), ..of("order") }).await;
    let summary = world.engine.bulk_summary(retry.bulk_id).await.expect("the database is there");
    assert_eq!((retry.items, summary.past_pivot), (2, 2), "these only go forward");
    let none = plan(&world, Verb::Retry, of("unheard of")).await;
    assert_eq!(none.items, 0);
    assert_eq!(everything(&world).await, before, "not a row was written or locked");
    world.close().await;
}

#[tokio::test]
async fn what_is_applied_is_what_was_planned() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    stuck_notices(&world, 3).await;
    stuck_undos(&world, 3).await;
    let stuck = |name: &str| Filter { status: Some(Status::Stuck), ..of(name) };
    let asked = |op: &str| world.provider.requests(op).len();

    let retry = plan(&world, Verb::Retry, stuck("order")).await;
    let before = asked("notify");
    apply(&world, &retry, 1_000).await;
    assert_eq!(done(&world, retry.bulk_id).await.applied, 3);
    for item in items(&world, retry.bulk_id).await {
        assert_eq!(planned(&item).next.as_deref(), Some("Notify"));
        assert_eq!(world.ended(item.saga_id).await.status, "completed");
    }
    assert_eq!(asked("notify"), before + 3, "what was to run next has run, once each");

    let skip = plan(&world, Verb::Skip, stuck("five")).await;
    apply(&world, &skip, 1_000).await;
    assert_eq!(done(&world, skip.bulk_id).await.applied, 3);
    for item in items(&world, skip.bulk_id).await {
        assert_eq!(planned(&item).undoes, ["take_back Step(1)"], "the second is left out");
        assert_eq!(world.ended(item.saga_id).await.status, "unwound");
    }
    assert_eq!((asked("undo-1"), asked("undo-2")), (3, 3));

    let ours = stuck_undos(&world, 1).await[0];
    let verb = Verb::HandOver { to: "finance".to_owned() };
    let hand_over = plan(&world, verb, stuck("five")).await;
    apply(&world, &hand_over, 1_000).await;
    done(&world, hand_over.bulk_id).await;
    for item in items(&world, hand_over.bulk_id).await {
        assert_eq!(planned(&item).status.as_str(), world.see(item.saga_id).await.status);
        let statuses = world.effects(item.saga_id).await.into_iter().map(|e| e.1);
        assert_eq!(statuses.collect::<Vec<_>>(), ["waived", "waived", "undone", "refuted"]);
    }
    assert_eq!(world.see(ours).await.status, "abandoned");

    waiting_jobs(&world, 4).await;
    let resumed =
        all_of_jobs(&world, Verb::Pause, Status::Paused, Verb::Resume, Status::Running).await;
    let cancelled =
        all_of_jobs(&world, Verb::Pause, Status::Paused, Verb::Cancel, Status::Unwound).await;
    assert_eq!((resumed, cancelled), (4, 4));
    let sql = "-- name: test open\nselect count(*) from saga.instance where status <> 'unwound' and name = 'job'";
    assert_eq!(bulk_count(&world, sql).await, 0);
    worker.stop().await;
    world.close().await;
}

async fn bulk_count(world: &World, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&world.pool).await.expect("the database is there")
}

/// Two bulks over all jobs, one after the other, each with its status; answers how many.
async fn all_of_jobs(world: &World, first: Verb, is: Status, then: Verb, after: Status) -> usize {
    let mut number = 0;
    for (verb, is) in [(first, is), (then, after)] {
        let bulk = plan(world, verb, of("job")).await;
        apply(world, &bulk, 1_000).await;
        assert_eq!(done(world, bulk.bulk_id).await.applied, bulk.items);
        let items = items(world, bulk.bulk_id).await;
        assert!(items.iter().all(|item| planned(item).status == is), "{items:?}");
        number = items.len();
    }
    number
}

#[tokio::test]
async fn an_instance_that_has_moved_on_since_the_plan_is_left_alone() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let ids = stuck_undos(&world, 3).await;
    let bulk = plan(&world, Verb::Skip, of("five")).await;
    world.signal::<Five>(ids[1], "stop", Signal::Stop).await;
    let seen = world.see(ids[1]).await;
    apply(&world, &bulk, 1_000).await;
    let end = done(&world, bulk.bulk_id).await;
    assert_eq!((end.applied, end.moved_on, end.left), (2, 1, 0));
    let items = items(&world, bulk.bulk_id).await;
    let item = items.iter().find(|item| item.saga_id == ids[1]).expect("it was planned");
    assert_eq!(item.result, Some(ItemResult::MovedOn));
    assert_eq!(item.refusal, Some(Stored::Known(Refusal::MovedOn { seq: seen.seq })));
    assert_eq!(world.see(ids[1]).await.seq, seen.seq, "nothing was written to it");
    assert_eq!(operated(&world).await, [(1, 2)]);
    for id in [ids[0], ids[2]] {
        assert_eq!(world.ended(id).await.status, "unwound");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_would_come_out_differently_than_planned_has_moved_on_too() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_notices(&world, 1).await[0];
    let bulk = plan(&world, Verb::Retry, of("order")).await;
    // A version with other code would see this: the same commit, another outcome.
    sqlx::query("-- name: test other outlook\nupdate saga.bulk_item set outlook = outlook || '{\"next\": \"Other\"}'")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    apply(&world, &bulk, 1_000).await;
    assert_eq!(done(&world, bulk.bulk_id).await.moved_on, 1);
    assert_eq!(world.see(id).await.status, "stuck");
    worker.stop().await;
    world.close().await;
}

async fn error_of(world: &World, id: Uuid, expect: u32, per_second: u16, by: &str) -> BulkError {
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.apply_bulk(&mut tx, id, expect, per_second, by).await.expect_err("it is refused")
}

#[tokio::test]
async fn a_bulk_without_a_reason_of_too_many_or_of_another_count_is_refused() {
    let world = World::new().await;
    waiting_jobs(&world, 5).await;
    let silent = BulkOrder { reason: " ".to_owned(), ..wants(Verb::Pause, of("job")) };
    let refused = world.engine.plan_bulk(&silent).await;
    assert!(matches!(refused, Err(BulkError::NoReason)), "{refused:?}");
    let nobody = BulkOrder { by: String::new(), ..wants(Verb::Pause, of("job")) };
    let refused = world.engine.plan_bulk(&nobody).await;
    assert!(matches!(refused, Err(BulkError::NoReason)), "{refused:?}");
    let narrow = Filter { limit: 4, ..of("job") };
    let refused = world.engine.plan_bulk(&wants(Verb::Pause, narrow)).await;
    assert!(matches!(refused, Err(BulkError::TooMany(4))), "{refused:?}");

    let id = plan(&world, Verb::Pause, of("job")).await.bulk_id;
    let refused = error_of(&world, id, 4, 10, "bob").await;
    assert!(matches!(refused, BulkError::WrongCount { expected: 4, left: 5 }), "{refused:?}");
    assert!(matches!(error_of(&world, id, 5, 0, "bob").await, BulkError::NoRate));
    assert!(matches!(error_of(&world, id, 5, 10, " ").await, BulkError::NoReason));
    let nowhere = Uuid::now_v7();
    assert!(matches!(error_of(&world, nowhere, 5, 10, "bob").await, BulkError::NotFound(_)));
    let mut tx = world.pool.begin().await.expect("the database is there");
    let refused = world.engine.stop_bulk(&mut tx, id, "bob").await;
    assert!(
        matches!(&refused, Err(BulkError::WrongStatus(is)) if *is == bulk::Status::Planned),
        "{refused:?}"
    );
    tx.rollback().await.expect("the database is there");
    assert_eq!(find(&world, id).await.status, bulk::Status::Planned);
    world.close().await;
}

#[tokio::test]
async fn a_bulk_that_ended_long_ago_is_removed_with_its_items() {
    let world = World::new().await;
    waiting_jobs(&world, 3).await;
    plan(&world, Verb::Pause, of("job")).await;
    let kept = plan(&world, Verb::Pause, of("job")).await;
    sqlx::query("-- name: test long ago\nupdate saga.bulk set created_at = '2026-01-01' where bulk_id <> $1")
        .bind(kept.bulk_id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let retention = stepwise_engine::Retention {
        finished: std::time::Duration::from_secs(3_600),
        ..stepwise_engine::Retention::default()
    };
    world.engine.retain(retention).await.expect("the database is there");
    let left = world.engine.bulks(10).await.expect("the database is there");
    assert_eq!(left.iter().map(|bulk| bulk.bulk_id).collect::<Vec<_>>(), [kept.bulk_id]);
    assert_eq!(
        bulk_count(&world, "-- name: test items\nselect count(*) from saga.bulk_item").await,
        3
    );
    world.close().await;
}

#[tokio::test]
async fn two_thousand_instances_are_planned_in_some_twenty_round_trips() {
    let world = World::new().await;
    waiting_jobs(&world, 2_000).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let listening = tracing::subscriber::set_default(counting("", &sent));
    let hand_over = Verb::HandOver { to: "finance".to_owned() };
    for (verb, most) in [(Verb::Cancel, 16), (hand_over, 24)] {
        sent.store(0, Relaxed);
        let begun = std::time::Instant::now();
        let bulk = plan(&world, verb, of("job")).await;
        println!("{} statements, {:?}", sent.load(Relaxed), begun.elapsed());
        assert_eq!(bulk.items, 2_000);
        assert!((8..=most).contains(&sent.load(Relaxed)), "{sent:?} statements");
    }
    drop(listening);
    world.close().await;
}

#[tokio::test]
async fn by_hand_and_by_bulk_are_the_same_verb() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let ids = stuck_undos(&world, 2).await;
    let outlook = match world.operate(ids[0], &ann(Verb::Retry)).await {
        stepwise_engine::operate::Operated::Applied(outlook) => outlook,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.ended(ids[0]).await.status, "unwound");
    let stuck = Filter { status: Some(Status::Stuck), ..of("five") };
    let bulk = plan(&world, Verb::Retry, stuck).await;
    assert_eq!(planned(&items(&world, bulk.bulk_id).await[0]), &outlook);
    apply(&world, &bulk, 10).await;
    done(&world, bulk.bulk_id).await;
    assert_eq!(world.ended(ids[1]).await.status, "unwound");
    let kinds = |rows: Vec<(String, Option<i32>, Option<String>)>| {
        rows.into_iter().map(|row| row.0).collect::<Vec<_>>()
    };
    assert_eq!(kinds(world.journal(ids[0]).await), kinds(world.journal(ids[1]).await));
    worker.stop().await;
    world.close().await;
}
