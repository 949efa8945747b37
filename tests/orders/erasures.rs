//! An erasure is called off until the key is destroyed, and goes on after a crash at any point.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use stepwise_adapters::{keystore::FileKeyStore, mail::FileMailer, sandbox::SandboxMethod};
use stepwise_engine::{
    Engine, Status, WaitingOn, WorkerConfig, inspect,
    testing::{Trial, unwinds_from_every_step},
};
use stepwise_tests::House;
use stepwise_workflows::{
    Config, Shop,
    customer::{
        address::{AddShippingAddress, add_shipping_address},
        method::{AddPaymentMethod, add_payment_method, list_payment_methods},
        register::{RegisterCustomer, prepare, register_customer},
    },
    erasure::{
        certificate::{Certificate, Checked, check},
        replay,
    },
    money::{Currency, Money},
    order::{deliver_order, refund::RefundPayment},
    payment::gateway::MethodToken,
    sagas::{
        self,
        gdpr_erasure::{GdprErasure, RequestGdprErasure, request_gdpr_erasure},
        refund_payment::refund_payment,
    },
    shop::{Actor, Cause, Context, mail::Mail},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, of_the_shop, time_passes},
};

/// Erasures of one customer after the other.
struct Erasures(Placements);

fn address(run: usize) -> String {
    let letter = |digit: u8| char::from(digit - b'0' + b'a');
    let name: String = run.to_string().bytes().map(letter).collect();
    format!("{name}@example.org")
}

/// Somebody with an address and two payment methods.
async fn somebody(ctx: &mut Context<'_>, email: String) -> Uuid {
    let command = RegisterCustomer {
        email,
        password: "a long enough passphrase".to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Byron".to_owned(),
    };
    let prepared = prepare(ctx.shop, command).await.expect("acceptable");
    let registered = register_customer(ctx, prepared).await.expect("registered");
    let customer_id = registered.customer.customer_id;
    let home = AddShippingAddress {
        customer_id,
        street: "1 Main Street".to_owned(),
        city: "Springfield".to_owned(),
        state: "CA".to_owned(),
        postal_code: "90210".to_owned(),
        country: "US".to_owned(),
        recipient_name: "Ada Byron".to_owned(),
    };
    add_shipping_address(ctx, &home).await.expect("an address");
    for token in ["pm_sandbox_ok", "pm_sandbox_slow"] {
        let method = AddPaymentMethod {
            customer_id,
            token: MethodToken(token.to_owned()),
            brand: "visa".to_owned(),
            last4: "4242".to_owned(),
        };
        add_payment_method(ctx, &method).await.expect("a method");
    }
    customer_id
}

impl Trial for Erasures {
    of_the_shop!(GdprErasure);

    /// No worker here knows the saga of the verification mail, so nothing follows from the registration.
    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let shop = self.0.shop_with(Config::default(), |_| Vec::new());
        let mut tx = engine.begin().await.expect("begin");
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let customer_id = somebody(&mut ctx, address(run)).await;
        let mail = Mail { to: address(run), subject: "Hello".to_owned(), text: String::new() };
        shop.mailer.send(&customer_id.to_string(), &mail).await.expect("sent");
        let request = RequestGdprErasure { customer_id, confirmation: true };
        let operation = request_gdpr_erasure(&mut ctx, &request).await.expect("accepted");
        tx.commit().await.expect("commit");
        operation
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        time_passes(engine, id, Duration::from_secs(60)).await;
    }

    /// Either everything is gone and said so once, or the customer has the account as it was, perhaps without payment methods.
    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let summary = inspect::summary(engine.pool(), id).await.map_err(|e| e.to_string())?;
        let customer: Uuid =
            summary.ok_or("the saga is gone")?.subject.parse().map_err(|_| "no id")?;
        let key = self.0.shop().keys.get(customer).await.map_err(|e| e.to_string())?.is_some();
        let seen: (bool, bool, i64, i64, i64, bool) = sqlx::query_as(
            "select c.email is not null, c.frozen_at is not null,
                    (select count(*) from shop.shipping_address a where a.customer_id = c.customer_id),
                    (select count(*) from shop.domain_event d where d.aggregate_id = e.anonymized_id),
                    (select count(*) from saga.outbox o where o.subject = c.customer_id::text),
                    e.erased_at is not null
             from shop.customer c left join shop.erasure e using (customer_id)
             where c.customer_id = $1",
        )
        .bind(customer)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        let log = check(engine.pool()).await.map_err(|error| error.to_string())?;
        if !matches!(log, Checked::Sound { .. }) {
            return Err(format!("{log:?}"));
        }
        match (status, key, seen) {
            (Status::Completed, false, (false, true, 0, 1, 1, true)) => Ok(()),
            (Status::Unwound, true, (true, false, 1, 0, 0, false)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn an_erasure_unwinds_from_every_step_before_the_key_is_destroyed() {
    let unwound = unwinds_from_every_step(&Erasures(Placements::paid_by("ok")));
    assert_eq!(
        unwound.points,
        [
            "cancelled after Settle",
            "cancelled after Drain",
            "cancelled after NextMethod",
            "cancelled before Detach",
            "Detach not done and never heard of",
            "Detach done and never heard of",
            "cancelled after Detach",
            "cancelled before NextMethod",
            "cancelled after NextMethod",
            "cancelled before Detach",
            "Detach not done and never heard of",
            "Detach done and never heard of",
            "cancelled after Detach",
            "cancelled before NextMethod",
            "cancelled after NextMethod",
            "cancelled before KeepRecords",
            "cancelled after KeepRecords",
            "cancelled before DestroyKey",
        ]
    );
    assert!(unwound.repeated.contains(&"DestroyKey repeated".to_owned()), "{unwound:?}");
}

#[test]
pub(crate) fn an_erasure_survives_a_crash_at_every_point() {
    survives(&Erasures(Placements::paid_by("ok")), Status::Completed, 10);
}

/// More than the time for which an erasure waits for messages to be published.
const DAY_OF_PATIENCE: Duration = Duration::from_secs(25 * 3_600);

/// Asks to erase the customer, and waits until the erasure waits for messages. Answers the erasure.
async fn waiting_for_the_relay(house: &House, customer_id: Uuid) -> Uuid {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Customer(customer_id));
    let request = RequestGdprErasure { customer_id, confirmation: true };
    let erasure = request_gdpr_erasure(&mut ctx, &request).await.expect("accepted");
    tx.commit().await.expect("commit");
    let waits = |seen: &inspect::Summary| seen.waiting_on == Some(WaitingOn::Timer);
    house.until(erasure, "waiting for the relay", waits).await;
    erasure
}

/// Fault: broker: no relay publishes while a customer is erased
/// Customer: the account is frozen at once; everything is deleted a day later
/// Operator: the saga `gdpr-erasure` waits in `AwaitingRelay`; the certificate says how many messages went out without data
/// Within: 1 s
/// Ends: by itself, when the messages are published, or after a day
#[tokio::test]
async fn an_erasure_waits_a_day_for_messages_that_nobody_publishes() {
    let house = House::open(Duration::from_secs(5)).await;
    let (product, buyer) = (house.product(5).await, house.buyer().await);
    let (order, placing) = house.place(buyer, product, 1, SandboxMethod::Ok).await;
    house.end(placing).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    house.end(cancelling).await;
    let erasure = waiting_for_the_relay(&house, buyer.id).await;
    house.later(DAY_OF_PATIENCE).await;
    assert_eq!(house.end(erasure).await.status, Status::Completed);
    let text: String = sqlx::query_scalar("select certificate from shop.erasure_certificate")
        .fetch_one(house.pool())
        .await
        .expect("one certificate");
    let certificate: Certificate = serde_json::from_str(&text).expect("as it was written");
    let unpublished = certificate.unpublished_messages;
    assert!(unpublished >= 3, "placed, cancelled and refunded, not {unpublished}");
    house.close().await;
}

/// The refund's transaction is open while the erasure looks for the last time before it destroys the key, and the refund cannot go on afterwards.
#[tokio::test]
async fn an_erasure_waits_for_a_refund_that_staff_starts_while_it_waits_for_messages() {
    let house = House::open(Duration::from_secs(5)).await;
    let (product, buyer) = (house.product(5).await, house.buyer().await);
    let (order_id, placing) = house.place(buyer, product, 1, SandboxMethod::Ok).await;
    house.end(placing).await;
    let shipping = house.ship(order_id).await;
    house.end(shipping).await;
    let mut tx = house.engine.begin().await.expect("begin");
    deliver_order(&mut house.context(&mut tx, Actor::System), order_id).await.expect("delivered");
    tx.commit().await.expect("commit");
    let erasure = waiting_for_the_relay(&house, buyer.id).await;

    let mut refunding = house.engine.begin().await.expect("begin");
    house.engine.pause(&mut refunding, "refund-payment", "a test", "").await.expect("paused");
    refunding.commit().await.expect("commit");
    let mut refunding = house.engine.begin().await.expect("begin");
    let amount = Money::from_minor(100, Currency::USD).expect("money");
    let command = RefundPayment { order_id, amount };
    let mut ctx = house.context(&mut refunding, Actor::System);
    let refund = refund_payment(&mut ctx, &command).await.expect("accepted");
    house.later(DAY_OF_PATIENCE).await;
    until_it_waits_for_a_lock(&house).await;
    refunding.commit().await.expect("commit");
    let state = async |id| -> String {
        let state = "select state::text from saga.instance where saga_id = $1";
        sqlx::query_scalar(state).bind(id).fetch_one(house.pool()).await.expect("it is there")
    };
    let since = Instant::now();
    while !state(erasure).await.contains("AwaitingOthers") {
        assert!(since.elapsed() < Duration::from_secs(30), "{}", state(erasure).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(house.shop.keys.get(buyer.id).await.expect("readable").is_some(), "the key is there");

    let mut tx = house.engine.begin().await.expect("begin");
    house.engine.resume(&mut tx, "refund-payment", "a test").await.expect("resumed");
    tx.commit().await.expect("commit");
    assert_eq!(house.end(refund).await.status, Status::Completed);
    house.later(Duration::from_secs(300)).await;
    assert_eq!(house.end(erasure).await.status, Status::Completed);
    house.close().await;
}

/// Waits until a statement of the erasure waits for a lock.
async fn until_it_waits_for_a_lock(house: &House) {
    let since = Instant::now();
    loop {
        let waits: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock' and query like '-- erasure:%')",
        )
        .fetch_one(house.pool())
        .await
        .expect("readable");
        if waits {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "the erasure waits for no lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Somebody with an address and two payment methods in this house.
async fn resident(house: &House, email: &str) -> Uuid {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Anyone);
    let customer = somebody(&mut ctx, email.to_owned()).await;
    tx.commit().await.expect("commit");
    customer
}

/// Waits until the erasure is in this state.
async fn until_it_is(house: &House, erasure: Uuid, wanted: &str) {
    let since = Instant::now();
    loop {
        let state: String =
            sqlx::query_scalar("select state::text from saga.instance where saga_id = $1")
                .bind(erasure)
                .fetch_one(house.pool())
                .await
                .expect("it is there");
        if state.contains(wanted) {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "not {wanted}: {state}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_detached(house: &House, method: Uuid) -> bool {
    sqlx::query_scalar(
        "select attachment is not distinct from 'detached' from shop.payment_method where payment_method_id = $1",
    )
    .bind(method)
    .fetch_one(house.pool())
    .await
    .expect("it is there")
}

#[tokio::test]
async fn a_card_that_was_being_detached_is_not_given_back_with_the_account() {
    let house = House::open(Duration::from_secs(5)).await;
    let customer = resident(&house, "ada@example.org").await;
    let shown = async || {
        let mut db = house.pool().acquire().await.expect("a connection");
        list_payment_methods(&mut db, customer, None, 10).await.expect("readable")
    };
    let before = shown().await;
    sqlx::query("update shop.payment_method set attachment = 'attached'")
        .execute(house.pool())
        .await
        .expect("they count as attached");
    house.switch("down").await;
    let erasure = waiting_for_the_relay(&house, customer).await;
    house.later(DAY_OF_PATIENCE).await;
    until_it_is(&house, erasure, "Detaching").await;
    let mut tx = house.engine.begin().await.expect("begin");
    house.engine.cancel(&mut tx, erasure, "a test").await.expect("it can be called off");
    tx.commit().await.expect("commit");
    house.switch("up").await;
    assert_eq!(house.end(erasure).await.status, Status::Unwound);
    let [_, other] = &before[..] else { panic!("two methods: {before:?}") };
    let left: Vec<Uuid> = shown().await.iter().map(|method| method.payment_method_id).collect();
    assert_eq!(left, [other.payment_method_id], "the first one may be detached at the gateway");
    let since = Instant::now();
    while !is_detached(&house, before[0].payment_method_id).await {
        assert!(since.elapsed() < Duration::from_secs(30), "nobody detaches the card");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.close().await;
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("ours");
    for file in fs::read_dir(from).expect("it is there") {
        let file = file.expect("it can be listed");
        fs::copy(file.path(), to.join(file.file_name())).expect("ours");
    }
}

#[tokio::test]
async fn a_key_that_an_older_key_store_brings_back_is_destroyed_before_the_certificate() {
    let mut house = House::open(Duration::from_secs(5)).await;
    let customer = resident(&house, "ada@example.org").await;
    let (mail, home) = (house.mail(), house.mail().with_file_name(""));
    let (keys, backup) = (home.join("keys"), home.join("backup"));
    copy(&keys, &backup);
    let erasure = waiting_for_the_relay(&house, customer).await;
    // No mail can be deleted, so the erasure waits once the key is destroyed.
    fs::remove_dir_all(&mail).expect("ours");
    fs::write(&mail, "no folder").expect("ours");
    house.later(DAY_OF_PATIENCE).await;
    until_it_is(&house, erasure, "DeletingMails").await;
    house.dismiss_worker().await;
    assert!(house.shop.keys.get(customer).await.expect("readable").is_none());

    fs::remove_dir_all(&keys).expect("ours");
    copy(&backup, &keys);
    fs::remove_file(&mail).expect("ours");
    let restored = Arc::new(FileKeyStore::open(&keys).expect("the backup opens"));
    let shop = Arc::new(Shop::new(
        Config::default(),
        restored,
        Arc::clone(&house.shop.gateway),
        Arc::new(FileMailer::new(&mail).expect("a folder")),
        stepwise_workflows::reactions::of_event,
    ));
    assert!(shop.keys.get(customer).await.expect("readable").is_some(), "it is back");
    let stop = CancellationToken::new();
    let worker = tokio::spawn(stepwise_engine::work(
        sagas::engine(&shop, house.pool().clone()),
        WorkerConfig { name: "restored".to_owned(), ..WorkerConfig::default() },
        stop.clone().cancelled_owned(),
    ));
    house.later(Duration::from_secs(300)).await;
    assert_eq!(house.end(erasure).await.status, Status::Completed);
    assert!(shop.keys.get(customer).await.expect("readable").is_none(), "it is destroyed again");
    stop.cancel();
    worker.await.expect("it did not panic").expect("it ended well");
    house.close().await;
}

#[tokio::test]
async fn after_a_restore_a_key_of_tax_records_whose_time_is_over_is_destroyed_again() {
    let house = House::open(Duration::from_secs(5)).await;
    let keys = &house.shop.keys;
    let mut of_records = Vec::new();
    for (email, is_over) in [("ada@example.org", true), ("bob@example.org", false)] {
        let (customer, anonymized) = (resident(&house, email).await, Uuid::now_v7());
        keys.create(anonymized).await.expect("a key");
        sqlx::query(
            "insert into shop.erasure (customer_id, anonymized_id, requested_at, erased_at, tax_until)
             values ($1, $2, saga.now(), saga.now(), case when not $3 then saga.now() + interval '1 year' end)",
        )
        .bind(customer)
        .bind(anonymized)
        .bind(is_over)
        .execute(house.pool())
        .await
        .expect("the database remembers the erasure");
        of_records.push(anonymized);
    }
    let destroyed = replay::destroy_again(house.pool(), &**keys).await.expect("destroyed");
    assert_eq!(destroyed, 3, "of two customers, and of the records whose time is over");
    assert!(keys.get(of_records[0]).await.expect("readable").is_none());
    assert!(keys.get(of_records[1]).await.expect("readable").is_some(), "the law wants them");
    house.shut().await;
}
