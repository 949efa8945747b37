//! Faults of the broker, its partners and its operators under a running `up`: no event is lost and no order waits.
//!
//! Each test has a broker of its own, because it leaves `shop.events` in a state in which other tests would
//! fail.

use std::time::Duration;

use serde_json::json;
use stepwise_engine::testing::Database;
use stepwise_tests::{
    proxy::{Network, Proxy},
    rabbit::{Node, Partner},
};
use tokio::time::Instant;

use crate::{
    doctor::{doctor, wrong},
    site::{Site, Up, eventually},
};

/// Places an order and waits until it is placed. Returns its id and its customer's token.
async fn placed(up: &Up) -> (String, String) {
    let (order, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    (order, token)
}

/// Sorts subjects, because events of different orders come in any sequence.
fn sorted(mut subjects: Vec<String>) -> Vec<String> {
    subjects.sort();
    subjects
}

/// The broker's state and reason in `/readyz`.
async fn broker(up: &Up) -> (String, String) {
    let (_, ready) = up.get("", "/readyz").await;
    let text = |name: &str| ready["broker"][name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// Fault: broker: it is silent for 20 s: connections stay open, new ones are accepted, nothing is answered
/// Customer: nothing; orders are placed, their events come late
/// Operator: `/readyz` says that the broker is away, `stepwise_outbox_oldest_seconds` grows; one line in the log
/// Within: 10 s
/// Ends: by itself; what waited is published within 5 s of the broker's return
#[tokio::test]
async fn a_broker_that_falls_silent_is_told_and_gets_everything_on_its_return() {
    let node = Node::start().await;
    let (proxy, url) = Proxy::before_url(&node.url).await;
    let site = Site::new();
    let up = site.up(&["--amqp-url", &url]).await;
    let partner = Partner::connect(&node.url).await;
    partner.listen().await;
    let (first, _) = placed(&up).await;
    eventually("an event arrives", async || partner.subjects() == [first.as_str()]).await;

    proxy.set(Network::Silent);
    let silent = Instant::now();
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(placed(&up).await.0);
    }
    eventually("the fault is reported", async || broker(&up).await.0 == "away").await;
    let size = if std::env::var("STEPWISE_FAULTS").as_deref() == Ok("full") { 20 } else { 8 };
    tokio::time::sleep_until(silent + Duration::from_secs(size)).await;
    proxy.set(Network::Whole);
    let whole = Instant::now();
    let all_came = async || orders.iter().all(|order| partner.subjects().contains(order));
    eventually("what waited arrives", all_came).await;
    assert!(whole.elapsed() < Duration::from_secs(5), "{:?}", whole.elapsed());
    eventually("the broker is reported as ok", async || broker(&up).await.0 == "ok").await;
    let stopping = Instant::now();
    assert!(up.stop("TERM").await.success());
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
}

/// Fault: broker: a message is larger than the broker's max_message_size
/// Customer: nothing
/// Operator: its row in saga.outbox has tries and error; `stepwise_outbox_failing` is 1
/// Within: 5 s
/// Ends: the events of its order wait until a person raises the limit; all others flow, one copy each
#[tokio::test]
async fn a_message_that_the_broker_refuses_holds_back_its_own_order_only() {
    let node = Node::start().await;
    // A channel keeps the limit that held when it was opened.
    node.control(&["eval", "application:set_env(rabbit, max_message_size, 800)."]).await;
    let site = Site::new();
    let up = site.up(&["--amqp-url", &node.url]).await;
    let partner = Partner::connect(&node.url).await;
    partner.listen().await;
    let (large, token) = placed(&up).await;
    eventually("an event arrives", async || partner.subjects().len() == 1).await;
    let reason = json!({ "reason": "x".repeat(500) });
    let (status, cancelled) = up.post(&token, &format!("/v1/orders/{large}/cancel"), &reason).await;
    assert!(status < 300, "{cancelled}");
    let mut orders = vec![large];
    for _ in 0..5 {
        orders.push(placed(&up).await.0);
    }
    eventually("all others arrive", async || partner.subjects().len() == orders.len()).await;
    assert_eq!(sorted(partner.subjects()), sorted(orders.clone()), "one copy each");
    eventually("the fault is reported", async || site.log().contains("a message was not taken"))
        .await;
    node.control(&["eval", "application:set_env(rabbit, max_message_size, 134217728)."]).await;
    let cancelled = || partner.subjects().iter().filter(|one| **one == orders[0]).count();
    eventually("the large one arrives", async || cancelled() > 1).await;
    assert!(up.stop("TERM").await.success());
}

/// Fault: broker: a partner's queue is full and refuses messages (overflow reject-publish)
/// Customer: nothing
/// Operator: `stepwise_outbox_refused_by_partner_total`, a row in saga.feed_trouble; one line in the log
/// Within: at once
/// Ends: the other partners get everything at once, one copy each; the one with the full queue reads what it missed from the archive
#[tokio::test]
async fn a_partners_full_queue_costs_the_other_partners_nothing() {
    let node = Node::start().await;
    let site = Site::new();
    let up = site.up(&["--amqp-url", &node.url]).await;
    let partner = Partner::connect(&node.url).await;
    partner.bind_full_queue().await;
    partner.listen().await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(placed(&up).await.0);
    }
    eventually("the other partner has all", async || partner.subjects().len() >= 10).await;
    assert_eq!(sorted(partner.subjects()), sorted(orders), "one copy each");
    eventually("the fault is reported", async || site.log().contains("a partner's queue refused"))
        .await;
    assert!(up.stop("TERM").await.success());
}

/// Fault: broker: somebody deletes the exchange, and the partners' bindings with it
/// Customer: nothing; orders are placed, their events wait
/// Operator: `/readyz` and `doctor` name what is gone and what to do; `stepwise_outbox_oldest_seconds` grows
/// Within: 5 s
/// Ends: partners bind again, an operator runs `stepwise relay --declare`; what waited is published
#[tokio::test]
async fn a_deleted_exchange_is_told_and_events_wait_for_the_partners_bindings() {
    let node = Node::start().await;
    let site = Site::new();
    let up = site.up(&["--amqp-url", &node.url]).await;
    let partner = Partner::connect(&node.url).await;
    partner.listen().await;
    let (first, _) = placed(&up).await;
    eventually("an event arrives", async || partner.subjects() == [first.as_str()]).await;
    let deleted = partner.channel.exchange_delete("shop.events".into(), Default::default());
    deleted.await.expect("it was there");
    let is_told = async || {
        let (state, reason) = broker(&up).await;
        state == "away" && reason.contains("shop.events is gone")
    };
    eventually("the fault is reported while nothing is published", is_told).await;
    let (second, _) = placed(&up).await;
    let doctor =
        site.command(&["doctor", "--amqp-url", &node.url]).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(said.contains("shop.events is gone"), "{said}");
    // The partner declares the exchange and binds its queue; the relay still waits for a person.
    partner.listen().await;
    assert!(is_told().await);
    assert_eq!(partner.subjects(), [first.as_str()]);
    let declare = ["relay", "--declare", "--amqp-url", &node.url];
    let declared = site.command(&declare).output().await.expect("it runs");
    assert!(declared.status.success(), "{declared:?}");
    let both = [first.as_str(), second.as_str()];
    eventually("what waited arrives", async || partner.subjects() == both).await;
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn a_relay_without_its_databases_broker_does_not_start_until_it_is_forgotten() {
    let (node, site, database) = (Node::start().await, Site::new(), Database::fresh(&[]).await);
    let url = database.url();
    let given = ["--database-url", &url, "--no-demo"];
    let up = site.up(&[&given[..], &["--amqp-url", &node.url]].concat()).await;
    assert!(up.stop("TERM").await.success());
    for role in
        [&["relay", "--database-url", &url][..], &[&["up", "--port", "0"], &given[..]].concat()]
    {
        let (code, line) = site.refusal(role).await;
        assert_eq!(code, 3, "{role:?}: {line}");
        assert!(line.contains("RabbitMQ at amqp://") && line.contains("--amqp-url"), "{line}");
        assert!(!line.contains("guest"), "no user and no password: {line}");
    }
    let (_, lines) = doctor(&site, &["--database-url", &url]).await;
    let said = wrong(&lines).into_iter().find(|(what, _)| *what == "broker");
    assert!(said.is_some_and(|(_, why)| why.contains("--forget-broker")), "{lines:?}");
    let forget = ["relay", "--forget-broker", "--database-url", &url];
    let forgotten = site.command(&forget).output().await.expect("it runs");
    assert!(forgotten.status.success(), "{forgotten:?}");
    let (_, lines) = doctor(&site, &["--database-url", &url]).await;
    assert!(wrong(&lines).iter().all(|(what, _)| *what != "broker"), "{lines:?}");
    assert!(site.up(&given).await.stop("TERM").await.success());
    database.close().await;
}

/// Fault: broker: it raises a memory or disk alarm and takes no messages
/// Customer: nothing; orders are placed, their events come late
/// Operator: `doctor` (exit code 1) names the alarm; `/readyz` names it and `stepwise_part_up{part="broker"}` is 0 once an event waits
/// Within: 10 s
/// Ends: by itself, with the alarm; what waited is published
#[tokio::test]
async fn a_brokers_alarm_is_named_and_ends_with_the_alarm() {
    const ALARM: &str = "memory or disk alarm";
    const PART: &str = r#"stepwise_part_up{part="broker"}"#;
    let node = Node::start().await;
    let site = Site::new();
    let up = site.up(&["--amqp-url", &node.url]).await;
    let partner = Partner::connect(&node.url).await;
    partner.listen().await;
    let (first, _) = placed(&up).await;
    eventually("an event arrives", async || partner.subjects() == [first.as_str()]).await;
    let asked = ["--amqp-url", node.url.as_str()];
    assert_eq!(wrong(&doctor(&site, &asked).await.1), vec![]);

    node.control(&["set_vm_memory_high_watermark", "0"]).await;
    // No event waits yet, so only a check of the broker can show the alarm.
    let (code, lines) = doctor(&site, &asked).await;
    let found = wrong(&lines);
    assert_eq!((code, found.len(), found[0].0), (1, 1, "broker"), "{lines:?}");
    assert!(found[0].1.contains(ALARM), "{lines:?}");
    let mut orders = vec![first];
    // The broker reports the alarm to a connection when that publishes, and may still accept the message.
    eventually("/readyz to name the alarm", async || {
        orders.push(placed(&up).await.0);
        let (state, reason) = broker(&up).await;
        state == "away" && reason.contains(ALARM)
    })
    .await;
    let waits = placed(&up).await.0;
    assert!(up.metrics().await.contains(&format!("{PART} 0")));
    assert!(!partner.subjects().contains(&waits));

    node.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    orders.push(waits);
    let all_came = async || orders.iter().all(|order| partner.subjects().contains(order));
    eventually("what waited arrives", all_came).await;
    eventually("/readyz to report ok", async || broker(&up).await.0 == "ok").await;
    assert!(up.metrics().await.contains(&format!("{PART} 1")));
    let (code, lines) = doctor(&site, &asked).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    assert!(up.stop("TERM").await.success());
}

/// The most verbose log, because nobody may read personal data in a log of any level.
#[tokio::test]
async fn an_event_for_which_no_partner_has_a_queue_leaves_no_personal_data_in_the_log() {
    let (node, site, database) = (Node::start().await, Site::new(), Database::fresh(&[]).await);
    let given = ["--amqp-url", &node.url, "--database-url", &database.url(), "--log", "trace"];
    let up = site.up(&given).await;
    let ada = json!({"email": "ada@example.net", "password": "a lantern hums over wet slate",
        "firstName": "Adelheid", "lastName": "Byronova"});
    let (status, customer) = up.post("", "/v1/customers", &ada).await;
    assert_eq!(status, 201, "{customer}");
    let id = customer["id"].as_str().expect("a text");
    eventually("the event is published", async || {
        let published = sqlx::query_scalar(
            "-- test: whether a subject's event was published
             select exists (select from saga.feed where subject = $1)",
        );
        published.bind(id).fetch_one(database.pool()).await.expect("the feed can be read")
    })
    .await;
    assert!(up.stop("TERM").await.success());
    let log = site.log();
    assert!(log.contains("lapin"), "the client library logs something");
    let bytes = |text: &str| text.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
    for personal in ["ada@", "Adelheid", "Byronova", "a lantern hums", "\0guest\0guest"] {
        for form in [personal.to_owned(), bytes(personal)] {
            let line = log.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "{personal} stands in the log: {line:?}");
        }
    }
    database.close().await;
}
