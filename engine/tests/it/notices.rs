//! Notices: the commit that causes one also writes it, and no reader misses any.

use std::{collections::HashSet, time::Duration};

use sqlx::postgres::PgListener;
use stepwise_engine::{
    inspect,
    notice::{self, Kind, Notice},
    testing::Clock,
};
use uuid::Uuid;

use crate::{
    plain::Five,
    provider::Behaviour,
    world::{PATIENCE, World, eventually, quick},
};

#[tokio::test]
async fn an_instance_that_gets_stuck_is_told_by_that_very_commit() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut listener = PgListener::connect_with(&world.pool).await.expect("the database is there");
    listener.listen(notice::CHANNEL).await.expect("the database is there");
    world.provider.script("do-2", [Behaviour::Babbles]);
    let id = world.start::<Five>("babble", ()).await;
    tokio::time::timeout(PATIENCE, listener.recv())
        .await
        .expect("a hint comes")
        .expect("the database is there");
    let seen = world.see(id).await;
    assert_eq!(seen.status, "stuck", "the hint comes with the commit, not before it");
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    let [Notice { saga_id, seq, kind: Kind::Stuck, saga, why, .. }] = &told[..] else {
        panic!("one notice, of a stuck instance: {told:?}")
    };
    assert_eq!((*saga_id, *seq, saga.as_str()), (id, seen.seq, "five"));
    assert_eq!(Some(why), seen.last_error.as_ref());
    let together: bool = sqlx::query_scalar(
        "-- name: test together
        select j.xmin = e.xmin from saga.journal j join saga.escalation e using (shard, saga_id)
        where j.saga_id = $1 and j.kind = 'stuck'",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("both are there");
    assert!(together, "what is told and what is so are one commit");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_goes_well_tells_nothing() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::NotDone, Behaviour::Declines]);
    let id = world.start::<Five>("declined", ()).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    assert!(told.is_empty(), "{told:?}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_told_too() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-1");
    let id = world.start::<Five>("unreadable", ()).await;
    world.asked("do-1", 1).await;
    sqlx::query("-- name: test garble\nupdate saga.instance set state = '\"no number\"', seq = seq + 1 where saga_id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    worker.stop().await;
    gate.add_permits(1);
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    assert!(
        told.iter().any(|one| one.saga_id == id && one.why.contains("does not fit")),
        "{told:?}"
    );
    assert!(world.journal(id).await.iter().any(|row| row.0 == "stuck"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_group_commit_with_a_stuck_member_writes_all_its_members() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script(
        "do-3",
        (0..40).map(|n| match n % 4 {
            0 => Behaviour::Babbles,
            1 => Behaviour::Poisons,
            _ => Behaviour::Acts,
        }),
    );
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(world.start::<Five>(&format!("member {n}"), ()).await);
    }
    let mut stuck = HashSet::new();
    for id in ids {
        if world.ended(id).await.status == "stuck" {
            stuck.insert(id);
        }
    }
    assert_eq!(stuck.len(), 20);
    let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
    assert_eq!(told.len(), 20, "each is told once");
    assert_eq!(told.iter().map(|one| one.saga_id).collect::<HashSet<_>>(), stuck);
    worker.stop().await;
    world.close().await;
}

/// A newer worker writes a kind of notice and a kind of journal row that this build does not know.
#[tokio::test]
async fn a_word_of_a_newer_build_is_shown_and_hides_no_other_row() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", vec![Behaviour::Babbles; 2]);
    let ids = [world.start::<Five>("one", ()).await, world.start::<Five>("two", ()).await];
    for id in ids {
        assert_eq!(world.ended(id).await.status, "stuck");
    }
    worker.stop().await;
    sqlx::raw_sql(
        "-- name: test newer words
        update saga.notice set kind = 'abducted' where ctid = (select min(ctid) from saga.notice);
        update saga.journal set kind = 'beamed up' where kind = 'start'",
    )
    .execute(&world.pool)
    .await
    .expect("no constraint bounds them");
    let told = notice::after(&world.pool, 0, 10).await.expect("the others are readable");
    let kinds = told.iter().map(|one| &one.kind).collect::<HashSet<_>>();
    assert_eq!(kinds, HashSet::from([&Kind::Other("abducted".to_owned()), &Kind::Stuck]));
    let shown = inspect::details(&world.pool, ids[0]).await.expect("readable").expect("there");
    let kinds = shown.journal.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>();
    assert_eq!(kinds[..2], ["beamed up", "outcome"]);
    world.close().await;
}

/// Three readers follow by place while writers commit in any order, some of them late: each reads each notice once.
#[tokio::test]
async fn no_reader_misses_a_notice_however_late_its_transaction_commits() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 40;
    let world = World::new().await;
    let writers = (0..WRITERS).map(|writer| {
        let pool = world.pool.clone();
        tokio::spawn(async move {
            for n in 0..EACH {
                let mut tx = pool.begin().await.expect("the database is there");
                sqlx::query(
                    "-- name: test plant notice
                    insert into saga.notice (shard, saga_id, seq, kind, detail, at)
                    values (0, $1, $2, 'stuck', '{}', clock_timestamp())",
                )
                .bind(Uuid::from_u64_pair(writer, n))
                .bind(n as i32)
                .execute(&mut *tx)
                .await
                .expect("it is new");
                // Open for a while, each for another while.
                tokio::time::sleep(Duration::from_millis((writer * 7 + n * 13) % 23)).await;
                tx.commit().await.expect("the database is there");
            }
        })
    });
    let writers = writers.collect::<Vec<_>>();
    let reader = async || {
        let (mut place, mut read) = (0, Vec::new());
        eventually("all notices", async || {
            let more = notice::after(&world.pool, place, 7).await.expect("the database is there");
            assert!(more.windows(2).all(|two| two[0].place < two[1].place));
            place = more.last().map_or(place, |last| last.place);
            read.extend(more.into_iter().map(|one| one.saga_id));
            read.len() as u64 >= WRITERS * EACH
        })
        .await;
        read
    };
    let (one, two, three) = tokio::join!(reader(), reader(), reader());
    for read in [one, two, three] {
        let distinct = read.iter().collect::<HashSet<_>>().len() as u64;
        assert_eq!((read.len() as u64, distinct), (WRITERS * EACH, WRITERS * EACH));
    }
    for writer in writers {
        writer.await.expect("a writer writes all");
    }
    world.close().await;
}

#[tokio::test]
async fn what_stays_stuck_for_an_hour_is_told_once_more() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", vec![Behaviour::Babbles; 3]);
    let left = world.start::<Five>("left alone", ()).await;
    let looked_at = world.start::<Five>("looked at", ()).await;
    world.ended(left).await;
    world.ended(looked_at).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.cancel(&mut tx, looked_at, "seen").await.expect("it is there");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(looked_at).await.status, "unwound");
    let clock = Clock::of(&world.pool);
    clock.advance(Duration::from_secs(1_800)).await;
    let young = world.start::<Five>("younger", ()).await;
    world.ended(young).await;
    clock.advance(Duration::from_secs(1_801)).await;
    let waiting = async || -> Vec<Uuid> {
        sqlx::query_scalar("-- name: test waiting\nselect saga_id from saga.escalation")
            .fetch_all(&world.pool)
            .await
            .expect("the database is there")
    };
    eventually("what is due to be told", async || waiting().await == [young]).await;
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    let escalated = told.iter().filter(|one| one.kind == Kind::Escalated).collect::<Vec<_>>();
    assert_eq!(escalated.iter().map(|one| one.saga_id).collect::<Vec<_>>(), [left]);
    assert!(escalated[0].why.contains("is not expected"), "{escalated:?}");
    worker.stop().await;
    world.close().await;
}
