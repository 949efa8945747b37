//! A shop in a test: real Postgres, a real sandbox gateway over HTTP, a real worker.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use sqlx::PgPool;
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
    sandbox::{Sandbox, SandboxConfig, Timing, ledger},
};
use stepwise_engine::{Engine, Start, Starts, WorkerConfig, inspect, testing::Database};
use stepwise_workflows::{
    Config, Shop,
    cart::{AddItem, add_item},
    category::create_category,
    customer::{
        address::{AddShippingAddress, add_shipping_address},
        method::{AddPaymentMethod, add_payment_method},
        register::{RegisterCustomer, prepare, register_customer, verify_customer_email},
    },
    inventory::commands::{Item, set_inventory_quantity},
    money::{Currency, Money},
    order::{
        authorize::AuthorizePayment, cancel::CancelOrder, confirm_order, get_order,
        place::PlaceOrder, refund::RefundPayment, ship::ShipOrder,
    },
    payment::gateway::MethodToken,
    product::{CreateProduct, activate_product, create_product},
    sagas::{
        authorize_payment::{AuthorizePaymentError, authorize_payment},
        cancel_order::{CancelOrderError, cancel_order},
        place_order::place_order,
        reconcile_payments::ReconcilePayments,
        refund_payment::{RefundPaymentError, refund_payment},
        ship_order::ship_order,
    },
    shop::{Actor, Cause, Context, cause::KeyRole},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::money;

const ADMIN: Actor = Actor::Key(KeyRole::Admin, Uuid::nil());

/// The shop, its database and its gateway. End it with [`House::close`].
pub struct House {
    /// The database.
    pub db: Database,
    /// The commands' context.
    pub shop: Arc<Shop>,
    /// What starts and signals sagas.
    pub engine: Engine,
    /// Where the gateway listens.
    pub gateway_url: String,
    folder: PathBuf,
    stop: CancellationToken,
    gateway: JoinHandle<std::io::Result<()>>,
    worker: Option<(CancellationToken, JoinHandle<Result<(), sqlx::Error>>)>,
    category: Uuid,
}

/// A customer who can order.
#[derive(Debug, Clone, Copy)]
pub struct Buyer {
    /// The customer.
    pub id: Uuid,
    /// Their address.
    pub address: Uuid,
}

impl House {
    /// Opens a shop with one worker; the gateway's client gives up after `patience`, and what acts late acts that long after.
    pub async fn open(patience: Duration) -> Self {
        let db = Database::fresh(&[
            stepwise_engine::migrations::migrations(),
            stepwise_workflows::migrations::migrations(),
        ])
        .await;
        let folder =
            std::env::temp_dir().join(format!("stepwise-house-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let stop = CancellationToken::new();
        let api_key = SecretString::from("sk_test");
        let sandbox = Sandbox::bind(SandboxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ledger: folder.join("ledger.jsonl"),
            api_key: api_key.clone(),
            public_url: None,
            webhooks: None,
            timing: Timing { slow: patience / 3, acts_late: patience, ..Timing::default() },
        })
        .await
        .expect("the gateway starts");
        let gateway_url = format!("http://{}", sandbox.address());
        let gateway = tokio::spawn(sandbox.serve(stop.clone().cancelled_owned()));
        let config = GatewayConfig {
            timeout: patience,
            ..GatewayConfig::new(gateway_url.parse().expect("a URL"), api_key)
        };
        let shop = Arc::new(Shop::new(
            Config::default(),
            Arc::new(FileKeyStore::open(&folder.join("keys")).expect("keys")),
            Arc::new(StripeGateway::new(config).expect("a client")),
            Arc::new(FileMailer::new(&folder.join("mail")).expect("mail")),
            stepwise_workflows::reactions::of_event,
        ));
        stepwise_workflows::sagas::explore();
        let engine = stepwise_workflows::sagas::engine(&shop, db.pool().clone());
        let dismissed = stop.child_token();
        let worker = tokio::spawn(stepwise_engine::work(
            engine.clone(),
            WorkerConfig { name: "house".to_owned(), ..WorkerConfig::default() },
            dismissed.clone().cancelled_owned(),
        ));
        let worker = Some((dismissed, worker));
        let mut tx = engine.begin().await.expect("begin");
        let cause = Cause::of_request(ADMIN, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, &engine, &mut tx, cause);
        let category =
            create_category(&mut ctx, "Things", None).await.expect("a category").category_id;
        tx.commit().await.expect("commit");
        Self { db, shop, engine, gateway_url, folder, stop, gateway, worker, category }
    }

    /// The context of a command that this actor gives in that transaction.
    pub fn context<'a>(&'a self, tx: &'a mut impl Starts, actor: Actor) -> Context<'a> {
        let cause = Cause::of_request(actor, Uuid::now_v7(), None);
        Context::new(&self.shop, &self.engine, tx, cause)
    }

    /// Connections to its database.
    pub fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    /// The gateway's own book.
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.jsonl")
    }

    /// The folder in which each mail is a file.
    pub fn mail(&self) -> PathBuf {
        self.folder.join("mail")
    }

    /// How many live authorizations the gateway holds for an order.
    pub fn live(&self, order: Uuid) -> usize {
        ledger::live_by_order(&self.ledger())
            .expect("the ledger can be read")
            .get(&order.to_string())
            .map_or(0, Vec::len)
    }

    /// A product on sale at 10.00 with that many on hand.
    pub async fn product(&self, on_hand: i32) -> Uuid {
        let mut tx = self.engine.begin().await.expect("begin");
        let command = CreateProduct {
            name: "Thing".to_owned(),
            description: "One of many".to_owned(),
            price: Money::from_minor(1_000, Currency::USD).expect("money"),
            category_id: self.category,
        };
        let mut ctx = self.context(&mut tx, ADMIN);
        let product = create_product(&mut ctx, command).await.expect("a product").product_id;
        activate_product(&mut ctx, product).await.expect("active");
        let item = Item { product_id: product, variant_id: None };
        set_inventory_quantity(&mut ctx, item, on_hand, "delivery").await.expect("stock");
        tx.commit().await.expect("commit");
        product
    }

    /// A verified customer with an address.
    pub async fn buyer(&self) -> Buyer {
        let mut tx = self.engine.begin().await.expect("begin");
        let prepared = prepare(
            &self.shop,
            RegisterCustomer {
                // In letters: digits of an id may look like a card's, which no text may hold.
                email: format!(
                    "{}@example.com",
                    Uuid::now_v7().simple().to_string().replace(char::is_numeric, "x")
                ),
                password: "a long enough passphrase".to_owned(),
                first_name: "Ada".to_owned(),
                last_name: "Byron".to_owned(),
            },
        )
        .await
        .expect("acceptable");
        let mut ctx = self.context(&mut tx, Actor::Anyone);
        let registered = register_customer(&mut ctx, prepared).await.expect("registered");
        let id = registered.customer.customer_id;
        verify_customer_email(&mut ctx, registered.verification_token.expose())
            .await
            .expect("verified");
        let address = AddShippingAddress {
            customer_id: id,
            street: "1 Main Street".to_owned(),
            city: "Springfield".to_owned(),
            state: "CA".to_owned(),
            postal_code: "90210".to_owned(),
            country: "US".to_owned(),
            recipient_name: "Ada Byron".to_owned(),
        };
        let address =
            add_shipping_address(&mut ctx, &address).await.expect("an address").address_id;
        tx.commit().await.expect("commit");
        Buyer { id, address }
    }

    /// Puts `quantity` of the product into the buyer's cart; answers the command to order it, to be paid as `method` behaves.
    pub async fn ordering(
        &self,
        buyer: Buyer,
        product: Uuid,
        quantity: i32,
        method: impl Into<MethodToken>,
    ) -> PlaceOrder {
        let mut tx = self.engine.begin().await.expect("begin");
        let item =
            AddItem { customer_id: buyer.id, product_id: product, variant_id: None, quantity };
        let mut ctx = self.context(&mut tx, Actor::Customer(buyer.id));
        add_item(&mut ctx, &item).await.expect("in the cart");
        tx.commit().await.expect("commit");
        PlaceOrder {
            customer_id: buyer.id,
            shipping_address_id: buyer.address,
            payment_method_id: self.method(buyer, method).await,
            accepted_cart: None,
        }
    }

    /// A payment method of the buyer that behaves so.
    async fn method(&self, buyer: Buyer, method: impl Into<MethodToken>) -> Uuid {
        let mut tx = self.engine.begin().await.expect("begin");
        let paying = AddPaymentMethod {
            customer_id: buyer.id,
            token: method.into(),
            brand: "visa".to_owned(),
            last4: "4242".to_owned(),
        };
        let mut ctx = self.context(&mut tx, Actor::Customer(buyer.id));
        let method = add_payment_method(&mut ctx, &paying).await.expect("a method");
        tx.commit().await.expect("commit");
        method.payment_method_id
    }

    /// Authorizes another payment of the order, as an admin. Answers the operation.
    pub async fn authorize(
        &self,
        buyer: Buyer,
        order: Uuid,
        method: impl Into<MethodToken>,
    ) -> Result<Uuid, AuthorizePaymentError> {
        let payment_method_id = self.method(buyer, method).await;
        let amount = self.amount(order).await;
        let mut tx = self.engine.begin().await.expect("begin");
        let command = AuthorizePayment { order_id: order, payment_method_id, amount };
        let operation = authorize_payment(&mut self.context(&mut tx, ADMIN), &command).await?;
        tx.commit().await.expect("commit");
        Ok(operation)
    }

    /// The order's total.
    pub async fn amount(&self, order: Uuid) -> Money {
        let mut db = self.pool().acquire().await.expect("a connection");
        let order = get_order(&self.shop, &mut db, order, None).await.expect("readable");
        order.expect("it is there").total_amount
    }

    /// Sends a request to the gateway, as somebody does who is not the shop. The shop hears nothing of it.
    pub async fn outside(&self, path: &str, form: &[(&str, &str)]) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.gateway_url));
        let sent = request.form(form).bearer_auth("sk_test").send().await;
        sent.expect("the gateway answers").error_for_status().expect("it does it");
    }

    /// Switches the gateway `down` or `up`.
    pub async fn switch(&self, what: &str) {
        self.outside(&format!("/sandbox/{what}"), &[]).await;
    }

    /// The gateway's reference of the payment in force.
    pub async fn reference(&self, order: Uuid) -> String {
        let reference: Option<String> = sqlx::query_scalar(
            r#"select p.authorization_id from shop."order" o join shop.payment p using (payment_id) where o.order_id = $1"#,
        )
        .bind(order)
        .fetch_one(self.pool())
        .await
        .expect("the payment");
        reference.expect("it is authorized")
    }

    /// Two hours later the shop asks the gateway about its payments, at most so many. Answers what came of it.
    pub async fn reconcile(&self, at_most: u16) -> inspect::Summary {
        self.later(Duration::from_secs(7_200)).await;
        let mut tx = self.engine.begin().await.expect("begin");
        let start = Start::new("payments", at_most);
        let started = self.engine.start::<ReconcilePayments>(&mut tx, start).await;
        tx.commit().await.expect("commit");
        self.end(started.expect("it starts").id).await
    }

    /// The authorization of the order is voided by somebody else, and the shop finds out.
    pub async fn lapse(&self, order: Uuid) {
        let reference = self.reference(order).await;
        self.outside(&format!("/v1/payment_intents/{reference}/cancel"), &[]).await;
        self.reconcile(100).await;
        assert_eq!(self.payment(order).await.0, "voided");
    }

    /// Orders that; answers (order, operation).
    pub async fn place(
        &self,
        buyer: Buyer,
        product: Uuid,
        quantity: i32,
        method: impl Into<MethodToken>,
    ) -> (Uuid, Uuid) {
        let command = self.ordering(buyer, product, quantity, method).await;
        let mut tx = self.engine.begin().await.expect("begin");
        let mut ctx = self.context(&mut tx, Actor::Customer(buyer.id));
        let placed = place_order(&mut ctx, &command).await.expect("placing");
        tx.commit().await.expect("commit");
        (placed.order.order_id, placed.operation_id)
    }

    /// Asks to cancel, as the customer.
    pub async fn cancel(&self, buyer: Buyer, order: Uuid) -> Result<Uuid, CancelOrderError> {
        let mut tx = self.engine.begin().await?;
        let command = CancelOrder {
            order_id: order,
            reason: "changed my mind".to_owned(),
            customer_id: Some(buyer.id),
        };
        let operation =
            cancel_order(&mut self.context(&mut tx, Actor::Customer(buyer.id)), &command).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Confirms and ships an order, as an admin. Answers the operation that takes its money.
    pub async fn ship(&self, order_id: Uuid) -> Uuid {
        let mut tx = self.engine.begin().await.expect("begin");
        let mut ctx = self.context(&mut tx, ADMIN);
        confirm_order(&mut ctx, order_id).await.expect("it can be confirmed");
        let (tracking_number, carrier) = ("1Z999".to_owned(), "UPS".to_owned());
        let command = ShipOrder { order_id, tracking_number, carrier };
        let operation = ship_order(&mut ctx, &command).await.expect("it can be shipped");
        tx.commit().await.expect("commit");
        operation
    }

    /// Asks for a refund of so many cents, as an admin.
    pub async fn refund(&self, order_id: Uuid, cents: i64) -> Result<Uuid, RefundPaymentError> {
        let mut tx = self.engine.begin().await.expect("begin");
        let amount = Money::from_minor(cents, Currency::USD).expect("money");
        let command = RefundPayment { order_id, amount };
        let operation = refund_payment(&mut self.context(&mut tx, ADMIN), &command).await?;
        tx.commit().await.expect("commit");
        Ok(operation)
    }

    /// Waits until the instance is as `is` wants it.
    ///
    /// # Panics
    /// When it is not within 30 s.
    pub async fn until(
        &self,
        id: Uuid,
        what: &str,
        is: impl Fn(&inspect::Summary) -> bool,
    ) -> inspect::Summary {
        let patience = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let found =
                inspect::summary(self.pool(), id).await.expect("readable").expect("it is there");
            if is(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < patience, "not {what} in time: {found:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end.
    pub async fn end(&self, id: Uuid) -> inspect::Summary {
        self.until(id, "ended", inspect::Summary::is_final).await
    }

    /// The order's status.
    pub async fn status(&self, order: Uuid) -> String {
        sqlx::query_scalar(r#"select status from shop."order" where order_id = $1"#)
            .bind(order)
            .fetch_one(self.pool())
            .await
            .expect("the order")
    }

    /// The state of the order's payment in force, and the moves of money that were made for it.
    pub async fn payment(&self, order: Uuid) -> (String, Vec<String>) {
        sqlx::query_as(
            "select p.state, coalesce(array_agg(t.kind order by t.transaction_id) filter (where t.state = 'succeeded'), '{}')
            from shop.\"order\" o join shop.payment p using (payment_id) left join shop.payment_transaction t using (payment_id)
            where o.order_id = $1 group by p.state",
        )
        .bind(order)
        .fetch_one(self.pool())
        .await
        .expect("the payment")
    }

    /// The payment's status as the order shows it.
    pub async fn shown(&self, order: Uuid) -> String {
        let mut db = self.pool().acquire().await.expect("a connection");
        let order = get_order(&self.shop, &mut db, order, None).await.expect("readable");
        order.expect("it is there").payment.status
    }

    /// (on hand, reserved) of a product.
    pub async fn stock(&self, product: Uuid) -> (i32, i32) {
        sqlx::query_as("select on_hand, reserved from shop.inventory where product_id = $1")
            .bind(product)
            .fetch_one(self.pool())
            .await
            .expect("the stock")
    }

    /// The types of the messages published about a subject, in order.
    pub async fn published(&self, subject: Uuid) -> Vec<String> {
        sqlx::query_scalar("select kind from saga.outbox where subject = $1 order by sequence")
            .bind(subject.to_string())
            .fetch_all(self.pool())
            .await
            .expect("the outbox")
    }

    /// The ledger of an instance: (kind, status).
    pub async fn effects(&self, id: Uuid) -> Vec<(String, String)> {
        sqlx::query_as("select kind, status from saga.effect where saga_id = $1 order by step_no")
            .bind(id)
            .fetch_all(self.pool())
            .await
            .expect("the effects")
    }

    /// Moves business time.
    pub async fn later(&self, by: Duration) {
        sqlx::query("update saga.clock set offset_by = offset_by + $1 * interval '1 s'")
            .bind(by.as_secs_f64())
            .execute(self.pool())
            .await
            .expect("the clock moves");
    }

    /// Compares the books of money, once every saga has ended; stops worker and gateway, drops the database.
    ///
    /// # Panics
    /// When the books differ.
    pub async fn close(self) {
        let open = "select count(*) from saga.instance where status not in ('completed', 'unwound') and name not like '%-expiry'";
        let open: i64 = sqlx::query_scalar(open).fetch_one(self.pool()).await.expect("readable");
        if open == 0 {
            money::agrees(self.pool(), &self.ledger()).await.expect("the books of money agree");
        }
        self.shut().await;
    }

    /// Stops the worker. Sagas stand still unless the test has a worker of its own.
    pub async fn dismiss_worker(&mut self) {
        if let Some((dismissed, worker)) = self.worker.take() {
            dismissed.cancel();
            worker.await.expect("the worker did not panic").expect("the worker ended well");
        }
    }

    /// Stops worker and gateway and drops the database, without a look at the books: somebody else's money was moved by hand.
    pub async fn shut(mut self) {
        self.stop.cancel();
        self.dismiss_worker().await;
        self.gateway.await.expect("the gateway did not panic").expect("the gateway ended well");
        self.db.close().await;
        std::fs::remove_dir_all(&self.folder).expect("the folder goes");
    }
}
