//! Many log-ins at once, beside customers who order: hashing passwords must use only the processor.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::site::{Site, Up, eventually};

const SHOPPERS: usize = 12;
const LOG_INS: usize = 60;
/// The length of a turn, and the pause between two orders of a shopper.
const TURN: Duration = Duration::from_millis(1_500);
const PACE: Duration = Duration::from_millis(400);

/// Places an order. Returns the operation, and how long placeOrder took to answer.
async fn order(up: &Up, customer: &Value, product: &Value) -> (String, Duration) {
    let text = |name: &str| customer[name].as_str().expect("a text");
    let items = format!("/v1/customers/{}/cart/items", text("customerId"));
    let item = json!({ "productId": product, "quantity": 1 });
    let (status, cart) = up.post(text("token"), &items, &item).await;
    assert_eq!(status, 200, "{cart}");
    let body = json!({
        "customerId": customer["customerId"],
        "shippingAddressId": customer["shippingAddressId"],
        "paymentMethodId": customer["paymentMethods"]["ok"],
    });
    let began = Instant::now();
    let (status, begun) = up.post(text("token"), "/v1/orders", &body).await;
    let took = began.elapsed();
    assert_eq!(status, 202, "{begun}");
    (begun["id"].as_str().expect("a text").to_owned(), took)
}

/// Lets all shoppers order for one turn, each at the same pace. Returns how long each placeOrder took.
async fn shop(up: &Up) -> Vec<Duration> {
    let began = Instant::now();
    let each = (0..SHOPPERS).map(async |nth| {
        let (customer, product) = (&up.demo["customers"][nth], &up.demo["productIds"][nth]);
        let token = customer["token"].as_str().expect("a text");
        let mut took = Vec::new();
        let mut next = began + PACE * u32::try_from(nth).expect("few") / 12;
        while next < began + TURN {
            sleep_until(next).await;
            let (operation, time) = order(up, customer, product).await;
            took.push(time);
            next = (next + PACE).max(Instant::now());
            sleep_until(next).await;
            // The cart accepts changes again when the order is placed.
            up.succeeded(token, &operation).await;
        }
        took
    });
    join_all(each).await.concat()
}

/// Like [`shop`], while sixty log-ins run all the time. Also returns how many log-ins were answered.
async fn shop_beside_log_ins(up: &Up, account: &Value) -> (Vec<Duration>, usize) {
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let log_ins = join_all((0..LOG_INS).map(async |_| {
        while !is_over.load(Ordering::Relaxed) {
            let (status, session) = up.post("", "/v1/sessions", account).await;
            assert_eq!(status, 201, "{session}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let shopping = async {
        // Wait for the first answers, so that the log-ins do not all begin at the same moment as the orders.
        eventually("the first log-ins", async || answered.load(Ordering::Relaxed) >= 5).await;
        let took = shop(up).await;
        is_over.store(true, Ordering::Relaxed);
        took
    };
    let (took, _) = tokio::join!(shopping, log_ins);
    (took, answered.load(Ordering::Relaxed))
}

/// Has the front door open all its connections. In a debug build each of them takes long, because it proves its password with thousands of hashes.
async fn open_connections(up: &Up) {
    let mut undisturbed = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while undisturbed < 5 {
        assert!(Instant::now() < deadline, "the connections are not open after a minute");
        let each = (0..3 * 20).map(async |nth| {
            let customer = &up.demo["customers"][nth % SHOPPERS];
            let text = |name: &str| customer[name].as_str().expect("a text");
            let cart = format!("/v1/customers/{}/cart", text("customerId"));
            up.get(text("token"), &cart).await.0 == 200
        });
        let found = join_all(each).await.into_iter().all(|found| found);
        undisturbed = if found { undisturbed + 1 } else { 0 };
    }
}

fn quantile(took: &mut [Duration], per_thousand: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * per_thousand / 1_000).min(took.len() - 1)]
}

/// Takes half a minute, because a p99 needs some hundred orders in both cases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placing_an_order_waits_for_nobody_who_logs_in() {
    let turns =
        if std::env::var("STEPWISE_FAULTS").is_ok_and(|size| size == "full") { 20 } else { 6 };
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let account =
        json!({ "email": "ada@example.org", "password": "a lantern hums over wet slate" });
    let mut new = account.clone();
    new["firstName"] = "Ada".into();
    new["lastName"] = "L".into();
    let (status, registered) = up.post("", "/v1/customers", &new).await;
    assert_eq!(status, 201, "{registered}");
    open_connections(&up).await;
    shop(&up).await;
    let (mut quiet, mut busy, mut log_ins) = (Vec::new(), Vec::new(), 0);
    // Measure both cases in turns, so that other load on this machine affects both.
    for _ in 0..turns {
        quiet.extend(shop(&up).await);
        let (took, done) = shop_beside_log_ins(&up, &account).await;
        busy.extend(took);
        log_ins += done;
    }
    let [quiet_50, quiet_99] = [500, 990].map(|part| quantile(&mut quiet, part));
    let [busy_50, busy_99] = [500, 990].map(|part| quantile(&mut busy, part));
    println!(
        "placeOrder quiet p50 {quiet_50:?} p99 {quiet_99:?} of {}; beside {log_ins} log-ins p50 {busy_50:?} p99 {busy_99:?} of {}",
        quiet.len(),
        busy.len()
    );
    assert!(log_ins >= 10 * turns, "{log_ins} log-ins");
    // The limit allows for the processor time of the log-ins on two cores that also run the gateway, Postgres and this test. If each
    // log-in held a connection while it waits for its turn, an order would wait for half a second in the median.
    let [slack_50, slack_99] = [200, 700].map(Duration::from_millis);
    assert!(busy_50 < quiet_50 * 3 / 2 + slack_50, "{busy_50:?} instead of {quiet_50:?}");
    assert!(busy_99 < quiet_99 * 3 / 2 + slack_99, "{busy_99:?} instead of {quiet_99:?}");
    assert!(up.stop("TERM").await.success());
}
