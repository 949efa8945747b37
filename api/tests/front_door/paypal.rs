//! Orders that are paid at PayPal, over HTTP: from the approval to the delivery, and each refusal on the way.

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
};

const THANKS: &str = "http://127.0.0.1:8080/thanks";
const CART: &str = "http://127.0.0.1:8080/cart";

/// The total of an order of two things at 10.00 to California.
pub(crate) const TOTAL: &str = "27.44";

/// A shop with a customer whose cart has two things at 10.00.
pub(crate) struct Checkout<'h> {
    pub(crate) shopper: Shopper<'h>,
    address: Uuid,
    product: Uuid,
}

impl<'h> Checkout<'h> {
    pub(crate) async fn new(house: &'h House) -> Self {
        let admin = house.key("admin", &[]).await;
        let product = product(house, &admin, "10.00", 50).await;
        Self::of(house, product).await
    }

    async fn of(house: &'h House, product: Uuid) -> Self {
        let shopper = Shopper::new(house).await;
        let checkout = Self { address: shopper.address().await, shopper, product };
        checkout.fill().await;
        checkout
    }

    /// Puts two things into the cart.
    pub(crate) async fn fill(&self) {
        self.shopper.add(self.product, 2).await.is(200);
    }

    pub(crate) async fn initiate(&self, body: &Value) -> Answer {
        let request = self.shopper.ask(Method::POST, "/v1/payments/paypal").json(body);
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        send(request.header("prefer", "wait=15")).await
    }

    /// Asks for an approval of the order's total. Returns the operation, which has the link.
    pub(crate) async fn opened(&self) -> Opened {
        let operation = self.initiate(&request(TOTAL)).await.is(202).json();
        let action = &operation["action"];
        assert_eq!(action["type"], "approve_payment", "{operation}");
        assert!(action["expiresAt"].is_string(), "{operation}");
        let url = action["url"].as_str().expect("a link").to_owned();
        Opened { operation: id(&operation["id"]), method: id(&operation["subject"]), url }
    }

    /// A method that the customer has approved.
    pub(crate) async fn approved(&self) -> Uuid {
        let opened = self.opened().await;
        opened.approve().await;
        self.until(opened.operation, "succeeded").await;
        opened.method
    }

    /// Reads an operation until it has this status.
    pub(crate) async fn until(&self, operation: Uuid, status: &str) -> Value {
        let path = format!("/v1/operations/{operation}");
        let look = async {
            loop {
                let operation = self.shopper.get(&path).await.is(200).json();
                if operation["status"] == status {
                    return operation;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), look).await.expect("it gets there")
    }

    pub(crate) async fn place(&self, method: Uuid) -> Answer {
        self.shopper.place(&self.shopper.order(self.address, method), 15).await
    }

    /// The method as the customer's list shows it.
    pub(crate) async fn listed(&self, method: Uuid) -> Option<Value> {
        let list = self.shopper.get("/v1/customers/{me}/payment-methods").await.is(200).json();
        let items = list["items"].as_array().expect("items").clone();
        items.into_iter().find(|item| item["id"] == json!(method))
    }

    /// Reads the list until the method has this status.
    pub(crate) async fn is(&self, method: Uuid, status: &str) {
        let look = async {
            while self.listed(method).await.is_none_or(|method| method["status"] != status) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = timeout(Duration::from_secs(20), look).await;
        assert!(reached.is_ok(), "not {status}: {:?}", self.listed(method).await);
    }
}

/// An approval that waits for its customer.
pub(crate) struct Opened {
    pub(crate) operation: Uuid,
    pub(crate) method: Uuid,
    pub(crate) url: String,
}

impl Opened {
    /// Approves at the sandbox's page, as the customer's browser does. Returns the page to which PayPal sends the customer.
    pub(crate) async fn approve(&self) -> String {
        let client = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none());
        let client = client.build().expect("a plain client");
        let sent = client.post(&self.url).form(&[("decision", "approve")]).send().await;
        let sent = sent.expect("the page answers");
        assert!(sent.status().is_redirection(), "{sent:?}");
        let to = sent.headers().get("location").and_then(|to| to.to_str().ok());
        to.expect("a location").to_owned()
    }
}

pub(crate) fn request(amount: &str) -> Value {
    json!({"amount": {"amount": amount, "currency": "USD"}, "returnUrl": THANKS, "cancelUrl": CART})
}

#[tokio::test]
async fn an_order_is_paid_at_paypal_and_delivered_and_another_is_cancelled() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    let pending = checkout.listed(opened.method).await.expect("it is listed");
    assert_eq!((&pending["kind"], &pending["status"]), (&json!("paypal"), &json!("pending")));
    assert_eq!(pending["amount"], json!({"amount": TOTAL, "currency": "USD"}));
    assert!(pending["expiresAt"].is_string() && pending["last4"].is_null(), "{pending}");

    assert!(opened.approve().await.starts_with(THANKS));
    let done = checkout.until(opened.operation, "succeeded").await;
    assert_eq!(done["kind"], "paypal-approval");
    assert_eq!(done["result"], checkout.listed(opened.method).await.expect("it is listed"));
    assert_eq!(done["result"]["status"], "approved");

    let order = checkout.place(opened.method).await.is(201).json();
    assert_eq!(order["totalAmount"]["amount"], TOTAL);
    assert_eq!(
        (&order["status"], &order["payment"]["status"]),
        (&json!("pending"), &json!("authorized"))
    );
    let order = id(&order["id"]);
    let told: String = sqlx::query_scalar(
        "select payload->>'paymentMethod' from shop.domain_event where name = 'PaymentAuthorized'",
    )
    .fetch_one(house.database.pool())
    .await
    .expect("one event");
    assert_eq!(told, "paypal");
    assert_eq!(checkout.listed(opened.method).await.expect("listed")["status"], "used");

    let act = async |path: &str, body: Value| {
        let request = house.ask(Method::POST, &format!("/v1/orders/{order}/{path}"));
        let request = request.bearer_auth(&admin).header("idempotency-key", path).json(&body);
        send(request.header("prefer", "wait=15")).await.is(200).json()
    };
    act("confirm", json!({})).await;
    let shipped = act("ship", json!({"trackingNumber": "1Z999", "carrier": "UPS"})).await;
    assert_eq!(shipped["payment"]["status"], "captured");
    assert_eq!(act("deliver", json!({})).await["status"], "delivered");

    checkout.fill().await;
    let method = checkout.approved().await;
    let order = id(&checkout.place(method).await.is(201).json()["id"]);
    let cancelled = checkout.shopper.cancel(order, 15).await.is(200).json();
    assert_eq!(
        (&cancelled["status"], &cancelled["payment"]["status"]),
        (&json!("cancelled"), &json!("voided"))
    );
    house.close().await;
}

#[tokio::test]
async fn a_payment_at_paypal_that_cannot_be_is_refused_at_once_with_nothing_left_behind() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    for (url, code) in [
        ("", "missing_field"),
        ("thanks", "invalid_url"),
        ("/thanks", "invalid_url"),
        ("javascript:alert(1)", "invalid_url"),
        ("http://ada:secret@127.0.0.1:8080/thanks", "invalid_url"),
        ("http://127.0.0.1:8080@evil.example/", "invalid_url"),
        ("https://127.0.0.1:8080/thanks", "url_not_allowed"),
        ("http://127.0.0.1:8081/thanks", "url_not_allowed"),
        ("http://evil.example/127.0.0.1:8080", "url_not_allowed"),
        ("http://127.0.0.1:8080.evil.example/", "invalid_url"),
        ("http://127.0.0.1:8080/\u{202e}", "invalid_character"),
    ] {
        for field in ["returnUrl", "cancelUrl"] {
            let mut body = request(TOTAL);
            body[field] = json!(url);
            let answer = checkout.initiate(&body).await;
            assert_eq!(answer.problem(), refusal(422, code), "{url}");
            assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{field}"), "{url}");
        }
    }
    let mut long = request(TOTAL);
    long["returnUrl"] = json!(format!("{THANKS}?{}", "x".repeat(2_000)));
    assert_eq!(checkout.initiate(&long).await.problem(), refusal(422, "too_long"));
    for amount in ["0", "0.00", "-1", "1.999", "x"] {
        let answer = checkout.initiate(&request(amount)).await;
        assert_eq!(answer.problem(), refusal(422, "invalid_amount"), "{amount}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/amount");
    }
    let mut euros = request(TOTAL);
    euros["amount"]["currency"] = json!("EUR");
    assert_eq!(checkout.initiate(&euros).await.problem(), refusal(422, "invalid_amount"));
    let path = "/v1/payments/paypal";
    let keyless = checkout.shopper.post(path, &request(TOTAL)).await;
    assert_eq!(keyless.problem(), refusal(400, "idempotency_key_required"));
    let admin = house.key("admin", &[]).await;
    let staff = house.post(path, &request(TOTAL)).bearer_auth(&admin);
    let staff = send(staff.header("idempotency-key", "k")).await;
    assert_eq!(staff.problem(), refusal(403, "forbidden"));
    let list = checkout.shopper.get("/v1/customers/{me}/payment-methods").await.json();
    assert_eq!(list["items"], json!([]));
    house.close().await;

    let without = House::open().await;
    let shopper = Shopper::new(&without).await;
    let request = shopper.ask(Method::POST, path).json(&request(TOTAL));
    let answer = send(request.header("idempotency-key", "k")).await;
    assert_eq!(answer.problem(), refusal(409, "paypal_not_offered"));
    without.close().await;
}

#[tokio::test]
async fn a_method_of_paypal_pays_one_order_of_exactly_its_amount() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let smaller = checkout.initiate(&request("27.43")).await.is(202).json();
    let url = smaller["action"]["url"].as_str().expect("a link").to_owned();
    let (operation, method) = (id(&smaller["id"]), id(&smaller["subject"]));
    Opened { operation, method, url }.approve().await;
    checkout.until(operation, "succeeded").await;
    let answer = checkout.place(method).await;
    assert_eq!(answer.problem(), refusal(422, "amount_mismatch"));
    assert_eq!(answer.json()["errors"][0]["pointer"], "/paymentMethodId");
    checkout.is(method, "approved").await;

    let method = checkout.approved().await;
    let other = Checkout::of(&house, checkout.product).await;
    let theirs = other.place(method).await;
    assert_eq!(theirs.problem(), refusal(404, "payment_method_not_found"));
    let body = checkout.shopper.order(checkout.address, method);
    let placed = join_all((0..4).map(|_| checkout.shopper.place(&body, 0))).await;
    assert_eq!(placed.iter().filter(|answer| answer.status == 202).count(), 1);
    for lost in placed.iter().filter(|answer| answer.status != 202) {
        assert_eq!(lost.status, 409, "{}", lost.text);
    }
    let accepted = placed.iter().find(|answer| answer.status == 202).expect("one of them");
    checkout.until(id(&accepted.json()["id"]), "succeeded").await;
    checkout.fill().await;
    let again = checkout.place(method).await;
    assert_eq!(again.problem(), refusal(409, "payment_method_used"));

    let removed = checkout.approved().await;
    let path = format!("/v1/customers/{{me}}/payment-methods/{removed}");
    send(checkout.shopper.ask(Method::DELETE, &path)).await.is(204);
    let gone = checkout.place(removed).await;
    assert_eq!(gone.problem(), refusal(404, "payment_method_not_found"));
    house.close().await;
}

#[tokio::test]
async fn the_link_to_paypal_is_its_customers_and_so_is_the_operation() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    let (operation, saga) = (
        format!("/v1/operations/{}", opened.operation),
        format!("/v1/admin/sagas/{}", opened.operation),
    );
    let own = checkout.shopper.get(&operation).await;
    assert!(own.is(200).text.contains(&opened.url), "{}", own.text);
    for role in ["viewer", "operator", "admin"] {
        let key = house.key(role, &[]).await;
        for path in [&operation, &saga] {
            let seen = send(house.get(path).bearer_auth(&key)).await;
            assert_eq!(seen.is(200).json()["id"], json!(opened.operation));
            for secret in [&*opened.url, THANKS, CART] {
                assert!(!seen.text.contains(secret), "{role} at {path}: {}", seen.text);
            }
        }
    }
    let other = Shopper::unverified(&house).await;
    assert_eq!(other.get(&operation).await.problem(), refusal(404, "operation_not_found"));
    house.close().await;
}

#[tokio::test]
async fn a_customer_has_few_approvals_pending_at_the_same_time() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let body = request(TOTAL);
    let answers = join_all((0..8).map(|_| checkout.initiate(&body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 5);
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(refused.problem(), refusal(409, "too_many_approvals"));
    }
    house.close().await;
}

#[tokio::test]
async fn an_approval_that_can_be_used_counts_as_a_payment_method() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let most = house.door.shop.config.most_saved;
    let cards = sqlx::query(
        "insert into shop.payment_method (payment_method_id, customer_id, kind, token, brand, created_at)
         select gen_random_uuid(), $1, 'card', gen_random_uuid()::text, 'visa', saga.now()
         from generate_series((select count(*) from shop.payment_method where customer_id = $1) + 1, $2)",
    );
    let pool = house.database.pool();
    cards.bind(checkout.shopper.id).bind(most - 1).execute(pool).await.expect("saved");
    let body = request(TOTAL);
    checkout.initiate(&body).await.is(202);
    let full = checkout.initiate(&body).await;
    assert_eq!(full.problem(), refusal(409, "too_many_approvals"));
    for state in ["approved", "expired"] {
        sqlx::query(
            "update shop.paypal_approval set state = $1, expires_at = saga.now() + interval '1 hour'",
        )
        .bind(state)
        .execute(pool)
        .await
        .expect("changed");
        let next = checkout.initiate(&body).await;
        assert_eq!(next.status, if state == "approved" { 409 } else { 202 }, "{state}: {next:?}");
    }
    house.close().await;
}
