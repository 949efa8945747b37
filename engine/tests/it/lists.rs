//! Lists for operators: the data that they show of instances, and how operators find them.

use std::{collections::BTreeMap, time::Duration};

use stepwise_engine::{
    Priority, Quota, Scope, Start,
    inspect::{self, Filter},
};
use uuid::Uuid;

use crate::{
    job::{Input, Job},
    tasks::{Root, Todo},
    world::{World, quick},
};

async fn found(world: &World, filter: Filter) -> Vec<Uuid> {
    let filter = Filter { limit: 10, ..filter };
    let rows = inspect::list(&world.pool, &filter).await.expect("the database is there");
    rows.into_iter().map(|row| row.saga_id).collect()
}

fn tags<const N: usize>(tags: [(&str, &str); N]) -> BTreeMap<String, String> {
    tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn instances_are_found_by_tags_and_priority_and_show_what_they_were_started_with() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world
        .engine
        .set_quota(&mut tx, "job", Scope::EachKey, Quota::at_once(0))
        .await
        .expect("a quota");
    tx.commit().await.expect("the database is there");
    let day = Duration::from_secs(86_400);
    let start = |subject: &str| Start::new(subject, Input::Wait);
    let first = start("first").tag("shop", "5").tag("region", "eu").priority(Priority::Low);
    let first = world.start_with::<Job>(first.within(day).queued("shop 5")).await;
    let second = world.start_with::<Job>(start("second").tag("shop", "5")).await;
    let third = world.start_with::<Job>(start("third").priority(Priority::High)).await;

    let by_tags = |wanted| found(&world, Filter { tags: wanted, ..Filter::default() });
    assert_eq!(by_tags(tags([("shop", "5")])).await, [second, first], "newest first");
    assert_eq!(by_tags(tags([("shop", "5"), ("region", "eu")])).await, [first]);
    assert!(by_tags(tags([("shop", "6")])).await.is_empty());
    let by_priority = |one| found(&world, Filter { priority: Some(one), ..Filter::default() });
    assert_eq!(by_priority(Priority::High).await, [third]);
    assert_eq!(by_priority(Priority::Low).await, [first]);
    let page = Filter { name: Some("job".to_owned()), before: Some(third), ..Filter::default() };
    assert_eq!(found(&world, page).await, [second, first], "whatever their shards");

    let seen = inspect::summary(&world.pool, first).await.expect("readable").expect("it is there");
    assert_eq!(seen.tags, tags([("shop", "5"), ("region", "eu")]));
    assert_eq!((seen.priority, seen.queue_key.as_deref()), (Priority::Low, Some("shop 5")));
    assert!(seen.queued && seen.deadline_at.is_some_and(|at| at > seen.created_at));
    let plain = inspect::summary(&world.pool, third).await.expect("readable").expect("there");
    assert!(plain.tags.is_empty() && !plain.queued && plain.deadline_at.is_none());
    world.close().await;
}

#[tokio::test]
async fn a_parent_shows_its_children_and_they_show_their_parent() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-slow");
    let parts = [Todo::new("slow"), Todo::new("fast")];
    let id = world
        .start::<Root>("family", Todo { acts: false, ..Todo::new("family").with(parts) })
        .await;
    let children = async || found(&world, Filter { parent: Some(id), ..Filter::default() }).await;
    world.until(id, "children", |seen| seen.waiting_on.as_deref() == Some("children")).await;
    let (slow, fast) = {
        let both = children().await;
        assert_eq!(both.len(), 2);
        let first = inspect::summary(&world.pool, both[0]).await.expect("readable").expect("there");
        if first.subject == "slow" { (both[0], both[1]) } else { (both[1], both[0]) }
    };
    for (subject, child) in [("slow", slow), ("fast", fast)] {
        let about = Filter { subject: Some(subject.to_owned()), ..Filter::default() };
        assert_eq!(found(&world, about).await, [child], "although it lives on its parent's shard");
    }
    world.until(fast, "its end", |seen| seen.waiting_on.as_deref() == Some("parent")).await;
    let details = inspect::details(&world.pool, id).await.expect("readable").expect("it is there");
    assert_eq!(details.open_children, 1, "the slow one");
    let mut all = [slow, fast];
    all.sort();
    assert_eq!(details.children, all);
    let child = inspect::details(&world.pool, slow).await.expect("readable").expect("it is there");
    assert_eq!((child.summary.parent, child.children.len()), (Some(id), 0));
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    let details = inspect::details(&world.pool, id).await.expect("readable").expect("it is there");
    assert_eq!((details.open_children, details.children.len()), (0, 2));
    worker.stop().await;
    world.close().await;
}
