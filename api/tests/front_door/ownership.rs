//! The callers of each operation: every operation of the document is called by every kind of caller, with the things of one customer.
//!
//! An operation without a line in [`DECISIONS`] fails the test: decide whom it serves, and whether it is about the things of one customer.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House},
    shopper::{Shopper, address, id, product},
};

/// The person whose things an operation shows or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Things {
    /// Nobody's: the shop's own.
    Shop,
    /// The things of the caller, whoever that is.
    Caller,
    /// The things of the customer that the request names. For other customers they do not exist.
    Named,
}
use Things::{Caller, Named, Shop};

/// Operations, the kinds of callers that they serve, and whose things they are about. `anyone` needs no token; `visitor` needs none, but a token
/// that is sent must be valid. A service needs a scope wherever it is served.
const DECISIONS: [(&str, &str, Things); 14] = [
    (
        "registerCustomer verifyCustomerEmail resendVerification requestPasswordReset resetPassword logIn createGuestCart listCategories \
         getEventSchema getProblem health ready receiveGatewayWebhook receivePayPalWebhook",
        "anyone",
        Shop,
    ),
    ("listProducts getProduct", "visitor", Shop),
    ("logOut getMe initiatePayPal", "customer", Caller),
    ("listOrders", "customer admin", Caller),
    (
        "addShippingAddress listAddresses getAddress removeAddress addPaymentMethod listPaymentMethods getPaymentMethod \
         removePaymentMethod mergeGuestCart changePassword listSessions endSession requestGdprErasure exportCustomerData",
        "customer",
        Named,
    ),
    (
        "getCart addItemToCart updateCartItemQuantity removeItemFromCart restoreCartItem clearCart",
        "customer guest",
        Named,
    ),
    ("placeOrder cancelOrder getOrder getOrderTimeline", "customer admin", Named),
    ("getOperation streamOperation", "customer guest viewer operator admin service", Named),
    ("getPayment", "customer viewer operator admin service", Named),
    (
        "createProduct updateProduct deleteProduct activateProduct deactivateProduct addProductVariant createCategory \
         confirmOrder shipOrder deliverOrder",
        "admin",
        Shop,
    ),
    (
        "setInventoryQuantity adjustInventory reserveInventory releaseInventory authorizePayment refundPayment streamEvents",
        "admin service",
        Shop,
    ),
    ("getInventory listInventoryAudit", "viewer operator admin service", Shop),
    (
        "listSagas getSaga listWorkers listParkedEvents getParkedEvent",
        "viewer operator admin",
        Shop,
    ),
    ("retryParkedEvent dismissParkedEvent", "operator admin", Shop),
];

/// An operation of the document.
struct Operation {
    name: String,
    method: Method,
    path: String,
    body: Option<Value>,
    served: &'static str,
    things: Things,
}

/// The value of a field or path parameter, by its name.
type Values = BTreeMap<&'static str, Value>;

fn operations(values: &Values) -> Vec<Operation> {
    let document: Value =
        serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let name = operation["operationId"].as_str().expect("a name").to_owned();
            let has = |names: &str| names.split_whitespace().any(|known| known == name);
            let decision = DECISIONS.iter().find(|(names, ..)| has(names));
            let (_, served, things) = decision.unwrap_or_else(|| {
                panic!("decide who may call {name}: give it a line in DECISIONS")
            });
            let content = operation["requestBody"]["content"].as_object();
            let schema = content.and_then(|content| Some(&content.values().next()?["schema"]));
            operations.push(Operation {
                body: schema.map(|schema| example(&document, &name, schema, values)),
                name,
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                served,
                things: *things,
            });
        }
    }
    // It ends the caller's session.
    operations.sort_by_key(|operation| operation.name == "logOut");
    operations
}

/// A body that has what the schema requires.
fn example(document: &Value, field: &str, schema: &Value, values: &Values) -> Value {
    if let Some(value) = values.get(field) {
        return value.clone();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        if name == "Money" {
            return json!({"amount": "1.00", "currency": "USD"});
        }
        return example(document, field, &document["components"]["schemas"][name], values);
    }
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (_, Some("uuid")) => json!(Uuid::now_v7()),
        (Some("integer" | "number"), _) => json!(1),
        (Some("boolean"), _) => json!(true),
        (Some("array"), _) => json!([example(document, "", &schema["items"], values)]),
        (Some("object"), _) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str).map(|name| {
                let property = &schema["properties"][name];
                (name.to_owned(), example(document, name, property, values))
            });
            Value::Object(fields.collect())
        }
        _ => json!("text"),
    }
}

impl Operation {
    /// The request of a caller, with these values in the path.
    fn request(&self, house: &House, token: Option<&str>, values: &Values) -> RequestBuilder {
        let parts = self.path.split('/').map(|part| {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            match name.map(|name| values.get(name)) {
                None => part.to_owned(),
                Some(Some(value)) => value.as_str().expect("an id").to_owned(),
                Some(None) => Uuid::now_v7().to_string(),
            }
        });
        let mut request = house.ask(self.method.clone(), &parts.collect::<Vec<_>>().join("/"));
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.header("idempotency-key", Uuid::now_v7().to_string())
    }

    fn serves(&self, kind: &str) -> bool {
        self.served.split_whitespace().any(|served| served == kind)
    }

    /// The status and code with which a caller of this kind must be refused. `None`: it is admitted.
    fn refusal(&self, kind: &str) -> Option<(u16, &'static str)> {
        match (self.served, kind) {
            ("anyone", _) => None,
            (_, "revoked") => Some((401, "token_invalid")),
            ("visitor", _) => None,
            (_, "nobody") => Some((401, "token_missing")),
            // It has no scope.
            (_, "service") => Some((403, "forbidden")),
            (_, kind) if !self.serves(kind) => Some((403, "forbidden")),
            _ => None,
        }
    }
}

/// Sends a request. An answer that is a stream is not read.
async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
    let text = if is_stream { String::new() } else { response.text().await.expect("an answer") };
    Answer { status, headers, text }
}

/// A customer with one of everything, by the names of parameters and fields.
async fn owner(house: &House, admin: &str) -> (Uuid, Values) {
    let owner = Shopper::new(house).await;
    let thing = product(house, admin, "10.00", 9).await;
    let (place, method) = (owner.address().await, owner.method("ok").await);
    owner.add(thing, 2).await.is(200);
    let begun = owner.place(&owner.order(place, method), 0).await.is(202).json();
    let order = id(&begun["subject"]);
    let found: (Uuid, Uuid, Uuid) = sqlx::query_as(
        "select c.cart_id, i.cart_item_id, o.payment_id from shop.cart c
         join shop.cart_item i using (cart_id) join shop.\"order\" o using (customer_id)
         where c.customer_id = $1",
    )
    .bind(owner.id)
    .fetch_one(house.database.pool())
    .await
    .expect("one of each");
    let mut values = Values::from([
        ("customerId", json!(owner.id)),
        ("addressId", json!(place)),
        ("shippingAddressId", json!(place)),
        ("paymentMethodId", json!(method)),
        ("orderId", json!(order)),
        ("operationId", begun["id"].clone()),
        ("cartId", json!(found.0)),
        ("cartItemId", json!(found.1)),
        ("paymentId", json!(found.2)),
        ("productId", json!(thing)),
        ("returnUrl", json!("http://127.0.0.1:8080/thanks")),
        ("cancelUrl", json!("http://127.0.0.1:8080/cart")),
        ("addShippingAddress", address()),
    ]);
    let method = json!({"token": "pm_sandbox_ok", "brand": "visa", "last4": "4242"});
    values.insert("addPaymentMethod", method);
    (owner.id, values)
}

/// Everything that the customer has, as text.
async fn belongings(house: &House, customer: Uuid) -> String {
    sqlx::query_scalar(
        "select concat_ws(E'\\n',
            (select jsonb_agg(to_jsonb(x) order by address_id) from shop.shipping_address x where customer_id = $1),
            (select jsonb_agg(to_jsonb(x) order by payment_method_id) from shop.payment_method x where customer_id = $1),
            (select jsonb_agg(to_jsonb(x)) from shop.cart x where customer_id = $1),
            (select jsonb_agg(to_jsonb(x)) from shop.cart_item x join shop.cart using (cart_id) where customer_id = $1),
            (select jsonb_agg(to_jsonb(x)) from shop.\"order\" x where customer_id = $1))",
    )
    .bind(customer)
    .fetch_one(house.database.pool())
    .await
    .expect("readable")
}

/// The callers: their kind, and their token. An admin comes last, because it may change everything.
async fn callers(house: &House, admin: &str) -> Vec<(&'static str, Option<String>)> {
    let stranger = Shopper::new(house).await;
    let guest = answer(house.ask(Method::POST, "/v1/guest-carts")).await.is(201).json();
    let guest = guest["token"].as_str().expect("a token").to_owned();
    let revoked = house.key("admin", &[]).await;
    sqlx::query("update shop.access_key set revoked_at = saga.now() where key_hash = $1")
        .bind(&stepwise::door::caller::token_hash(&revoked)[..])
        .execute(house.database.pool())
        .await
        .expect("revoked");
    vec![
        ("nobody", None),
        ("revoked", Some(revoked)),
        ("customer", Some(stranger.token)),
        ("guest", Some(guest)),
        ("service", Some(house.key("service", &[]).await)),
        ("service", Some(house.key("service", &["nothing:read"]).await)),
        ("viewer", Some(house.key("viewer", &[]).await)),
        ("operator", Some(house.key("operator", &[]).await)),
        ("admin", Some(admin.to_owned())),
    ]
}

#[tokio::test]
async fn every_operation_serves_exactly_the_callers_that_were_decided_and_hides_other_peoples_things()
 {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let (customer, values) = owner(&house, &admin).await;
    let operations = operations(&values);
    let callers = callers(&house, &admin).await;
    let before = belongings(&house, customer).await;
    let (mut faults, mut hidden) = (Vec::new(), 0);
    for (kind, token) in &callers {
        if *kind == "admin" {
            assert_eq!(
                belongings(&house, customer).await,
                before,
                "somebody has changed something"
            );
        }
        for operation in &operations {
            let token = token.as_deref();
            let got = answer(operation.request(&house, token, &values)).await;
            let who = format!("{} by {kind}: {} {}", operation.name, got.status, got.text);
            match operation.refusal(kind) {
                Some((status, code)) if got.status == status && got.json()["code"] == code => {}
                Some((status, code)) => {
                    faults.push(format!("{who}, but {status} {code} was decided"));
                }
                None if operation.things == Named && matches!(*kind, "customer" | "guest") => {
                    // The same answer as for ids that nobody has.
                    let unknown = answer(operation.request(&house, token, &Values::new())).await;
                    let said = |answer: &Answer| (answer.status, answer.json()["code"].clone());
                    if got.status != 404 || said(&got) != said(&unknown) {
                        faults.push(format!("{who}, but {} {}", unknown.status, unknown.text));
                    }
                    hidden += 1;
                }
                None if matches!(got.status, 401 | 500..) && operation.served != "anyone" => {
                    faults.push(format!("{who}, but it is served"));
                }
                None if got.status == 403 => faults.push(format!("{who}, but it is served")),
                None => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(hidden > 25, "only {hidden} requests for other people's things");
    house.shut().await;
}

#[test]
fn no_decision_is_about_an_operation_that_is_not_there_or_was_decided_twice() {
    let names: Vec<String> =
        operations(&Values::new()).into_iter().map(|operation| operation.name).collect();
    let mut decided: Vec<&str> =
        DECISIONS.iter().flat_map(|(names, ..)| names.split_whitespace()).collect();
    for name in &decided {
        assert!(names.iter().any(|known| known == name), "there is no operation {name}");
    }
    let all = decided.len();
    decided.sort_unstable();
    decided.dedup();
    assert_eq!(decided.len(), all, "an operation was decided twice");
}
