//! F22: two relays on one outbox, each of them sure that it is the one.

use std::time::Duration;

use serde_json::json;
use stepwise_engine::outbox::{Message, Relay, publish_all};

use crate::{
    provider::Manners,
    stage::{Process, Stage, eventually, size},
    told::{Role, Told},
};

/// Subjects, each with its own order.
const SUBJECTS: usize = 40;
/// Messages that a relay has with the publisher at most, by its default settings.
const WINDOW: usize = 64;
const LEASE: Duration = Duration::from_millis(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_on_one_outbox_keep_the_order_and_repeat_little() {
    // Slow enough for messages to be under way whenever a relay is disturbed.
    let slowish = Manners {
        delay: Duration::ZERO..Duration::from_millis(100),
        silent_after: 1,
        ..Manners::good()
    };
    let stage = Stage::new(slowish).await;
    let told = |name: &str| Told { role: Role::Relay, lease: LEASE, ..stage.told(name) };
    let relays = ["one", "two"].map(|name| Process::start(&stage, &told(name), &[]));
    let (rounds, mut written) = (size(12, 120), 0);
    for round in 0..rounds {
        for sequence in [2 * round + 1, 2 * round + 2] {
            let mut tx = stage.pool.begin().await.expect("the database is there");
            let messages: Vec<_> = (0..SUBJECTS)
                .map(|n| {
                    Message::new(
                        "test.v1",
                        "/test",
                        format!("subject {n}"),
                        sequence,
                        json!({ "n": n }),
                    )
                })
                .collect();
            publish_all(&mut tx, &messages).await.expect("the database is there");
            tx.commit().await.expect("the database is there");
            written += SUBJECTS;
        }
        // Either the leases are torn from those who have them while they work, and the first to look takes all, or one
        // stands still until the other has them.
        if round % 4 == 3 {
            let relay = &relays[(round as usize / 4) % 2];
            relay.send("-STOP");
            tokio::time::sleep(2 * LEASE).await;
            relay.send("-CONT");
        } else {
            Relay::free_all(&stage.pool).await.expect("the database is there");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    let waiting = "-- name: test waiting\nselect count(*) from saga.outbox";
    eventually("the outbox to be empty", async || stage.count(waiting).await == 0).await;
    stage.quiet().await;
    let received = stage.provider.receipts().len();
    // One that stood still finds out by its marks, or starts its tasks again before it has made any.
    let [fenced, restarted] =
        ["fenced: another relay", "the relay hung"].map(|line| stage.logged(line));
    println!(
        "{written} written, {received} received, {rounds} disturbances, {fenced} times fenced, {restarted} times started again"
    );
    assert!(fenced + restarted > 0, "vacuous: they never met");
    let answers_lost = stage.provider.moods().get("silent after").copied().unwrap_or(0);
    assert!(
        received - written <= WINDOW * rounds as usize + answers_lost,
        "{received} of {written}"
    );
    let faults = stage.books().await.faults();
    assert!(faults.is_empty(), "seed {}: {faults:#?}", stage.seed);
    for mut relay in relays {
        relay.send("-TERM");
        assert!(relay.ended().await.success());
    }
    stage.close().await;
}
