//! TODO

use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let feed = Feed::new(pool.clone());
    let relay = start(pool, &Arc::new(Recorder::default()), brisk());
    let from = feed.newest().await.expect("newest");
    let mut expected: Vec<(String, i64)> = Vec::new();
    let mut received: Vec<(String, i64)> = Vec::new();
    let mut last = from.to_string();
    for sequence in 1..=20 {
        let messages: Vec<Message> =
            (0..7).map(|one| message(&format!("s{one}"), sequence)).collect();
        expected.extend(messages.iter().map(|one| (one.subject.clone(), one.sequence)));
        write(pool, &messages).await;
        // Comes back with the last id it saw, reads a few and breaks off.
        let tail = feed.tail(last.parse().expect("our own text"));
        let read: Vec<_> = tail.take(5).collect().await;
        for published in read {
            let published = published.expect("the feed can be read");
            last = published.position.to_string();
            received.push((published.message.subject, published.message.sequence));
        }
    }
    let tail = feed.tail(last.parse().expect("our own text"));
    let rest: Vec<_> = tail.take(expected.len() - received.len()).collect().await;
    for published in rest {
        let message = published.expect("the feed can be read").message;
        received.push((message.subject, message.sequence));
    }
    for subject in (0..7).map(|one| format!("s{one}")) {
        let of_one: Vec<i64> =
            received.iter().filter(|one| one.0 == subject).map(|one| one.1).collect();
        assert_eq!(of_one, (1..=20).collect::<Vec<i64>>(), "{subject}");
    }
    relay.stop().await;
    database.close().await;
}

#[tokio::test]
async fn a_position_whose_successors_are_forgotten_is_told_so() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let feed = Feed::new(pool.clone());
    let start_of_all = feed.oldest().await.expect("oldest");
    let relay = start(pool, &Arc::new(Recorder::default()), brisk());
    write(pool, &[message("a", 1), message("b", 1)]).await;
    drained(pool).await;
    relay.stop().await;
    let shards: Vec<i16> = (0..64).collect();
    assert_eq!(feed.forget(&shards, Duration::from_secs(60)).await.expect("forget"), 0);
    assert_eq!(feed.after(&start_of_all).await.expect("all is kept").len(), 2);

    assert_eq!(feed.forget(&shards, Duration::ZERO).await.expect("forget"), 2);
    let told = feed.after(&start_of_all).await.expect_err("two are missing");
    assert!(matches!(told, FeedError::Forgotten), "{told}");
    let oldest = feed.oldest().await.expect("oldest");
    assert_eq!(oldest, feed.newest().await.expect("newest"));
    assert!(feed.after(&oldest).await.expect("nothing is missing").is_empty());
    database.close().await;
}

#[tokio::test]
async fn a_forged_position_is_refused() {
    let database = Database::fresh(&[migrations()]).await;
    let feed = Feed::new(database.pool().clone());
    let position = feed.newest().await.expect("newest").to_string();
    assert_eq!(position.parse::<Position>().expect("our own text").to_string(), position);
    for forged in ["", "1", "-1.", "\u{0}", &"z".repeat(4096), &format!("+1{position}")] {
        assert!(forged.parse::<Position>().is_err(), "{forged:?}");
    }
    let future: Position = format!("zz{position}").parse().expect("it has the form");
    let refused = feed.after(&future).await.expect_err("nobody was given this");
    assert!(matches!(refused, FeedError::NotAPosition), "{refused}");
    database.close().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_hides_no_other_from_relay_and_feed() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1), message("b", 1)]).await;
    sqlx::query(
        "-- test: not a number in Rust\nupdate saga.outbox set data = '1e999' where subject = 'a'",
    )
    .execute(pool)
    .await
    .expect("valid JSON");
    let relay = start(pool, &Arc::new(Recorder::default()), brisk());
    drained(pool).await;
    let feed = Feed::new(pool.clone());
    let all = feed.after(&feed.oldest().await.expect("oldest")).await.expect("both");
    assert_eq!(all.len(), 2);
    let damaged = all.iter().find(|one| one.message.subject == "a").expect("it is there");
    assert!(feed.set_aside(damaged, "number out of range").await.expect("noted"));
    assert!(!feed.set_aside(damaged, "number out of range").await.expect("known"));
    let troubles = feed_troubles(pool).await.expect("readable");
    assert_eq!((troubles.unreadable, troubles.refused), (1, 0));
    relay.stop().await;
    let shards: Vec<i16> = (0..64).collect();
    feed.forget(&shards, Duration::ZERO).await.expect("forgotten");
    assert_eq!(feed_troubles(pool).await.expect("readable"), FeedTroubles::default());
    database.close().await;
}
