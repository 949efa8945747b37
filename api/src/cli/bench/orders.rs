//! The bench of orders over HTTP: it runs the whole shop with `up`, with the client, Postgres and the gateway on the same machine.

use std::{
    collections::{HashMap, VecDeque},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
};
use stepwise_workflows::{
    Config, Shop,
    seed::bulk::{self, Crowd, CrowdCustomer},
};
use tokio::{process::Command, task::JoinSet};
use uuid::Uuid;

use super::{Ground, Line, Report, floor};

/// The number of customers and of products.
const CROWD: usize = 1_000;
const LINES: usize = 3;

pub(super) async fn report(
    ground: &Ground,
    (seconds, clients): (u32, usize),
    rate: Option<u32>,
) -> anyhow::Result<Report> {
    let floor = ground.floor(&floor::ORDERS, (2, 10, None)).await?;
    let shop = Running::start(ground, CROWD).await?;
    let span = Duration::from_secs(seconds.into());
    shop.flood(clients, Duration::from_secs(5)).await.context("warming up")?;
    let flood = shop.flood(clients, span).await?;
    let half = flood.succeeded as f64 / span.as_secs_f64() / 2.0;
    let rate = rate.map_or(half, f64::from);
    let steady = shop.steady(rate, span.min(Duration::from_secs(20))).await?;
    ground.stop_shop().await?;
    let again = ground.floor(&floor::ORDERS, (2, 10, None)).await?;
    let floor_per_s = (floor.per_s + again.per_s) / 2.0;
    let orders_per_s = flood.succeeded as f64 / span.as_secs_f64();
    let ms = |took: &Histogram<u64>, quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Report(vec![
        Line::new("clients", "", clients as f64),
        Line::new("seconds", "", f64::from(seconds)),
        Line::new("orders_per_s", "succeeded within the time", orders_per_s),
        Line::new("backlog_s", "until the last one placed had ended", flood.backlog.as_secs_f64()),
        Line::new("p50_ms_flood", "of the 202, at full load", ms(&flood.took, 0.5)),
        Line::new("p99_ms_flood", "", ms(&flood.took, 0.99)),
        Line::new("rate", "orders/s of the next two lines", rate),
        Line::new("p50_ms", "of the 202, at this rate", ms(&steady, 0.5)),
        Line::new("p99_ms", "", ms(&steady, 0.99)),
        Line::new("floor_per_s", "pgbench, 2 transactions of 17 statements per order", floor_per_s),
        Line::new("floor_ratio", "", orders_per_s / floor_per_s),
    ]))
}

/// A `stepwise up` process on the bench's cluster, with many customers.
pub(super) struct Running {
    pub(super) base_url: String,
    pub(super) pool: PgPool,
    pub(super) crowd: Arc<Crowd>,
    client: Client,
    shoppers: Arc<Mutex<Shoppers>>,
}

/// The customers by what their carts are like, so that the bench looks at few of them: its own statements cost what orders could use.
#[derive(Default)]
struct Shoppers {
    /// Their carts are filled.
    ready: VecDeque<CrowdCustomer>,
    /// They have ordered since their carts were filled.
    ordering: HashMap<Uuid, CrowdCustomer>,
}

impl Shoppers {
    fn next(&mut self) -> Option<CrowdCustomer> {
        let customer = self.ready.pop_front()?;
        self.ordering.insert(customer.customer_id, customer.clone());
        Some(customer)
    }
}

struct Flood {
    succeeded: u64,
    backlog: Duration,
    took: Histogram<u64>,
}

impl Running {
    /// Starts `up` and fills it with customers, whose carts have three lines, and with so many products.
    pub(super) async fn start(ground: &Ground, products: usize) -> anyhow::Result<Self> {
        let folder = ground.folder.join("shop");
        let child = Command::new(std::env::current_exe()?)
            .args(["up", "--port", "0", "--rate-limit", "0", "--log", "warn"])
            .args(["--database-url", &ground.cluster.url(), "--data-dir"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        *ground.shop.lock().await = Some(child);
        let client = Client::builder().pool_max_idle_per_host(512).build()?;
        let base_url = ready(&client, &folder.join("demo.json")).await?;
        let shop = Shop::new(
            Config::default(),
            Arc::new(FileKeyStore::open(&folder.join("keys"))?),
            Arc::new(StripeGateway::new(GatewayConfig::new(
                base_url.parse()?,
                String::new().into(),
            ))?),
            Arc::new(FileMailer::new(&folder.join("mail"))?),
            stepwise_workflows::reactions::of_event,
        );
        let mut tx = ground.pool.begin().await?;
        let crowd = bulk::crowd(&shop, &mut tx, CROWD, products).await?;
        tx.commit().await?;
        sqlx::query("analyze").execute(&ground.pool).await?;
        let this = Self {
            base_url,
            pool: ground.pool.clone(),
            crowd: Arc::new(crowd),
            client,
            shoppers: Arc::default(),
        };
        let all = this.crowd.customers.iter().map(|it| (it.customer_id, it.clone()));
        locked(&this.shoppers).ordering.extend(all);
        this.refill_ended().await?;
        Ok(this)
    }

    /// Lets `clients` place orders for `span`, each one order after the other. Meanwhile carts are filled again as orders end.
    async fn flood(&self, clients: usize, span: Duration) -> anyhow::Result<Flood> {
        let before = self.pending().await?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Instant::now() + span;
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            let (order, shoppers, over) = (self.order(), self.shoppers.clone(), over.clone());
            workers.spawn(async move {
                let mut took = Histogram::<u64>::new(3)?;
                while !over.load(Ordering::Relaxed) {
                    let next = locked(&shoppers).next();
                    match next {
                        Some(customer) => took.record(order.place(&customer).await?)?,
                        None => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
                anyhow::Ok(took)
            });
        }
        while Instant::now() < until {
            self.refill_ended().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let succeeded = self.pending().await? - before;
        over.store(true, Ordering::Relaxed);
        let mut took = Histogram::<u64>::new(3)?;
        while let Some(worker) = workers.join_next().await {
            took.add(worker??)?;
        }
        let drained = Instant::now();
        self.drain().await?;
        Ok(Flood { succeeded, backlog: drained.elapsed(), took })
    }

    /// Places one order every `1/rate` s, without waiting for earlier ones, nor for carts to be filled again.
    async fn steady(&self, rate: f64, span: Duration) -> anyhow::Result<Histogram<u64>> {
        let pacing = async {
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(1.0)));
            let until = Instant::now() + span;
            let mut running = JoinSet::new();
            while Instant::now() < until {
                ticks.tick().await;
                let customer = locked(&self.shoppers)
                    .next()
                    .context("there are not enough customers for the rate")?;
                let order = self.order();
                running.spawn(async move { order.place(&customer).await });
            }
            anyhow::Ok(running)
        };
        let refilling = async {
            loop {
                if let Err(error) = self.refill_ended().await {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let mut running = tokio::select! {
            paced = pacing => paced?,
            error = refilling => return Err(error),
        };
        let mut took = Histogram::<u64>::new(3)?;
        while let Some(placed) = running.join_next().await {
            took.record(placed??)?;
        }
        self.drain().await?;
        Ok(took)
    }

    fn order(&self) -> Order {
        Order { client: self.client.clone(), url: format!("{}/v1/orders", self.base_url) }
    }

    /// Fills every cart that is empty and from which no order is being placed.
    async fn refill_ended(&self) -> anyhow::Result<()> {
        let ordering: Vec<Uuid> = locked(&self.shoppers).ordering.keys().copied().collect();
        let empty: Vec<Uuid> = sqlx::query_scalar(
            "-- name: bench: empty carts
            select customer_id from shop.cart c where checkout_order_id is null and customer_id = any($1)
                and not exists (select from shop.cart_item i where i.cart_id = c.cart_id)",
        )
        .bind(ordering)
        .fetch_all(&self.pool)
        .await?;
        if empty.is_empty() {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await?;
        bulk::refill_carts(&mut connection, &empty, &self.crowd.product_ids, LINES).await?;
        let mut shoppers = locked(&self.shoppers);
        for id in empty {
            let filled = shoppers.ordering.remove(&id);
            shoppers.ready.extend(filled);
        }
        Ok(())
    }

    async fn pending(&self) -> anyhow::Result<u64> {
        self.count("select count(*) from shop.\"order\" where status = 'pending'").await
    }

    async fn count(&self, statement: &'static str) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(statement).fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }

    /// Waits until no order is being placed, and checks that every order has succeeded.
    async fn drain(&self) -> anyhow::Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        while self.count("select count(*) from shop.\"order\" where status = 'placing'").await? > 0
        {
            ensure!(Instant::now() < patience, "orders are still being placed after 30 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lost =
            self.count("select count(*) from shop.\"order\" where status <> 'pending'").await?;
        ensure!(lost == 0, "{lost} orders did not succeed");
        self.refill_ended().await
    }
}

fn locked(shoppers: &Mutex<Shoppers>) -> MutexGuard<'_, Shoppers> {
    shoppers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Order {
    client: Client,
    url: String,
}

impl Order {
    /// Places an order, and returns the microseconds until the 202.
    async fn place(&self, customer: &CrowdCustomer) -> anyhow::Result<u64> {
        let begun = Instant::now();
        let answer = self
            .client
            .post(&self.url)
            .bearer_auth(customer.token.expose())
            .header("idempotency-key", Uuid::now_v7().to_string())
            .json(&json!({
                "customerId": customer.customer_id,
                "shippingAddressId": customer.shipping_address_id,
                "paymentMethodId": customer.payment_method_id,
            }))
            .send()
            .await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        if status != StatusCode::ACCEPTED {
            bail!("placeOrder answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(u64::try_from(begun.elapsed().as_micros())?)
    }
}

/// Waits until the shop is ready, and returns its address.
async fn ready(client: &Client, demo: &std::path::Path) -> anyhow::Result<String> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(text) = tokio::fs::read_to_string(demo).await {
            let demo: Value = serde_json::from_str(&text)?;
            let base_url = demo["baseUrl"].as_str().context("demo.json has no baseUrl")?.to_owned();
            if client
                .get(format!("{base_url}/readyz"))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(base_url);
            }
        }
        ensure!(Instant::now() < patience, "`up` is not ready after 30 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
