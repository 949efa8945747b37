//! Payment methods at the gateway: attached to one account for each customer, and detached when they are removed, whatever crashes meanwhile.

use std::time::Duration;

use sqlx::PgPool;
use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{
    Engine, Status, WaitingOn, inspect,
    testing::{Trial, unwinds_from_every_step},
};
use stepwise_tests::{Buyer, House};
use stepwise_workflows::{
    Shop,
    customer::method::AddPaymentMethod,
    payment::gateway::MethodToken,
    sagas::{
        gdpr_erasure::{RequestGdprErasure, request_gdpr_erasure},
        keep_payment_method::{KeepPaymentMethod, add_payment_method, remove_payment_method},
        place_order::place_order,
    },
    seed,
    shop::{Actor, Cause, Context},
};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, of_the_shop, started},
};

/// Saves a method whose token is the customer's own. Answers the method and the saga that attaches it.
async fn save(shop: &Shop, engine: &Engine, customer_id: Uuid) -> (Uuid, Uuid) {
    let unique = Uuid::now_v7().simple().to_string().replace(char::is_numeric, "x");
    let command = AddPaymentMethod {
        customer_id,
        token: MethodToken(format!("{}_{unique}", Method::Ok.token())),
        brand: "visa".to_owned(),
        last4: "4242".to_owned(),
    };
    let mut tx = engine.begin().await.expect("begin");
    let cause = Cause::of_request(Actor::Customer(customer_id), Uuid::now_v7(), None);
    let mut ctx = Context::new(shop, engine, &mut tx, cause);
    let saved = add_payment_method(&mut ctx, &command).await.expect("saved");
    let method = saved.payment_method_id;
    let saga = started::<KeepPaymentMethod>(&mut tx, method).await;
    tx.commit().await.expect("commit");
    (method, saga)
}

async fn remove(house: &House, buyer: Buyer, method: Uuid) -> Uuid {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Customer(buyer.id));
    remove_payment_method(&mut ctx, buyer.id, method).await.expect("removed");
    let saga = started::<KeepPaymentMethod>(&mut tx, method).await;
    tx.commit().await.expect("commit");
    saga
}

/// Orders something with a saved method. Answers (order, operation).
async fn order(house: &House, buyer: Buyer, product: Uuid, method: Uuid) -> (Uuid, Uuid) {
    let mut command = house.ordering(buyer, product, 1, Method::Ok).await;
    command.payment_method_id = method;
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Customer(buyer.id));
    let placed = place_order(&mut ctx, &command).await.expect("placing");
    tx.commit().await.expect("commit");
    (placed.order.order_id, placed.operation_id)
}

async fn attachment(pool: &PgPool, method: Uuid) -> Option<String> {
    sqlx::query_scalar("select attachment from shop.payment_method where payment_method_id = $1")
        .bind(method)
        .fetch_one(pool)
        .await
        .expect("the method")
}

/// The account to which the gateway says that the method is attached.
async fn owner(house: &House, method: Uuid) -> Option<String> {
    let token: String =
        sqlx::query_scalar("select token from shop.payment_method where payment_method_id = $1")
            .bind(method)
            .fetch_one(house.pool())
            .await
            .expect("the method");
    let url = format!("{}/v1/payment_methods/{token}", house.gateway_url);
    let found = reqwest::Client::new().get(url).bearer_auth("sk_test").send().await;
    let found: serde_json::Value = found.expect("it answers").json().await.expect("JSON");
    found["customer"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn the_methods_of_a_customer_are_attached_to_one_account_and_pay_orders() {
    let house = House::open(Duration::from_secs(5)).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (first, second) = (
        save(&house.shop, &house.engine, buyer.id).await,
        save(&house.shop, &house.engine, buyer.id).await,
    );
    // At once: the placement waits until the method is attached. The gateway takes it only with its account.
    let (order_id, placement) = order(&house, buyer, product, first.0).await;
    for saga in [first.1, second.1, placement] {
        assert_eq!(house.end(saga).await.status, Status::Completed);
    }
    assert_eq!((house.status(order_id).await.as_str(), house.live(order_id)), ("pending", 1));
    let account = owner(&house, first.0).await;
    assert!(account.is_some());
    assert_eq!(owner(&house, second.0).await, account);
    let other = house.buyer().await;
    let (theirs, saga) = save(&house.shop, &house.engine, other.id).await;
    house.end(saga).await;
    assert_ne!(owner(&house, theirs).await, account);

    let removal = remove(&house, buyer, first.0).await;
    assert_eq!(house.end(removal).await.status, Status::Completed);
    assert_eq!(owner(&house, first.0).await, None);
    assert_eq!(attachment(house.pool(), first.0).await.as_deref(), Some("detached"));
    assert_eq!(owner(&house, second.0).await, account, "the other one stays");
    house.close().await;
}

/// Fault: gateway: it is away when a customer saves a payment method
/// Customer: the method is saved (201) and can be used; an order that is paid with it is `placing` until the gateway answers
/// Operator: `/readyz` and `doctor` name the gateway; `stepwise saga list` shows `keep-payment-method` waiting on `retry`
/// Within: at once
/// Ends: by itself, when the gateway answers again; after an hour the method is used without being attached
#[tokio::test]
async fn a_method_is_saved_while_the_gateway_is_away_and_attached_when_it_is_back() {
    let house = House::open(Duration::from_secs(5)).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    house.switch("down").await;
    let (method, saga) = save(&house.shop, &house.engine, buyer.id).await;
    let (order_id, placement) = order(&house, buyer, product, method).await;
    house.until(saga, "tried", |seen| seen.attempt > 1).await;
    assert_eq!(attachment(house.pool(), method).await.as_deref(), Some("asked"));
    house.switch("up").await;
    for saga in [saga, placement] {
        assert_eq!(house.end(saga).await.status, Status::Completed);
    }
    assert_eq!((house.status(order_id).await.as_str(), house.live(order_id)), ("pending", 1));

    // Removed before it is attached: in the end it is attached to nobody.
    house.switch("down").await;
    let (method, saga) = save(&house.shop, &house.engine, buyer.id).await;
    let removal = remove(&house, buyer, method).await;
    house.switch("up").await;
    assert_eq!(house.end(saga).await.status, Status::Completed);
    assert_eq!(house.end(removal).await.status, Status::Completed);
    assert_eq!(owner(&house, method).await, None);

    // The gateway stays away for too long.
    house.switch("down").await;
    let (method, saga) = save(&house.shop, &house.engine, house.buyer().await.id).await;
    house.until(saga, "tried", |seen| seen.attempt > 1).await;
    house.later(Duration::from_secs(3_700)).await;
    assert_eq!(house.end(saga).await.status, Status::Unwound);
    assert_eq!(attachment(house.pool(), method).await.as_deref(), Some("refused"));
    house.close().await;
}

/// Whether the gateway attaches a new method to this account.
async fn takes_methods(house: &House, account: &str) -> bool {
    let token = format!("{}_another", Method::Ok.token());
    let url = format!("{}/v1/payment_methods/{token}/attach", house.gateway_url);
    let asked = reqwest::Client::new().post(url).bearer_auth("sk_test");
    asked.form(&[("customer", account)]).send().await.expect("it answers").status().is_success()
}

#[tokio::test]
async fn the_account_of_a_customer_who_is_erased_is_deleted_at_the_gateway() {
    let house = House::open(Duration::from_secs(5)).await;
    let buyer = house.buyer().await;
    let (method, saga) = save(&house.shop, &house.engine, buyer.id).await;
    house.end(saga).await;
    let account = owner(&house, method).await.expect("it is attached");
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Customer(buyer.id));
    let request = RequestGdprErasure { customer_id: buyer.id, confirmation: true };
    let erasure = request_gdpr_erasure(&mut ctx, &request).await.expect("accepted");
    tx.commit().await.expect("commit");
    let waits = |seen: &inspect::Summary| seen.waiting_on == Some(WaitingOn::Timer);
    house.until(erasure, "waiting for the relay", waits).await;
    assert!(takes_methods(&house, &account).await);
    house.later(Duration::from_secs(25 * 3_600)).await;
    assert_eq!(house.end(erasure).await.status, Status::Completed);
    assert!(!takes_methods(&house, &account).await);
    house.close().await;
}

/// Methods of one customer after the other.
struct Methods(Placements);

impl Trial for Methods {
    of_the_shop!(KeepPaymentMethod);

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.expect("begin"));
        let demo = seed::demo(&shop, &mut tx).await.expect("the demo shop is there");
        tx.commit().await.expect("commit");
        save(&shop, engine, demo.customers[run % demo.customers.len()].customer_id).await.1
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let found = inspect::summary(engine.pool(), id).await.map_err(|e| e.to_string())?;
        let method = found.ok_or("the saga is gone")?.subject;
        let method = method.parse().map_err(|_| "not about a method")?;
        match (status, attachment(engine.pool(), method).await.as_deref()) {
            (Status::Completed, Some("attached"))
            | (Status::Unwound, Some("refused" | "attached")) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn an_attachment_is_called_off_until_it_is_noted() {
    let unwound = unwinds_from_every_step(&Methods(Placements::paid_by("ok")));
    assert!(unwound.points.len() >= 8, "{:?}", unwound.points);
    assert_eq!(
        unwound.repeated,
        [
            "Open repeated",
            "Keep repeated",
            "Attach repeated",
            "Note repeated",
            "leave repeated, an undo"
        ]
    );
}

#[test]
pub(crate) fn an_attachment_survives_a_crash_at_every_point() {
    survives(&Methods(Placements::paid_by("ok")), Status::Completed, 8);
}
