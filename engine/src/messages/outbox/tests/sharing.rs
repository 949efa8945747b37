//! TODO

use super::*;

#[tokio::test]
async fn two_relays_share_the_shards_and_the_dead_ones_part_is_taken_over() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let (one, two) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let first = start(pool, &one, brisk());
    until("the first has all", || async { first.health.report().held_shards == 64 }).await;
    let second = start(pool, &two, brisk());
    let both = || (first.health.report().held_shards, second.health.report().held_shards);
    until("each has its half", || async { both() == (32, 32) }).await;

    let subjects: Vec<String> = (0..100).map(|number| format!("order-{number}")).collect();
    for sequence in 1..=3 {
        let messages: Vec<Message> = subjects.iter().map(|one| message(one, sequence)).collect();
        write(pool, &messages).await;
    }
    drained(pool).await;
    assert_eq!(one.count() + two.count(), 300, "no copies while both live");
    assert!(one.count() > 30 && two.count() > 30, "{} and {}", one.count(), two.count());

    first.kill().await;
    until("the other has all", || async { second.health.report().held_shards == 64 }).await;
    write(pool, &subjects.iter().map(|one| message(one, 4)).collect::<Vec<_>>()).await;
    drained(pool).await;
    let fed = fed(pool).await;
    for subject in &subjects {
        assert_eq!(fed[subject], [1, 2, 3, 4], "{subject}");
    }
    second.stop().await;
    database.close().await;
}

#[tokio::test]
async fn a_shard_is_given_up_only_when_nothing_of_it_is_under_way() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let (one, two) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let subjects: Vec<String> = (0..60).map(|number| format!("order-{number}")).collect();
    write(pool, &subjects.iter().map(|one| message(one, 1)).collect::<Vec<_>>()).await;
    let held = one.gate.lock().await;
    let first = start(pool, &one, brisk());
    until("all are under way", || async { one.count() == 60 }).await;
    let second = start(pool, &two, brisk());
    let second_holds = || second.health.report().held_shards;
    until("idle shards change hands", || async { second_holds() > 0 }).await;
    assert_eq!(two.count(), 0, "what is under way stays with its relay");
    drop(held);
    until("each has its half", || async { second_holds() == 32 }).await;
    drained(pool).await;
    assert_eq!(one.count() + two.count(), 60, "no copies");
    first.stop().await;
    second.stop().await;
    database.close().await;
}
