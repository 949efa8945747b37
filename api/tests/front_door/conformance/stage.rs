//! A running shop with a partner at the broker, and the requests that the document describes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures::future::LocalBoxFuture;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};
use stepwise_tests::rabbit::Partner;
use stepwise_workflows::events::Sealed;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    house::{Answer, House, send},
    shopper::{Shopper, id, letters, product},
};

/// A story that provokes one entry of the catalogue on a running shop.
pub(crate) type Provoke<T> = for<'s> fn(&'s Stage) -> LocalBoxFuture<'s, T>;

/// How long to wait for something that follows from a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running shop, its admin, and a partner who receives everything that it publishes.
pub(crate) struct Stage {
    pub(crate) house: House,
    pub(crate) admin: String,
    partner: Partner,
    operations: BTreeMap<String, Operation>,
    calls: Mutex<Vec<Call>>,
}

/// An operation of the document.
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    has_body: bool,
}

impl Operation {
    /// The names of the data in its path.
    pub(crate) fn in_path(&self) -> impl Iterator<Item = &str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }
}

/// A request that was accepted.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) by: String,
    pub(crate) data: Value,
}

/// The operations of the document by their ids.
pub(crate) fn operations(document: &Value) -> BTreeMap<String, Operation> {
    let mut found = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
            let method = method.to_uppercase().parse().expect("a method");
            let has_body = operation["requestBody"].is_object();
            found.insert(id, Operation { method, path: path.clone(), has_body });
        }
    }
    found
}

/// The id of a resource in an answer about it.
#[track_caller]
pub(crate) fn own_id(answer: &Value, name: &str) -> Uuid {
    id(answer.get(name).unwrap_or(&answer["id"]))
}

impl Stage {
    pub(crate) async fn open() -> Self {
        let broker = std::env::var("AMQP_URL");
        let broker = broker.expect("AMQP_URL is not set: run ./scripts/test, which starts it");
        let (house, exchange) = House::open_publishing(&broker).await;
        let partner = Partner::connect(&broker).await;
        partner.listen_to(&exchange).await;
        let admin = house.key("admin", &[]).await;
        let document = send(house.get("/openapi.json")).await.is(200).json();
        let operations = operations(&document);
        Self { house, admin, partner, operations, calls: Mutex::default() }
    }

    /// Sends the operation's request as the document describes it, waiting for the end of what it starts.
    pub(crate) async fn call(&self, operation: &str, by: &str, data: Value) -> Answer {
        let answer = self.send(operation, by, &data).await;
        if answer.status < 300 {
            let call = Call { operation: operation.to_owned(), by: by.to_owned(), data };
            self.calls.lock().expect("no panic").push(call);
        }
        answer
    }

    /// Sends such a request.
    pub(crate) async fn send(&self, operation: &str, by: &str, data: &Value) -> Answer {
        let (request, body) = self.request(operation, by, data);
        let has_body = self.operations[operation].has_body;
        assert!(has_body || body.is_empty(), "{operation} takes no body: {body:?}");
        send(if has_body { request.json(&body) } else { request }).await
    }

    /// Such a request without its body, and the body: the data that the path does not name.
    pub(crate) fn request(
        &self,
        operation: &str,
        by: &str,
        data: &Value,
    ) -> (RequestBuilder, Map<String, Value>) {
        let known = self.operations.get(operation);
        let known = known.unwrap_or_else(|| panic!("the document has no operation {operation}"));
        let mut body = data.as_object().cloned().unwrap_or_default();
        let mut path = known.path.clone();
        for name in known.in_path() {
            let value = body.remove(name).unwrap_or_else(|| panic!("{operation} needs {name}"));
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            path = path.replace(&format!("{{{name}}}"), &value);
        }
        let request = self.house.ask(known.method.clone(), &path);
        let request = if by.is_empty() { request } else { request.bearer_auth(by) };
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        (request.header("prefer", "wait=15"), body)
    }

    /// Sends a request that must succeed, and returns its answer.
    pub(crate) async fn done(&self, operation: &str, by: &str, data: Value) -> Value {
        let answer = self.call(operation, by, data).await;
        assert!(matches!(answer.status, 200 | 201 | 204), "{operation}: {}", answer.text);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    /// Whether the operation takes this data in its path.
    pub(crate) fn is_in_path(&self, operation: &str, name: &str) -> bool {
        self.operations[operation].in_path().any(|known| known == name)
    }

    /// The requests of this operation that were accepted.
    pub(crate) fn accepted(&self, operation: &str) -> Vec<Call> {
        let calls = self.calls.lock().expect("no panic");
        calls.iter().filter(|call| call.operation == operation).cloned().collect()
    }

    /// A product on sale at 10.00.
    pub(crate) async fn product(&self, stock: i32) -> Uuid {
        product(&self.house, &self.admin, "10.00", stock).await
    }

    /// A new root category.
    pub(crate) async fn category(&self) -> Uuid {
        let name = format!("Category {}", letters());
        let body = json!({"name": name, "parentCategoryId": null});
        own_id(&self.done("createCategory", &self.admin, body).await, "categoryId")
    }

    /// A product with a variant, without stock.
    pub(crate) async fn product_with_variant(&self) -> (Uuid, Uuid) {
        let product = self.product(0).await;
        let data = json!({"productId": product, "name": "blue"});
        let variant = self.done("addProductVariant", &self.admin, data).await;
        let variant =
            variant["variants"].as_array().and_then(|list| list.last()).unwrap_or(&variant);
        (product, own_id(variant, "variantId"))
    }

    /// A customer with one line of two things in the cart. Returns the cart as well.
    pub(crate) async fn shopping(&self, stock: i32) -> (Shopper<'_>, Uuid, Value) {
        let product = self.product(stock).await;
        let shopper = Shopper::new(&self.house).await;
        let cart = shopper.add(product, 2).await.is(200).json();
        (shopper, product, cart)
    }

    /// A customer who orders two things at 10.00: who, the product, and the data of placeOrder.
    pub(crate) async fn ordering(&self, method: &str) -> (Shopper<'_>, Uuid, Value) {
        let (shopper, product, _) = self.shopping(20).await;
        let data = shopper.order(shopper.address().await, shopper.method(method).await);
        (shopper, product, data)
    }

    /// An order that was placed.
    pub(crate) async fn placed(&self, method: &str) -> Placed<'_> {
        let (shopper, product, data) = self.ordering(method).await;
        let order = self.done("placeOrder", &shopper.token, data).await;
        Placed { id: id(&order["id"]), shopper, product, order }
    }

    /// An order that was confirmed.
    pub(crate) async fn confirmed(&self, method: &str) -> Placed<'_> {
        let placed = self.placed(method).await;
        self.done("confirmOrder", &self.admin, json!({"orderId": placed.id})).await;
        placed
    }

    /// An order that was shipped, so its money is taken.
    pub(crate) async fn shipped(&self, method: &str) -> Placed<'_> {
        let placed = self.confirmed(method).await;
        self.done("shipOrder", &self.admin, parcel(placed.id)).await;
        placed
    }

    /// An order whose authorization somebody has voided at the gateway.
    pub(crate) async fn lapsed(&self) -> Placed<'_> {
        let placed = self.placed("ok").await;
        let payment = format!("/v1/payments/{}", id(&placed.order["payment"]["id"]));
        let shown = placed.shopper.get(&payment).await.is(200).json();
        let reference = shown["transactions"][0]["reference"].as_str().expect("it has one");
        let cancel = format!("/v1/payment_intents/{reference}/cancel");
        self.house.outside(&cancel, &[]).await.is(200);
        until("the payment is voided", async || {
            placed.shopper.get(&payment).await.json()["status"] == "voided"
        })
        .await;
        placed
    }

    /// A visitor's cart with two things: its id and token, and the product.
    pub(crate) async fn guest(&self) -> (Uuid, String, Uuid) {
        let product = self.product(9).await;
        let guest = self.done("createGuestCart", "", json!({})).await;
        let token = guest["token"].as_str().expect("a token").to_owned();
        let item = json!({"customerId": guest["customerId"], "productId": product, "variantId": null,
            "quantity": 2});
        self.done("addItemToCart", &token, item).await;
        (own_id(&guest, "cartId"), token, product)
    }

    /// The id of a product's stock.
    pub(crate) async fn inventory(&self, product: Uuid) -> Uuid {
        sqlx::query_scalar("select inventory_id from shop.inventory where product_id = $1")
            .bind(product)
            .fetch_one(self.house.database.pool())
            .await
            .expect("it has one")
    }

    /// Moves business time.
    pub(crate) async fn later(&self, seconds: f64) {
        sqlx::query("update saga.clock set offset_by = offset_by + make_interval(secs => $1)")
            .bind(seconds)
            .execute(self.house.database.pool())
            .await
            .expect("the clock moves");
    }

    /// Waits until an attempt of the operation at the gateway has failed. The wait for a method that is still being attached is none.
    pub(crate) async fn has_tried(&self, operation: Uuid) {
        until("an attempt failed", async || {
            let tried = "select count(*) from saga.journal where saga_id = $1 and kind = 'attempt'
                 and event ->> 'error' not like '%being attached'";
            let tried = sqlx::query_scalar::<_, i64>(tried).bind(operation);
            tried.fetch_one(self.house.database.pool()).await.expect("readable") > 0
        })
        .await;
    }

    /// The payload of the last event of this name of the aggregate, and the aggregate's kind, once it is recorded.
    pub(crate) async fn event(&self, name: &str, aggregate: Uuid) -> (String, Value) {
        let look = async {
            loop {
                let found: Option<(String, Value)> = sqlx::query_as(
                    "select aggregate, payload from shop.domain_event
                     where name = $1 and aggregate_id = $2 order by n desc limit 1",
                )
                .bind(name)
                .bind(aggregate)
                .fetch_optional(self.house.database.pool())
                .await
                .expect("readable");
                if let Some(found) = found {
                    return found;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("no {name} was recorded"))
    }

    /// The aggregate to which an event of this name has happened because of the request, once it is recorded.
    pub(crate) async fn aggregate_of_request(&self, name: &str, answer: &Answer) -> Uuid {
        let mut aggregate = None;
        until(name, async || {
            let found = sqlx::query_scalar::<_, Uuid>(
                "select aggregate_id from shop.domain_event
                 where name = $1 and correlation::text = $2",
            );
            let found = found.bind(name).bind(answer.header("x-request-id"));
            aggregate = found.fetch_optional(self.house.database.pool()).await.expect("readable");
            aggregate.is_some()
        })
        .await;
        aggregate.expect("it was found")
    }

    /// How many events this request has led to.
    pub(crate) async fn events_of_request(&self, answer: &Answer) -> i64 {
        sqlx::query_scalar("select count(*) from shop.domain_event where correlation::text = $1")
            .bind(answer.header("x-request-id"))
            .fetch_one(self.house.database.pool())
            .await
            .expect("readable")
    }

    /// The value of a field of an event; a sealed one is opened with this person's key.
    pub(crate) async fn opened(&self, field: &str, value: &Value, person: Option<Uuid>) -> Value {
        let Some(sealed) = value.get("sealed") else { return value.clone() };
        let person = person.unwrap_or_else(|| panic!("{field} is sealed, and nobody's"));
        let key = self.house.door.shop.keys.get(person).await.expect("the store answers");
        let sealed = Sealed::from_text(sealed.as_str().expect("a text").to_owned());
        let opened = sealed.open(&key.expect("the person has a key"), person, field);
        opened.unwrap_or_else(|| panic!("{field} does not open"))
    }

    /// The event that the partner has received with this routing key about this subject, once it is there.
    pub(crate) async fn message(&self, routing_key: &str, subject: Uuid) -> Value {
        let subject = subject.to_string();
        let look = async {
            loop {
                let received = self.partner.received().into_iter();
                let mut fitting = received.filter(|(key, event)| {
                    key == routing_key && event["subject"] == subject.as_str()
                });
                if let Some((_, event)) = fitting.next() {
                    return event;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let received = timeout(PATIENCE, look).await;
        received.unwrap_or_else(|_| panic!("the partner received no {routing_key} about {subject}"))
    }
}

/// An order with its customer.
pub(crate) struct Placed<'s> {
    pub(crate) id: Uuid,
    pub(crate) shopper: Shopper<'s>,
    pub(crate) product: Uuid,
    /// As it was when it was placed.
    pub(crate) order: Value,
}

impl Placed<'_> {
    /// The data of authorizePayment with one of the customer's methods.
    pub(crate) async fn authorizing(&self, method: &str) -> Value {
        let method = self.shopper.method(method).await;
        json!({"orderId": self.id, "paymentMethodId": method, "amount": self.order["totalAmount"]})
    }

    pub(crate) fn payment(&self) -> Uuid {
        id(&self.order["payment"]["id"])
    }
}

/// The data of shipOrder.
pub(crate) fn parcel(order: Uuid) -> Value {
    json!({"orderId": order, "trackingNumber": "1Z999", "carrier": "UPS"})
}

/// The data with another value.
pub(crate) fn with(mut data: Value, field: &str, value: Value) -> Value {
    data[field] = value;
    data
}

/// The names of the data.
pub(crate) fn names(data: &Value) -> BTreeSet<String> {
    data.as_object().into_iter().flat_map(|data| data.keys().cloned()).collect()
}

/// Runs a story in a shop of its own, because it moves the clock or disturbs the gateway.
pub(crate) async fn alone<T>(story: impl AsyncFnOnce(&Stage) -> T) -> T {
    let stage = Stage::open().await;
    let told = story(&stage).await;
    stage.house.close().await;
    told
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let look = async {
        while !is().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, look).await.is_ok(), "not in time: {what}");
}
