//! The shop's sagas on trial: real Postgres, a real gateway over HTTP that outlives every crash.

use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::SecretString;
use sqlx::{PgConnection, PgPool, migrate::Migrator};
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
    paypal::{PayPal, PayPalConfig, Providers},
    sandbox::{PAYPAL_CLIENT_ID, Sandbox, SandboxConfig, Timing, ledger},
};
use stepwise_engine::{
    Engine, EngineBuilder, Saga, Status, WaitingOn, WorkerConfig, inspect,
    testing::{Clock, Trial},
    work,
};
use stepwise_tests::money;
use stepwise_workflows::{
    Config, Shop,
    cart::{AddItem, add_item},
    money::{Currency, Money},
    order::{cancel, confirm_order, place, refund, ship},
    payment::gateway::Reference,
    sagas::{
        Steps,
        cancel_order::{CancelOrder, cancel_order},
        cart_expiry::CartExpiry,
        place_order::{PlaceOrder, Placed, Signal, place_order},
        refund_payment::{RefundPayment, refund_payment},
        ship_order::{ShipOrder, ship_order},
    },
    seed,
    shop::{Actor, Cause, Context, cause::KeyRole, reaction::Reactions},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The saga of a trial whose first field is [`Placements`], with the shop's steps, migrations and demo data.
macro_rules! of_the_shop {
    ($Saga:ty) => {
        type Saga = $Saga;
        type Services = stepwise_workflows::sagas::Steps;

        fn migrations(&self) -> Vec<sqlx::migrate::Migrator> {
            self.0.migrations()
        }

        fn prepare(&self, pool: &sqlx::PgPool) -> impl Future<Output = ()> {
            self.0.prepare(pool)
        }

        fn services(&self, pool: sqlx::PgPool) -> Self::Services {
            self.0.services(pool)
        }
    };
}
pub(crate) use of_the_shop;

/// Moves the clock by `step` whenever the instance waits for a timer, until it ends.
pub(crate) async fn time_passes(engine: &Engine, id: Uuid, step: Duration) {
    let clock = Clock::of(engine.pool());
    loop {
        let found = inspect::summary(engine.pool(), id).await.expect("readable");
        let found = found.expect("there");
        if found.status != Status::Running {
            return;
        }
        if found.waiting_on == Some(WaitingOn::Timer) {
            clock.advance(step).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The saga of this kind that was started about the subject.
pub(crate) async fn started<S: Saga>(tx: &mut PgConnection, subject: Uuid) -> Uuid {
    let found = inspect::latest_about(tx, S::NAME, &subject.to_string()).await;
    found.expect("readable").expect("it was started").saga_id
}

/// Orders of customers who pay by one method.
pub(crate) struct Placements {
    method: &'static str,
    folder: PathBuf,
    gateway_url: String,
    _gateway: Runtime,
}

impl Placements {
    pub(crate) fn paid_by(method: &'static str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("stepwise-crashes-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let gateway = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let config = SandboxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ledger: folder.join("ledger.jsonl"),
            api_key: SecretString::from("sk_test"),
            public_url: None,
            webhooks: None,
            timing: Timing::default(),
        };
        let sandbox = gateway.block_on(Sandbox::bind(config)).expect("the gateway starts");
        let gateway_url = format!("http://{}", sandbox.address());
        gateway.spawn(sandbox.serve(std::future::pending()));
        Self { method, folder, gateway_url, _gateway: gateway }
    }

    /// Somebody who is not the shop voids the authorization at the gateway, and the shop hears nothing of it. Answers its reference.
    pub(crate) async fn void_outside(&self, pool: &PgPool, order: Uuid) -> Reference {
        let reference: Option<String> = sqlx::query_scalar(
            r#"select p.authorization_id from shop."order" o join shop.payment p using (payment_id) where o.order_id = $1"#,
        )
        .bind(order)
        .fetch_one(pool)
        .await
        .expect("the payment");
        let reference = reference.expect("it is authorized");
        let url = format!("{}/v1/payment_intents/{reference}/cancel", self.gateway_url);
        let voided = reqwest::Client::new().post(url).bearer_auth("sk_test").send().await;
        voided.expect("the gateway answers").error_for_status().expect("it is voided");
        Reference(reference)
    }

    pub(crate) fn mail(&self) -> PathBuf {
        self.folder.join("mail")
    }

    pub(crate) fn shop(&self) -> Arc<Shop> {
        self.shop_with(Config::default(), stepwise_workflows::reactions::of_event)
    }

    pub(crate) fn shop_with(&self, decisions: Config, reactions: Reactions) -> Arc<Shop> {
        let config = GatewayConfig::new(
            self.gateway_url.parse().expect("a URL"),
            "sk_test".to_owned().into(),
        );
        let url = self.gateway_url.parse().expect("a URL");
        let paypal = PayPalConfig::new(url, PAYPAL_CLIENT_ID, "sk_test".to_owned().into());
        let paypal = Arc::new(PayPal::new(paypal).expect("a client"));
        let cards = Arc::new(StripeGateway::new(config).expect("a client"));
        let shop = Shop::new(
            decisions,
            Arc::new(FileKeyStore::open(&self.folder.join("keys")).expect("keys")),
            Arc::new(Providers::new(cards, Some(paypal.clone()))),
            Arc::new(FileMailer::new(&self.folder.join("mail")).expect("mail")),
            reactions,
        );
        Arc::new(shop.with_paypal(paypal))
    }

    /// Adds the saga that watches the carts from which orders are placed.
    pub(crate) fn beside(&self, builder: EngineBuilder) -> EngineBuilder {
        let steps = self.services(builder.pool().clone());
        builder.explored::<CartExpiry, _>(steps)
    }

    async fn place(&self, engine: &Engine, run: usize) -> (Placed, Uuid) {
        let shop = self.shop();
        let mut tx = engine.begin().await.expect("begin");
        let demo = seed::demo(&shop, &mut tx).await.expect("the demo shop is there");
        let customer = &demo.customers[run % demo.customers.len()];
        let item = AddItem {
            customer_id: customer.customer_id,
            product_id: demo.product_ids[0],
            variant_id: None,
            quantity: 2,
        };
        let actor = Actor::Customer(customer.customer_id);
        let cause = Cause::of_request(actor, Uuid::now_v7(), None);
        add_item(&mut Context::new(&shop, engine, &mut tx, cause.clone()), &item)
            .await
            .expect("in the cart");
        tx.commit().await.expect("commit");
        let command = place::PlaceOrder {
            customer_id: customer.customer_id,
            shipping_address_id: customer.shipping_address_id,
            payment_method_id: customer.payment_methods[self.method],
            accepted_cart: None,
        };
        let mut tx = engine.begin().await.expect("begin");
        let placed = place_order(&mut Context::new(&shop, engine, &mut tx, cause), &command)
            .await
            .expect("placing");
        tx.commit().await.expect("commit");
        (placed, customer.customer_id)
    }

    /// Does something with a worker that knows these sagas and nothing else, until the operation has succeeded.
    async fn worked<T>(
        &self,
        engine: EngineBuilder,
        begin: impl AsyncFnOnce(&Engine) -> (T, Uuid),
    ) -> T {
        let engine = engine.build();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(work(
            engine.clone(),
            WorkerConfig { name: "before".to_owned(), ..WorkerConfig::default() },
            stop.clone().cancelled_owned(),
        ));
        let (begun, id) = begin(&engine).await;
        let since = Instant::now();
        let is_done = async || {
            let found = inspect::summary(engine.pool(), id).await.expect("readable");
            found.expect("there").status == Status::Completed
        };
        while !is_done().await {
            assert!(since.elapsed() < Duration::from_secs(20), "{id} has not succeeded");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        worker.await.expect("no panic").expect("the database was there");
        begun
    }

    /// Places an order and tells its customer.
    pub(crate) async fn placed(&self, pool: &PgPool, run: usize) -> (Uuid, Uuid) {
        let engine = self
            .beside(Engine::builder(pool.clone()))
            .explored::<PlaceOrder, _>(self.services(pool.clone()));
        let begin = async |engine: &Engine| {
            let (placed, customer) = self.place(engine, run).await;
            ((placed.order.order_id, customer), placed.operation_id)
        };
        self.worked(engine, begin).await
    }

    /// Confirms a placed order and asks to ship it. Answers the operation.
    async fn ship(&self, engine: &Engine, order_id: Uuid) -> Uuid {
        let shop = self.shop();
        let mut tx = engine.begin().await.expect("begin");
        let mut ctx = Context::new(&shop, engine, &mut tx, by_admin());
        confirm_order(&mut ctx, order_id).await.expect("it can be confirmed");
        let (tracking_number, carrier) = ("1Z999".to_owned(), "UPS".to_owned());
        let command = ship::ShipOrder { order_id, tracking_number, carrier };
        let operation = ship_order(&mut ctx, &command).await.expect("it can be shipped");
        tx.commit().await.expect("commit");
        operation
    }

    /// The order is `ends`, and has so many live authorizations; all stock that is reserved belongs to orders.
    pub(crate) async fn check(
        &self,
        engine: &Engine,
        id: Uuid,
        ends: &str,
        authorizations: usize,
    ) -> Result<(), String> {
        let found = inspect::details(engine.pool(), id)
            .await
            .map_err(|e| e.to_string())?
            .ok_or("it is gone")?;
        let order = found.summary.subject;
        let is: String =
            sqlx::query_scalar(r#"select status from shop."order" where order_id = $1::uuid"#)
                .bind(&order)
                .fetch_one(engine.pool())
                .await
                .map_err(|e| e.to_string())?;
        let live =
            ledger::live_by_order(&self.folder.join("ledger.jsonl")).map_err(|e| e.to_string())?;
        let live = live.get(&order).map_or(0, Vec::len);
        let (reserved, held): (i64, i64) = sqlx::query_as(
            r#"select (select sum(reserved) from shop.inventory)::bigint,
                (select coalesce(sum(item_count), 0) from shop."order" where status in ('pending', 'confirmed'))::bigint"#,
        )
        .fetch_one(engine.pool())
        .await
        .map_err(|e| e.to_string())?;
        if (is.as_str(), live) != (ends, authorizations) {
            return Err(format!("the order is {is} with {live} live authorizations"));
        }
        if reserved != held {
            return Err(format!("{reserved} are reserved, {held} belong to orders"));
        }
        money::agrees(engine.pool(), &self.folder.join("ledger.jsonl")).await
    }
}

fn by_admin() -> Cause {
    Cause::of_request(Actor::Key(KeyRole::Admin, Uuid::now_v7()), Uuid::now_v7(), None)
}

impl Trial for Placements {
    type Saga = PlaceOrder;
    type Services = Steps;

    fn migrations(&self) -> Vec<Migrator> {
        vec![
            stepwise_engine::migrations::migrations(),
            stepwise_workflows::migrations::migrations(),
        ]
    }

    async fn prepare(&self, pool: &PgPool) {
        let mut tx = pool.begin().await.expect("begin");
        seed::demo(&self.shop(), &mut tx).await.expect("seeded");
        tx.commit().await.expect("commit");
    }

    fn services(&self, pool: PgPool) -> Steps {
        Steps::new(self.shop(), pool)
    }

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.beside(builder)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        self.place(engine, run).await.0.operation_id
    }

    /// If the customer has to approve, they do, and the gateway says so.
    async fn play(&self, engine: &Engine, id: Uuid) {
        if self.method != "challenge" {
            return;
        }
        let Some(page) = approval_page(engine.pool(), id).await else { return };
        let approved = reqwest::Client::new().post(page).body("decision=approve").send().await;
        approved.expect("the gateway answers");
        let mut tx = engine.begin().await.expect("begin");
        engine
            .signal::<PlaceOrder>(&mut tx, id, "approved", Signal::GatewayReported)
            .await
            .expect("there");
        tx.commit().await.expect("commit");
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        match status {
            Status::Completed => self.check(engine, id, "pending", 1).await,
            _ => self.check(engine, id, "failed", 0).await,
        }
    }
}

/// Where the customer approves, once a placement waits for that; nowhere if it does not run any more.
pub(crate) async fn approval_page(pool: &PgPool, id: Uuid) -> Option<String> {
    let begun = Instant::now();
    loop {
        let (page, is_over): (Option<String>, bool) = sqlx::query_as(
            "select state->'AwaitingApproval'->>'url', status <> 'running' from saga.instance where saga_id = $1",
        )
        .bind(id)
        .fetch_one(pool)
        .await
        .expect("readable");
        if page.is_some() || is_over {
            return page;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "placement {id} asks for no approval");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Drop for Placements {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Cancellations of orders that were placed.
pub(crate) struct Cancellations(pub(crate) Placements);

impl Trial for Cancellations {
    of_the_shop!(CancelOrder);

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.0.beside(builder)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let (order_id, customer_id) = self.0.placed(engine.pool(), run).await;
        let command = cancel::CancelOrder {
            order_id,
            customer_id: Some(customer_id),
            reason: "changed my mind".to_owned(),
        };
        let mut tx = engine.begin().await.expect("begin");
        let shop = self.0.shop();
        let cause = Cause::of_request(Actor::Customer(customer_id), Uuid::now_v7(), None);
        let operation = cancel_order(&mut Context::new(&shop, engine, &mut tx, cause), &command)
            .await
            .expect("it can be cancelled");
        tx.commit().await.expect("commit");
        operation
    }

    fn balances(
        &self,
        engine: &Engine,
        id: Uuid,
        _: Status,
    ) -> impl Future<Output = Result<(), String>> {
        self.0.check(engine, id, "cancelled", 0)
    }
}

/// Shipments of orders that were placed and confirmed.
pub(crate) struct Shipments(pub(crate) Placements);

impl Trial for Shipments {
    of_the_shop!(ShipOrder);

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.0.beside(builder)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let (order_id, _) = self.0.placed(engine.pool(), run).await;
        self.0.ship(engine, order_id).await
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let ends = if status == Status::Completed { "shipped" } else { "confirmed" };
        self.0.check(engine, id, ends, 1).await
    }
}

/// Refunds of a part of what was taken for orders that were shipped.
pub(crate) struct Refunds(pub(crate) Placements);

impl Trial for Refunds {
    of_the_shop!(RefundPayment);

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.0.beside(builder)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let (order_id, _) = self.0.placed(engine.pool(), run).await;
        let shop = self.0.shop();
        let shipping = Engine::builder(engine.pool().clone())
            .explored::<ShipOrder, _>(self.0.services(engine.pool().clone()));
        let ship = async |engine: &Engine| ((), self.0.ship(engine, order_id).await);
        self.0.worked(shipping, ship).await;
        let amount = Money::from_minor(10_00, Currency::USD).expect("10 dollars are an amount");
        let command = refund::RefundPayment { order_id, amount };
        let mut tx = engine.begin().await.expect("begin");
        let operation =
            refund_payment(&mut Context::new(&shop, engine, &mut tx, by_admin()), &command)
                .await
                .expect("it can be refunded");
        tx.commit().await.expect("commit");
        operation
    }

    /// Nobody else's refund is open, and the payment's balance is the sum of its refunds.
    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let found = inspect::summary(engine.pool(), id).await.map_err(|e| e.to_string())?;
        let order = found.ok_or("it is gone")?.subject;
        let (state, refunded, rows): (String, i64, String) = sqlx::query_as(
            "select p.state, (p.refunded_amount * 100)::bigint, string_agg(t.state, ' ')
            from shop.payment p join shop.payment_transaction t using (payment_id)
            where p.order_id = $1::uuid and t.kind = 'refund' group by p.payment_id",
        )
        .bind(&order)
        .fetch_one(engine.pool())
        .await
        .map_err(|e| e.to_string())?;
        let is = (state.as_str(), refunded, rows.as_str());
        let expected = match status {
            Status::Completed => ("partially_refunded", 10_00, "succeeded"),
            _ => ("captured", 0, "failed"),
        };
        if is != expected {
            return Err(format!("the payment is {is:?} and should be {expected:?}"));
        }
        self.0.check(engine, id, "shipped", 1).await
    }
}
