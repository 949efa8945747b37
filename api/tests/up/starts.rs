//! The first start of `up`, the second start, and the stop.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;
use sqlx::PgPool;

use crate::site::{PATIENCE, Site, eventually, kill};

/// The payment methods that every demo customer has.
const METHODS: [&str; 9] = [
    "ok",
    "declined",
    "slow",
    "timeoutBefore",
    "timeoutAfter",
    "actsLate",
    "twice",
    "unsupported",
    "challenge",
];

#[tokio::test]
async fn the_first_start_leaves_a_shop_to_try_and_says_how() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let demo = &up.demo;
    let mode = fs::metadata(site.data.join("demo.json")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<&String> = demo.as_object().expect("an object").keys().collect();
    names.sort();
    let expected = [
        "amqpUrl",
        "baseUrl",
        "customers",
        "databaseUrl",
        "gatewayLedger",
        "gatewayUrl",
        "productIds",
        "tokens",
    ];
    assert_eq!(names, expected);
    assert_eq!(demo["amqpUrl"], Value::Null);
    assert!(fs::metadata(demo["gatewayLedger"].as_str().expect("a path")).is_ok());
    assert!(demo["productIds"].as_array().expect("a list").len() >= 20);
    let customers = demo["customers"].as_array().expect("a list");
    assert_eq!(customers.len(), 50);
    for customer in customers {
        let mut names: Vec<&String> = customer.as_object().expect("an object").keys().collect();
        names.sort();
        assert_eq!(names, ["customerId", "email", "paymentMethods", "shippingAddressId", "token"]);
        let methods = customer["paymentMethods"].as_object().expect("an object");
        assert_eq!(methods.len(), METHODS.len());
        assert!(METHODS.iter().all(|method| methods[*method].is_string()), "{methods:?}");
    }

    // Every token gives exactly the access of its role.
    for (role, expected) in [("admin", 200), ("operator", 200), ("viewer", 200), ("service", 403)] {
        assert_eq!(up.get(&up.token(role), "/v1/admin/sagas").await.0, expected, "{role}");
    }
    let stock = format!("/v1/products/{}/inventory", demo["productIds"][0].as_str().expect("id"));
    assert_eq!(up.get(&up.token("service"), &stock).await.0, 200);
    let token = customers[49]["token"].as_str().expect("a text");
    assert_eq!(up.get(token, "/v1/orders").await.0, 200);
    assert_eq!(up.get("nobody's", "/readyz").await.0, 200);

    for hint in ["/docs", "demo.json", "curl", "Idempotency-Key", "Prefer: wait=10"] {
        assert!(up.said.contains(hint), "{hint} in {}", up.said);
    }
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn the_second_start_finds_everything_as_it_was_and_takes_seconds() {
    let site = Site::new();
    let first = site.up(&[]).await;
    let before = first.demo.clone();
    assert!(first.stop("TERM").await.success());
    let second = site.up(&[]).await;
    // The promise is 5 s; the test allows more, because the machine may be busy with other tests.
    assert!(second.start < Duration::from_secs(15), "{:?}", second.start);
    for same in ["tokens", "productIds", "databaseUrl", "gatewayUrl", "gatewayLedger"] {
        assert_eq!(second.demo[same], before[same], "{same}");
    }
    let people = |demo: &Value| -> Vec<Value> {
        let mut people = demo["customers"].as_array().expect("a list").clone();
        people.iter_mut().for_each(|person| person["token"] = Value::Null);
        people
    };
    assert_eq!(people(&second.demo), people(&before));
    // A client that has read the file before the restart can continue with it.
    let token = before["customers"][0]["token"].as_str().expect("a text");
    assert_eq!(second.get(token, "/v1/orders").await.0, 200);
    assert!(second.stop("INT").await.success());
}

#[tokio::test]
async fn payments_are_compared_with_the_gateway_as_often_as_the_last_start_says() {
    let site = Site::new();
    for (minutes, expected) in [("5", Some("*/5 * * * *")), ("0", None)] {
        let up = site.up(&["--no-demo", "--reconcile-minutes", minutes]).await;
        let url = up.demo["databaseUrl"].as_str().expect("a text");
        let db = PgPool::connect(url).await.expect("connected");
        eventually("the schedule", async || {
            let schedule = "select cron from saga.schedule where name = 'reconcile-payments'";
            let cron: Option<String> =
                sqlx::query_scalar(schedule).fetch_optional(&db).await.expect("readable");
            cron.as_deref() == expected
        })
        .await;
        db.close().await;
        assert!(up.stop("TERM").await.success());
    }
}

#[tokio::test]
async fn a_stop_leaves_no_process_behind() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    assert!(site.processes().len() >= 3, "up, gateway and database: {:?}", site.processes());
    assert!(up.stop("TERM").await.success());
    assert_eq!(site.processes(), Vec::<u32>::new());
}

/// A terminal that closes hangs up twice, by its shell and by the kernel, and `timeout` terminates both its child and its group.
#[tokio::test]
async fn signals_that_come_together_are_one_and_leave_no_process_behind() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    let target = up.pid().to_string();
    kill("HUP", &target);
    assert!(up.stop("HUP").await.success());
    assert_eq!(site.processes(), Vec::<u32>::new());
    assert!(!site.log().contains("does not answer"), "{}", site.log());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    // The first `up` does not end, because its database does not stop.
    let pid = postmaster(&site);
    kill("STOP", &pid);
    let target = up.pid().to_string();
    kill("TERM", &target);
    eventually("the stop to begin", async || site.log().contains("stopping the database")).await;
    // Signals within a second of the first are the same stop.
    let insist = async {
        loop {
            kill("TERM", &target);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let status = tokio::select! {
        status = up.ended() => status,
        () = insist => unreachable!("it insists until it ends"),
    };
    kill("CONT", &pid);
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn an_empty_shop_has_keys_and_nothing_else() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    assert_eq!(up.demo["productIds"], Value::Array(Vec::new()));
    assert_eq!(up.demo["customers"], Value::Array(Vec::new()));
    assert_eq!(up.get(&up.token("operator"), "/v1/admin/sagas").await.0, 200);
    assert!(up.age() < PATIENCE);
    assert!(up.stop("TERM").await.success());
}

fn postmaster(site: &Site) -> String {
    let note = fs::read_to_string(site.data.join("postgres/data/postmaster.pid")).expect("it runs");
    note.lines().next().expect("a number").trim().to_owned()
}

#[tokio::test]
async fn at_a_signal_readiness_ends_before_the_listener_closes() {
    let site = Site::new();
    let up = site.up(&["--stop-delay", "2"]).await;
    assert_eq!(up.get("", "/readyz").await.0, 200);
    kill("TERM", &up.pid().to_string());
    let (ready, mut refused) = (format!("{}/readyz", up.base), 0);
    // A balancer opens a new connection for each look. It fails once the listener is closed.
    let look = async || reqwest::Client::new().get(&ready).send().await;
    while let Ok(answer) = look().await {
        match answer.status().as_u16() {
            200 => assert_eq!(refused, 0, "ready again after the signal"),
            status => {
                let problem: Value = answer.json().await.expect("a problem");
                assert_eq!((status, &problem["code"]), (503, &"stopping".into()));
                refused += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 10, "readiness was refused {refused} times before the listener closed");
    assert!(up.ended().await.success());
}
