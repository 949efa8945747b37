//! Orders of the demo customers while the whole process group is killed, again and again, at seeded moments.
//!
//! `STEPWISE_KILLS` says how often (5 unless told otherwise), `STEPWISE_SEED` replays a run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_adapters::sandbox::ledger;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    books::Books,
    site::{Site, Up, eventually},
};

/// How often each method is chosen, of 100.
const METHODS: [(&str, u32); 7] = [
    ("ok", 52),
    ("twice", 12),
    ("declined", 12),
    ("slow", 10),
    ("timeoutAfter", 6),
    ("actsLate", 4),
    ("timeoutBefore", 4),
];

/// An order that a client has asked for: the same request until it is answered.
#[derive(Clone)]
struct Wish {
    customer: usize,
    key: String,
    body: Value,
}

/// What the clients know.
#[derive(Default)]
struct Clients {
    /// Key -> (the wish, the operation, the order).
    acknowledged: BTreeMap<String, (Wish, String, String)>,
    /// Asked for and not answered: asked again after the next start.
    unanswered: Vec<Wish>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_ends_and_all_books_agree_whatever_is_killed_when() {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (seed, kills) = (
        number("STEPWISE_SEED").unwrap_or_else(rand::random),
        number("STEPWISE_KILLS").unwrap_or(5),
    );
    println!("STEPWISE_SEED={seed} STEPWISE_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::new();
    let clients = Arc::new(Mutex::new(Clients::default()));
    let subscriber = Arc::new(Mutex::new(Subscriber::default()));
    for _ in 0..kills {
        let up = Arc::new(site.up(&["--rate-limit", "0"]).await);
        let mut busy = JoinSet::new();
        busy.spawn(subscribe(Arc::clone(&up), Arc::clone(&subscriber)));
        for lane in 0..5 {
            let lane_random = StdRng::seed_from_u64(random.random());
            busy.spawn(order_on(lane, Arc::clone(&up), Arc::clone(&clients), lane_random));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(150..2_000))).await;
        up.kill_group_now();
        busy.shutdown().await;
        Arc::into_inner(up).expect("nobody else holds it").kill_group().await;
    }
    let up = Arc::new(site.up(&["--rate-limit", "0"]).await);
    let reading = tokio::spawn(subscribe(Arc::clone(&up), Arc::clone(&subscriber)));
    ask_again(&up, &clients).await;
    let pool =
        PgPool::connect(up.demo["databaseUrl"].as_str().expect("a text")).await.expect("connected");
    // 15 s after the last start, methods' own waits aside: timeoutBefore is tried four times, 5 s each, before it is given up.
    eventually("every saga to end", async || open_sagas(&pool).await == 0).await;
    eventually("every message to be published", async || unpublished(&pool).await == 0).await;
    eventually("every event to be received", async || {
        let received = subscriber.lock().expect("no panic").ids();
        published(&pool).await.iter().all(|id| received.contains(id))
    })
    .await;
    let books = join(&site, &pool, &clients, &subscriber).await;
    assert_eq!(books.faults(), Vec::<String>::new(), "seed {seed}");
    let placed = books.orders.values().filter(|status| *status == "pending").count();
    println!(
        "{} acknowledged, {placed} placed, {} events",
        books.acknowledged.len(),
        books.events.len()
    );
    assert!(
        placed >= 10 && placed * 3 >= books.acknowledged.len(),
        "vacuous: {placed} orders were placed"
    );
    reading.abort();
    pool.close().await;
}

/// One client: orders for the customers of its lane, one after the other, until the server is gone.
async fn order_on(lane: usize, up: Arc<Up>, clients: Arc<Mutex<Clients>>, mut random: StdRng) {
    loop {
        let customer = lane * 10 + random.random_range(0..10);
        let wish = wish(&up, customer, &mut random);
        let who = up.demo["customers"][customer]["token"].as_str().expect("a text").to_owned();
        let cart = format!(
            "/v1/customers/{}/cart/items",
            up.demo["customers"][customer]["customerId"].as_str().expect("a text")
        );
        let product = &up.demo["productIds"][random.random_range(0..20)];
        let item = json!({ "productId": product, "quantity": random.random_range(1..4) });
        match up.try_post(&who, &cart, &Uuid::now_v7().to_string(), &item).await {
            // An order is being placed from it already, or the server is on its way down.
            Ok((200 | 201, _)) => {}
            Ok(_) => continue,
            Err(_) => return,
        }
        if !ask(&up, &clients, wish).await {
            return;
        }
    }
}

fn wish(up: &Up, customer: usize, random: &mut StdRng) -> Wish {
    let mut lot = random.random_range(0..100);
    let method = METHODS.iter().find(|(_, weight)| {
        let hit = lot < *weight;
        lot = lot.saturating_sub(*weight);
        hit
    });
    let who = &up.demo["customers"][customer];
    let body = json!({
        "customerId": who["customerId"],
        "shippingAddressId": who["shippingAddressId"],
        "paymentMethodId": who["paymentMethods"][method.map_or("ok", |(name, _)| name)],
    });
    Wish { customer, key: Uuid::now_v7().to_string(), body }
}

/// Asks once; false if nobody answered.
async fn ask(up: &Up, clients: &Mutex<Clients>, wish: Wish) -> bool {
    let who = up.demo["customers"][wish.customer]["token"].as_str().expect("a text").to_owned();
    // Before it is sent: a client that dies with its request still knows that it asked.
    clients.lock().expect("no panic").unanswered.push(wish.clone());
    let Ok((status, answer)) = up.try_post(&who, "/v1/orders", &wish.key, &wish.body).await else {
        return false;
    };
    if status >= 500 {
        return true;
    }
    let mut clients = clients.lock().expect("no panic");
    clients.unanswered.retain(|open| open.key != wish.key);
    if status == 202 {
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        let known = (wish.clone(), text("id"), text("subject"));
        if let Some(earlier) = clients.acknowledged.insert(wish.key.clone(), known) {
            assert_eq!(earlier.1, text("id"), "one key, one operation");
        }
    }
    true
}

/// What was not answered is asked again under the same key; what was, too: the answer is the same.
async fn ask_again(up: &Up, clients: &Mutex<Clients>) {
    let again = {
        let clients = clients.lock().expect("no panic");
        let answered = clients.acknowledged.values().map(|known| known.0.clone()).take(20);
        clients.unanswered.iter().cloned().chain(answered).collect::<Vec<_>>()
    };
    for wish in again {
        assert!(ask(up, clients, wish).await, "it is up");
    }
}

/// A subscriber that remembers where it was.
#[derive(Default)]
struct Subscriber {
    last_event_id: Option<String>,
    received: Vec<(String, u64, String, String)>,
}

impl Subscriber {
    fn ids(&self) -> std::collections::BTreeSet<String> {
        self.received.iter().map(|event| event.3.clone()).collect()
    }

    fn take(&mut self, id: &str, event: &Value) {
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        let sequence = event["sequence"].as_u64().expect("a number");
        self.received.push((text("subject"), sequence, text("type"), text("id")));
        self.last_event_id = Some(id.to_owned());
    }
}

async fn subscribe(up: Arc<Up>, subscriber: Arc<Mutex<Subscriber>>) {
    let last = subscriber.lock().expect("no panic").last_event_id.clone();
    let Ok(response) = up.stream("/v1/events/stream", last.as_deref()).await else { return };
    let mut bytes = response.bytes_stream();
    let (mut text, mut id) = (String::new(), String::new());
    while let Some(Ok(more)) = bytes.next().await {
        text.push_str(&String::from_utf8_lossy(&more));
        while let Some(end) = text.find('\n') {
            let line: String = text.drain(..=end).collect();
            if let Some(value) = line.strip_prefix("id:") {
                id = value.trim().to_owned();
            } else if let Some(value) = line.strip_prefix("data:")
                && let Ok(event) = serde_json::from_str::<Value>(value.trim())
            {
                subscriber.lock().expect("no panic").take(&id, &event);
            }
        }
    }
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.expect("readable")
}

async fn open_sagas(pool: &PgPool) -> i64 {
    count(pool, "select count(*) from saga.instance where status not in ('completed', 'unwound')")
        .await
}

async fn unpublished(pool: &PgPool) -> i64 {
    count(pool, "select count(*) from saga.outbox").await
}

async fn published(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select message_id::text from saga.feed")
        .fetch_all(pool)
        .await
        .expect("readable")
}

async fn join(
    site: &Site,
    pool: &PgPool,
    clients: &Mutex<Clients>,
    subscriber: &Mutex<Subscriber>,
) -> Books {
    let orders: Vec<(String, String)> =
        sqlx::query_as(r#"select order_id::text, status from shop."order""#)
            .fetch_all(pool)
            .await
            .expect("readable");
    let stock = sqlx::query_as(
        r#"select i.product_id::text, i.reserved::bigint, coalesce(sum(l.quantity) filter (where o.status = 'pending'), 0)::bigint
        from shop.inventory i left join shop.order_line l using (product_id) left join shop."order" o using (order_id)
        group by i.product_id, i.reserved"#,
    )
    .fetch_all(pool)
    .await
    .expect("readable");
    let live = ledger::live_by_order(&site.data.join("gateway-ledger.jsonl"))
        .expect("the gateway's own book");
    let clients = clients.lock().expect("no panic");
    Books {
        acknowledged: clients.acknowledged.values().map(|known| known.2.clone()).collect(),
        orders: orders.into_iter().collect(),
        live: live.into_iter().map(|(order, booked)| (order, booked.len())).collect(),
        events: subscriber.lock().expect("no panic").received.clone(),
        stock,
    }
}
