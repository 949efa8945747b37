//! The demo customers order while the whole process group is killed again and again.
//!
//! `STEPWISE_KILLS` is the number of kills (5 by default). `STEPWISE_SEED` repeats the customers' choices and the times of the
//! kills. The interleaving of requests, workers and kills depends on the machine, so a seed does not repeat a run exactly.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgPool;
use stepwise_adapters::sandbox::{Timing, ledger};
use stepwise_engine::testing::Seed;
use stepwise_tests::money;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    books::{Books, Stock},
    customers::{Clients, ask_until_answered, shop_on},
    site::{Site, Up, eventually},
    subscriber::{Subscriber, subscribe},
};

/// Settings of `up`: no rate limits, and a shorter patience than a real shop's.
const OPTIONS: [&str; 4] = ["--rate-limit", "0", "--placement-patience", "20"];

/// The time from the last start (or the last new request) until all sagas have ended, not counting the payment methods' waits.
const RECOVERY: Duration = Duration::from_secs(15);

/// The time after which a payment method that never answers is given up.
const GIVEN_UP: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_ends_and_all_books_agree_whatever_is_killed_when() {
    let kills: u64 =
        std::env::var("STEPWISE_KILLS").map_or(5, |text| text.parse().expect("a number"));
    let seed = Seed::new();
    let mut random = seed.rng();
    let site = Site::new();
    let (clients, subscriber) = (Arc::default(), Arc::default());
    let mut seeded = None;
    for nth in 1..=kills {
        let up = Arc::new(site.up(&OPTIONS).await);
        if seeded.is_none() {
            seeded = Some(on_hand(&up).await);
        }
        let mut busy = JoinSet::new();
        busy.spawn(subscribe(Arc::clone(&up), Arc::clone(&subscriber)));
        for lane in 0..5 {
            let lane_random = StdRng::seed_from_u64(random.random());
            busy.spawn(shop_on(lane, Arc::clone(&up), Arc::clone(&clients), lane_random));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(150..2_000))).await;
        // Wait for orders even on a slow machine, because a kill without any order tests little.
        eventually("customers to order", async || accepted(&clients) >= 3 * nth).await;
        up.kill_group_now();
        busy.shutdown().await;
        Arc::into_inner(up).expect("nobody else holds it").kill_group().await;
    }
    let up = Arc::new(site.up(&OPTIONS).await);
    let reading = tokio::spawn(subscribe(Arc::clone(&up), Arc::clone(&subscriber)));
    ask_until_answered(&up, &clients).await;
    let end = End { site: &site, pool: pool(&up).await, clients, subscriber };
    end.quiet(RECOVERY + GIVEN_UP).await;
    end.check(seeded.as_ref(), seed).await;
    end.late_acts().await;
    // These requests may have had no effect.
    end.quiet(RECOVERY).await;
    end.check(seeded.as_ref(), seed).await;
    reading.abort();
    end.pool.close().await;
}

/// The number of orders accepted so far.
fn accepted(clients: &Mutex<Clients>) -> u64 {
    let (placed, _) = clients.lock().expect("no panic").told();
    placed.values().filter(|orders| !orders.is_empty()).count() as u64
}

async fn pool(up: &Up) -> PgPool {
    PgPool::connect(up.demo["databaseUrl"].as_str().expect("a text")).await.expect("connected")
}

/// The quantity on hand of each product.
async fn on_hand(up: &Up) -> BTreeMap<String, i64> {
    let pool = pool(up).await;
    let statement = "select product_id::text, on_hand::bigint from shop.inventory";
    let rows: Vec<(String, i64)> =
        sqlx::query_as(statement).fetch_all(&pool).await.expect("readable");
    pool.close().await;
    rows.into_iter().collect()
}

/// The state after the customers have stopped sending requests.
struct End<'a> {
    site: &'a Site,
    pool: PgPool,
    clients: Arc<Mutex<Clients>>,
    subscriber: Arc<Mutex<Subscriber>>,
}

impl End<'_> {
    /// Waits until every saga has ended and its events were received, for `limit` at most.
    async fn quiet(&self, limit: Duration) {
        let begun = Instant::now();
        let mut open = self.open().await;
        while !open.is_empty() && begun.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
            open = self.open().await;
        }
        assert!(open.is_empty(), "still open after {limit:?}: {open:#?}");
        println!("every saga ended after {:?}, allowed were {limit:?}", begun.elapsed());
        let waiting = "select count(*) from saga.outbox";
        eventually("every message to be published", async || self.count(waiting).await == 0).await;
        eventually("every event to be received", async || {
            let received = self.subscriber.lock().expect("no panic").ids();
            self.published().await.iter().all(|id| received.contains(id))
        })
        .await;
    }

    /// Waits for all late acts, or until none can happen any more (a gateway that was killed meanwhile does not act).
    /// A late act may happen after the end of its saga.
    async fn late_acts(&self) {
        let deadline = Instant::now() + Timing::default().acts_late + Duration::from_secs(1);
        let acts = || {
            let lines = self.lines();
            let late = |line: &&ledger::Line| line.reference.starts_with("pi_actsLate_");
            let count = |op| lines.iter().filter(late).filter(|line| line.op == op).count();
            (count(ledger::Op::Create), count(ledger::Op::Confirm))
        };
        eventually("the time of late acts to be over", async || {
            let (begun, done) = acts();
            done == begun || Instant::now() >= deadline
        })
        .await;
        let (begun, done) = acts();
        println!("{done} of {begun} late acts have come");
    }

    async fn check(&self, seeded: Option<&BTreeMap<String, i64>>, seed: Seed) {
        let books = self.join(seeded.expect("there was a start")).await;
        assert_eq!(books.faults(), Vec::<String>::new(), "{seed}");
        let ended = |end: &str| books.orders.values().filter(|(status, _)| status == end).count();
        let (placed, cancelled) = (ended("pending"), ended("cancelled"));
        let orders = books.orders.len();
        println!(
            "{orders} orders, {placed} placed, {cancelled} cancelled, {} events",
            books.events.len()
        );
        assert!(
            placed * 3 >= orders && (cancelled >= 1 || orders < 100),
            "vacuous: of {orders} orders {placed} were placed and {cancelled} cancelled"
        );
    }

    /// The sagas that have not ended, and what they wait for.
    async fn open(&self) -> Vec<String> {
        let statement = "select to_jsonb(i)::text from saga.instance i where status not in ('completed', 'unwound') and name <> 'cart-expiry'";
        sqlx::query_scalar(statement).fetch_all(&self.pool).await.expect("readable")
    }

    async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.expect("readable")
    }

    async fn published(&self) -> Vec<String> {
        let statement = "select message_id::text from saga.feed";
        sqlx::query_scalar(statement).fetch_all(&self.pool).await.expect("readable")
    }

    fn lines(&self) -> Vec<ledger::Line> {
        ledger::read(&self.site.data.join("gateway-ledger.jsonl")).expect("the gateway's own book")
    }

    async fn join(&self, seeded: &BTreeMap<String, i64>) -> Books {
        let orders: Vec<(String, String, i64)> =
            sqlx::query_as(r#"select order_id::text, status, published_count from shop."order""#)
                .fetch_all(&self.pool)
                .await
                .expect("readable");
        let stock: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            r#"select i.product_id::text, i.on_hand::bigint, i.reserved::bigint,
                coalesce(sum(l.quantity) filter (where o.status = 'pending'), 0)::bigint
            from shop.inventory i left join shop.order_line l using (product_id) left join shop."order" o using (order_id)
            group by i.inventory_id"#,
        )
        .fetch_all(&self.pool)
        .await
        .expect("readable");
        let stock = stock.into_iter().map(|(product, on_hand, reserved, held)| {
            let seeded = seeded.get(&product).copied().unwrap_or(0);
            Stock { product, seeded, on_hand, reserved, held }
        });
        let lines = self.lines();
        let mut live = BTreeMap::new();
        for booked in ledger::authorizations(&lines).into_values() {
            *live.entry(booked.order_id.clone()).or_insert(0) += usize::from(booked.is_live());
        }
        let orders = orders.into_iter().map(|(order, status, published)| {
            (order, (status, u64::try_from(published).expect("a count")))
        });
        let (answers, cancels) = self.clients.lock().expect("no panic").told();
        let events = self.subscriber.lock().expect("no panic").received.clone();
        Books {
            answers,
            cancels,
            orders: orders.collect(),
            live,
            events,
            booked: money::booked(&self.pool).await.expect("readable"),
            ledger: ledger::moves(&lines),
            stock: stock.collect(),
        }
    }
}
