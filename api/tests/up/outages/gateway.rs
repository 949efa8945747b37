//! The payment gateway is away, slow or faulty while orders are placed and cancelled. Each order continues by itself when the gateway is back.
//!
//! The test has one shop, a gateway process and a proxy between them, and runs one outage after the other. Each outage begins while some
//! calls are in flight (creations, confirms and voids), and more orders and cancellations come while it lasts. With
//! `STEPWISE_FAULTS=full` each lasts as long as stated, which is minutes.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_tests::proxy::{Network, Proxy};
use tokio::{process::Child, time::Instant};

use crate::{
    doctor::{doctor, wrong},
    site::{Site, Up, eventually, kill},
};

/// The time from the gateway's return until all sagas have ended.
const BACK: Duration = Duration::from_secs(10);

/// The steps of an outage, with the duration of each.
struct Outage {
    name: &'static str,
    steps: Vec<(Fault, Duration)>,
}

#[derive(Clone, Copy)]
enum Fault {
    Network(Network),
    /// The gateway's process is killed, and started again at the end.
    Killed,
}

fn outages() -> Vec<Outage> {
    let second = Duration::from_secs(1);
    let outage = |name, faults: &[Fault], times: u32| Outage {
        name,
        steps: faults.iter().map(|fault| (*fault, second * times)).collect(),
    };
    let network = |network| Fault::Network(network);
    let answers = [500, 502, 503].map(|status| network(Network::Status(status)));
    let mut outages = vec![
        outage("it answers 500, 502 and 503", &answers, 1),
        outage("its connections are reset", &[network(Network::Reset)], 3),
        outage("it acts, and its answers are lost", &[network(Network::ResetAnswer)], 1),
        outage("it refuses connections", &[network(Network::Refused)], 3),
        outage("it accepts and never answers", &[network(Network::Silent)], 3),
        outage("it is killed and started again", &[Fault::Killed], 3),
        outage("it answers reads, and 503 to writes", &[network(Network::WriteStatus(503))], 3),
    ];
    if std::env::var("STEPWISE_FAULTS").is_ok_and(|size| size == "full") {
        outages.extend([
            outage("it answers 500, 502 and 503 for 30 s", &answers, 10),
            outage("it answers 500, 502 and 503 for 5 min", &answers, 100),
            outage("it refuses connections for 30 s", &[network(Network::Refused)], 30),
            outage(
                "it answers reads, and 503 to writes, for 30 s",
                &[network(Network::WriteStatus(503))],
                30,
            ),
            outage("it accepts and never answers for 45 s", &[network(Network::Silent)], 45),
        ]);
    }
    outages
}

/// The shop, its gateway and the proxy between them.
struct Scene {
    site: Site,
    up: Up,
    gateway: Child,
    proxy: Proxy,
    pool: PgPool,
}

/// A request of a customer.
#[derive(Clone)]
struct Asked {
    order: String,
    operation: String,
    token: String,
}

impl Scene {
    async fn open() -> Self {
        let site = Site::new();
        // Its folder stays, because it has the gateway's key.
        let up = site.up(&["--no-demo"]).await;
        assert!(up.stop("TERM").await.success());
        let gateway = site.role(&["gateway"]);
        eventually("the gateway's note", async || site.gateway_lives()).await;
        let note: Value = serde_json::from_slice(
            &std::fs::read(site.data.join("gateway.json")).expect("it was written"),
        )
        .expect("whole JSON");
        let address = note["address"].as_str().expect("a text").parse().expect("an address");
        let proxy = Proxy::before(address).await;
        let url = format!("http://{}", proxy.address);
        let up = site.up(&["--gateway-url", &url, "--rate-limit", "0"]).await;
        let database = up.demo["databaseUrl"].as_str().expect("a text");
        let pool = PgPool::connect(database).await.expect("connected");
        Self { site, up, gateway, proxy, pool }
    }

    /// Places an order of one customer.
    async fn place(&self, customer: usize) -> Asked {
        let (order, operation, token) = self.up.order_as(customer, "ok").await;
        Asked { order, operation, token }
    }

    async fn place_all(&self, customers: std::ops::Range<usize>) -> Vec<Asked> {
        join_all(customers.map(|customer| self.place(customer))).await
    }

    async fn cancel_all(&self, placed: &[Asked]) -> Vec<Asked> {
        join_all(placed.iter().map(async |asked| {
            let path = format!("/v1/orders/{}/cancel", asked.order);
            let body = json!({ "reason": "changed my mind" });
            let (status, begun) = self.up.post(&asked.token, &path, &body).await;
            assert_eq!(status, 202, "{begun}");
            let operation = begun["id"].as_str().expect("a text").to_owned();
            Asked { operation, ..asked.clone() }
        }))
        .await
    }

    async fn succeeded(&self, all: &[Asked]) {
        join_all(all.iter().map(|asked| self.up.succeeded(&asked.token, &asked.operation))).await;
    }

    async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Network(network) => self.proxy.set(network),
            Fault::Killed => {
                kill("KILL", &self.gateway.id().expect("it runs").to_string());
                self.gateway.wait().await.expect("it was ours");
            }
        }
    }

    async fn end(&mut self, fault: Fault) {
        self.proxy.set(Network::Whole);
        if matches!(fault, Fault::Killed) {
            self.gateway = self.site.role(&["gateway"]);
            eventually("the gateway", async || self.site.gateway_lives()).await;
        }
    }

    async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.expect("readable")
    }

    /// The number of steps whose outcome was unknown at some time. Each may be looked up once.
    async fn unknown_steps(&self) -> i64 {
        self.count(
            "select count(distinct (saga_id, step_no)) from saga.journal
             where kind = 'attempt' and event ->> 'outcome' = 'unknown'",
        )
        .await
    }

    /// The number of operations of each kind at the gateway, for each order.
    fn booked(&self) -> BTreeMap<(String, String), usize> {
        let mut booked = BTreeMap::new();
        for line in self.site.ledger() {
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            *booked.entry((text("orderId"), text("op"))).or_default() += 1;
        }
        booked
    }

    async fn gateway_state(&self) -> Value {
        self.up.get("", "/readyz").await.1["gateway"]["state"].clone()
    }
}

/// Sends 14 orders and 6 cancellations during an outage, and checks that all are done after it, each operation once.
async fn outage(scene: &mut Scene, outage: &Outage) {
    println!("{}", outage.name);
    let earlier = scene.place_all(0..6).await;
    scene.succeeded(&earlier).await;
    let (calls, unknown) = (scene.proxy.forwarded(), scene.unknown_steps().await);

    let mut cancelled = scene.cancel_all(&earlier[..4]).await;
    let mut placed = scene.place_all(6..16).await;
    for (nth, (fault, time)) in outage.steps.iter().enumerate() {
        scene.begin(*fault).await;
        let until = Instant::now() + *time;
        if nth == 0 {
            placed.extend(scene.place_all(16..20).await);
            cancelled.extend(scene.cancel_all(&earlier[4..]).await);
        }
        tokio::time::sleep_until(until).await;
    }
    let shown = scene.gateway_state().await;
    if outage.name == "it refuses connections" {
        let gateway = format!("http://{}", scene.proxy.address);
        let (code, lines) = doctor(&scene.site, &["--gateway-url", &gateway]).await;
        let is_named =
            wrong(&lines).iter().any(|(_, detail)| detail.contains("has not answered for"));
        assert!(code == 1 && is_named, "doctor says what the breaker knows: {lines:?}");
    }
    let last = outage.steps[outage.steps.len() - 1].0;
    scene.end(last).await;
    let back = Instant::now();
    scene.succeeded(&placed).await;
    scene.succeeded(&cancelled).await;
    let took = back.elapsed();
    let unknown = usize::try_from(scene.unknown_steps().await - unknown).expect("a small number");
    let calls = scene.proxy.forwarded() - calls;
    println!("all done {took:?} after its return, {calls} calls, {unknown} unknown steps");

    let lasted: Duration = outage.steps.iter().map(|(_, time)| *time).sum();
    let allowed = if lasted > Duration::from_secs(60) { lasted } else { BACK };
    assert!(took <= allowed, "{}: {took:?}", outage.name);
    // An order is a creation and a confirm, a cancellation is a void. An unknown outcome is looked up.
    let needed = 2 * placed.len() + cancelled.len();
    let most = needed + needed / 10 + 2 * unknown;
    assert!(calls <= most, "{}: {calls} calls reached the gateway, not {most}", outage.name);
    let booked = scene.booked();
    let times = |order: &Asked, op: &str| {
        booked.get(&(order.order.clone(), op.to_owned())).copied().unwrap_or_default()
    };
    for order in placed.iter().chain(&earlier) {
        assert_eq!((times(order, "create"), times(order, "confirm")), (1, 1), "{}", order.order);
    }
    for order in &placed {
        assert_eq!(times(order, "cancel"), 0, "{}", order.order);
    }
    for order in &cancelled {
        assert_eq!(times(order, "cancel"), 1, "{}", order.order);
    }
    if lasted >= Duration::from_secs(2) && !matches!(last, Fault::Network(Network::Silent)) {
        assert_eq!(shown, "away", "{}: /readyz says so", outage.name);
    }
    eventually("/readyz to report ok", async || scene.gateway_state().await == "ok").await;
}

/// Fault: gateway: it answers 500, 502 or 503 to everything or to writes only, resets or refuses connections, loses answers, never answers, or is killed and started again
/// Customer: the order stays `placing`, a cancellation stays open; both are done when the gateway is back
/// Operator: `/readyz` says that the gateway is away, `stepwise_gateway_answers` is 0, one line in the log when it begins and one when it ends
/// Within: 5 s; where it accepts and never answers, three time-outs of 5 s
/// Ends: by itself, within 10 s of its return; one authorization, one void each
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outage_of_the_gateway_fails_an_order_or_moves_money_twice() {
    let mut scene = Scene::open().await;
    for each in outages() {
        outage(&mut scene, &each).await;
    }
    // A cart's saga sleeps for a month.
    let needs_a_person = "select count(*) from saga.instance
        where name <> 'cart-expiry' and (status <> 'completed' or waiting_on is not null)";
    assert_eq!(scene.count(needs_a_person).await, 0);
    let said = |what: &str| scene.site.log().matches(what).count();
    let (opened, closed) =
        (said("the payment gateway does not answer"), said("the payment gateway answers again"));
    assert_eq!(opened, closed, "one line when it begins, one when it ends");
    assert!(opened <= outages().len(), "{opened} lines");
    assert!(opened > 0);
    let Scene { up, pool, .. } = scene;
    pool.close().await;
    assert!(up.stop("TERM").await.success());
}
