//! TODO

use super::*;
use crate::{store::migrations, testing::Database};

/// 40,000 instances: one in 400 is tagged, one in 1,000 is stuck, two have a parent.
const MANY: &str = "-- name: test many
insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq, tags,
    parent_id, created_at, updated_at)
select n % 64, lpad(to_hex(n), 32, '0')::uuid, 'many', 1, n::text, case when n % 1000 = 0 then 'stuck' else 'running' end,
    case when n % 1000 = 0 then 'operator' else 'signal' end, '1', '\"nothing\"', '[]', 1, 1,
    case when n % 400 = 0 then '{\"shop\": \"rare\", \"region\": \"eu\"}'::jsonb when n % 2 = 0 then '{\"shop\": \"large\"}' end,
    case when n < 3 then '00000000-0000-0000-0000-000000000001'::uuid end, now(), now()
from generate_series(1, 40000) n;
analyze saga.instance";

#[tokio::test]
async fn every_list_is_found_by_an_index() {
    let db = Database::fresh(&[migrations::migrations()]).await;
    sqlx::raw_sql(MANY).execute(db.pool()).await.expect("the table is empty");
    let few = || Filter { limit: 20, ..Filter::default() };
    let rare = BTreeMap::from([("shop".to_owned(), "rare".to_owned())]);
    for (filter, index) in [
        (few(), "instance_pkey"),
        (Filter { name: Some("many".to_owned()), ..few() }, "instance_pkey"),
        (Filter { before: Some(Uuid::from_u128(20_000)), ..few() }, "instance_pkey"),
        (Filter { tags: rare.clone(), ..few() }, "instance_by_tag"),
        (Filter { tags: rare, name: Some("many".to_owned()), ..few() }, "instance_by_tag"),
        (Filter { status: Some(Status::Stuck), ..few() }, "instance_in_trouble"),
        (Filter { subject: Some("77".to_owned()), ..few() }, "instance_by_subject"),
        (Filter { parent: Some(Uuid::from_u128(1)), ..few() }, "instance_by_parent"),
    ] {
        let plan = plan(&filter, &db).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{filter:?}\n{plan}");
    }
    db.close().await;
}

/// 40,000 instances that have ended and 100 that are open.
const ENDED: &str = "-- name: test ended
insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq, wake_at,
    ended_at, created_at, updated_at)
select n % 64, lpad(to_hex(n), 32, '0')::uuid, 'many', 1, n::text, case when n % 400 = 0 then 'running' else 'completed' end,
    case when n % 400 = 0 then 'retry' end, '1', '\"nothing\"', '[]', 1, 1, case when n % 400 = 0 then now() end,
    case when n % 400 > 0 then now() end, now(), now()
from generate_series(1, 40000) n;
analyze saga.instance";

#[tokio::test]
async fn a_few_open_instances_among_many_that_have_ended_are_found_by_the_index_of_open_ones() {
    let db = Database::fresh(&[migrations::migrations()]).await;
    sqlx::raw_sql(ENDED).execute(db.pool()).await.expect("the table is empty");
    let few = || Filter { limit: 50, ..Filter::default() };
    for filter in [
        Filter { waiting_on: Some(WaitingOn::Retry), ..few() },
        Filter { waiting_on: Some(WaitingOn::Signal), ..few() },
        Filter { status: Some(Status::Running), ..few() },
        Filter { status: Some(Status::Running), name: Some("many".to_owned()), ..few() },
        Filter { waiting_on: Some(WaitingOn::Retry), name: Some("many".to_owned()), ..few() },
    ] {
        let plan = plan(&filter, &db).await;
        let uses_index = plan.contains("one_open_instance_per_subject");
        assert!(uses_index && !plan.contains("Seq Scan"), "{filter:?}\n{plan}");
    }
    db.close().await;
}

async fn plan(filter: &Filter, db: &Database) -> String {
    let mut explain = filter.select("explain select i.saga_id");
    let plan: Vec<String> = explain
        .build_query_scalar()
        .persistent(false)
        .fetch_all(db.pool())
        .await
        .expect("it can be explained");
    plan.join("\n")
}
