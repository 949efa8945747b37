//! Wrong values in every field of every body and in every id of a path that the document describes.
//!
//! Each is refused with a problem that names the field, never with a 5xx, and changes nothing.

mod values;

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};

use crate::{
    conformance::{
        failures::{
            adjustment, approval, changing, creating, item, refund, registration, shipping, stock,
        },
        stage::{Operation, Placed, Stage, operations, parcel, with},
    },
    house::{Answer, send},
    shopper::{PASSWORD, Shopper, letters},
};

/// Fields that take such a value, with the reason.
const TAKEN: &[(&str, &str, &str)] = &[
    ("setInventoryQuantity", "quantity", "0"),
    ("adjustInventory", "adjustment", "0"),
    ("adjustInventory", "adjustment", "-1"),
    ("updateCartItemQuantity", "quantity", "0"),
    // A product need not be described.
    ("createProduct", "description", "an empty text"),
    ("updateProduct", "description", "an empty text"),
    // The token counts only beside the id of a guest's cart.
    ("logIn", "guestToken", "an empty text"),
    ("logIn", "guestToken", "10,000 characters"),
    ("logIn", "guestToken", "right to left"),
];

/// Operations whose refusal must not tell which field is wrong, or whose field is a secret that is simply another one.
const SILENT: &[(&str, &str)] = &[
    ("logIn", "email"),
    ("logIn", "password"),
    ("logIn", "guestToken"),
    ("mergeGuestCart", "guestToken"),
];

/// A shop with one of everything, and for each operation the caller and the data that it would take.
struct World<'s> {
    stage: &'s Stage,
    document: Value,
    operations: BTreeMap<String, Operation>,
    placed: Placed<'s>,
    fine: BTreeMap<&'static str, (String, Value)>,
    /// The ids of what is there, by their names in paths.
    ids: Map<String, Value>,
}

impl<'s> World<'s> {
    async fn new(stage: &'s Stage) -> Self {
        let document = send(stage.house.get("/openapi.json")).await.is(200).json();
        let placed = stage.confirmed("ok").await;
        let Placed { shopper, product, .. } = &placed;
        let line = item(&shopper.add(*product, 1).await.is(200).json());
        let of_order = format!("/v1/admin/sagas?subject={}", placed.id);
        let sagas = send(stage.house.get(&of_order).bearer_auth(&stage.admin)).await;
        let operation = sagas.is(200).json()["items"][0]["id"].clone();
        let ids = json!({
            "customerId": shopper.id, "addressId": shopper.address().await,
            "paymentMethodId": shopper.method("ok").await, "cartId": line["cartId"],
            "cartItemId": line["cartItemId"], "productId": product, "orderId": placed.id,
            "paymentId": placed.payment(), "operationId": operation, "sagaId": operation,
            "sessionId": uuid::Uuid::now_v7(), "eventId": "evt_1", "type": "shop.order.placed.v1",
            "code": "out_of_stock",
        });
        let ids = ids.as_object().cloned().expect("an object");
        let operations = operations(&document);
        let mut world = Self { stage, document, operations, placed, fine: BTreeMap::new(), ids };
        world.of_customers().await;
        world.of_staff().await;
        world
    }

    /// An operation with its caller, the ids of its path that are named, and more data.
    fn add(&mut self, operation: &'static str, by: &str, ids: &[&str], data: &Value) {
        let mut whole = data.as_object().cloned().expect("an object");
        whole.extend(ids.iter().map(|id| ((*id).to_owned(), self.ids[*id].clone())));
        self.fine.insert(operation, (by.to_owned(), Value::Object(whole)));
    }

    async fn of_customers(&mut self) {
        let me = self.placed.shopper.clone();
        let unverified = Shopper::unverified(&self.stage.house).await;
        let token = unverified.verification_token().await;
        let (guest_cart, guest_token, _) = self.stage.guest().await;
        self.add("registerCustomer", "", &[], &registration());
        self.add("verifyCustomerEmail", "", &[], &json!({"verificationToken": token}));
        self.add("logIn", "", &[], &json!({"email": me.email, "password": PASSWORD}));
        let me = &me;
        let by = &*me.token;
        self.add("addShippingAddress", by, &[], &shipping(me));
        let card = json!({"token": "pm_sandbox_ok", "brand": "visa", "last4": "4242"});
        self.add("addPaymentMethod", by, &["customerId"], &card);
        let adding = json!({"variantId": null, "quantity": 1});
        self.add("addItemToCart", by, &["customerId", "productId"], &adding);
        let two = json!({"quantity": 2});
        self.add("updateCartItemQuantity", by, &["cartId", "cartItemId"], &two);
        let merging = json!({"guestCartId": guest_cart, "guestToken": guest_token});
        self.add("mergeGuestCart", by, &["customerId"], &merging);
        let address = json!({"shippingAddressId": self.ids["addressId"]});
        self.add("placeOrder", by, &["customerId", "paymentMethodId"], &address);
        self.add("cancelOrder", by, &["orderId"], &json!({"reason": "no more"}));
        self.add("initiatePayPal", by, &[], &approval());
        let resetting = json!({"resetToken": "a".repeat(43), "password": PASSWORD});
        self.add("resetPassword", "", &[], &resetting);
        let changing =
            json!({"currentPassword": PASSWORD, "newPassword": "another lantern over dry slate"});
        self.add("changePassword", by, &["customerId"], &changing);
        self.add("requestGdprErasure", by, &["customerId"], &json!({"confirmation": true}));
    }

    async fn of_staff(&mut self) {
        let (stage, order, product) = (self.stage, self.placed.id, self.placed.product);
        let by = &*stage.admin;
        self.add("shipOrder", by, &[], &parcel(order));
        self.add("createProduct", by, &[], &creating(stage).await);
        self.add("updateProduct", by, &[], &changing(product));
        let blue = json!({"name": "blue", "price": {"amount": "9.00", "currency": "USD"}});
        self.add("addProductVariant", by, &["productId"], &blue);
        let category = json!({"name": letters(), "parentCategoryId": null});
        self.add("createCategory", by, &[], &category);
        // A product of its own: of the other one something is reserved.
        self.add("setInventoryQuantity", by, &[], &stock(stage.product(9).await, 20));
        self.add("adjustInventory", by, &[], &adjustment(product, 1));
        self.add("reserveInventory", by, &["productId", "orderId"], &json!({"quantity": 1}));
        self.add("releaseInventory", by, &[], &stock(product, 1));
        let authorizing = stage.lapsed().await.authorizing("ok").await;
        self.add("authorizePayment", by, &[], &authorizing);
        self.add("refundPayment", by, &[], &refund(order));
        for verb in ["retryParkedEvent", "dismissParkedEvent"] {
            self.add(verb, by, &["eventId"], &json!({"reason": "a look"}));
        }
    }

    /// The operations with a JSON body, except for webhooks, each with the body's schema.
    fn bodies(&self) -> Vec<(String, &Value)> {
        let methods = self.document["paths"].as_object().into_iter().flat_map(|p| p.values());
        let operations = methods.flat_map(|m| m.as_object().into_iter().flat_map(|m| m.values()));
        operations
            .filter_map(|operation| {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                let schema = values::resolved(&self.document, schema);
                schema["properties"].is_object().then_some((id, schema))
            })
            .collect()
    }

    /// The caller and the data of a request that is fine, or at least looks so.
    fn fine(&self, operation: &str) -> (String, Value) {
        self.fine.get(operation).cloned().unwrap_or_else(|| self.guessed(operation))
    }

    /// Ids of what is there, and a value of the right type for each field of the body.
    fn guessed(&self, operation: &str) -> (String, Value) {
        let known = &self.operations[operation];
        let mut data = self.ids.clone();
        data.retain(|id, _| known.in_path().any(|name| name == id));
        if let Some((_, schema)) = self.bodies().iter().find(|(id, _)| id == operation) {
            let fields = schema["properties"].as_object().into_iter().flatten();
            data.extend(
                fields.map(|(field, of)| (field.clone(), values::right(&self.document, of))),
            );
        }
        let is_customers = known.path.contains("{customerId}") || known.path.contains("/me");
        let by = if is_customers { &self.placed.shopper.token } else { &self.stage.admin };
        (by.clone(), Value::Object(data))
    }

    fn request(&self, operation: &str) -> (RequestBuilder, Map<String, Value>) {
        let (by, data) = self.fine(operation);
        self.stage.request(operation, &by, &data)
    }

    /// Sends the text as the operation's body.
    async fn send(&self, operation: &str, body: String) -> Answer {
        let (request, _) = self.request(operation);
        send(request.header("content-type", "application/json").body(body)).await
    }

    /// Counts what a request might have written.
    async fn written(&self) -> Vec<i64> {
        let tables = [
            "shop.domain_event",
            "saga.instance",
            "saga.outbox",
            "shop.idempotency",
            "shop.customer",
            "shop.session",
            "shop.cart_item",
            "shop.\"order\"",
            "shop.payment",
            "shop.inventory_audit",
            "shop.product",
            "shop.category",
            "shop.payment_method",
            "shop.shipping_address",
        ];
        let mut counts = Vec::new();
        for table in tables {
            let text = format!("select count(*) from {table}");
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
            counts.push(count.fetch_one(self.stage.house.database.pool()).await.expect(table));
        }
        counts
    }
}

/// Why this answer to a wrong value of a field is wrong; `None`: it is a problem that names the field.
fn fault(answer: &Answer, operation: &str, field: &str) -> Option<String> {
    if !(400..500).contains(&answer.status) {
        return Some(format!("answered {}: {}", answer.status, answer.text));
    }
    let (status, code) = answer.problem();
    if SILENT.contains(&(operation, field)) || (status, &*code) == (400, "malformed_json") {
        return None;
    }
    let body = answer.json();
    let pointer = body["errors"][0]["pointer"].as_str().unwrap_or_default();
    let at = format!("/{field}");
    let is_named = pointer == at || pointer.starts_with(&format!("{at}/"));
    (!is_named).then(|| format!("{status} {code} names {pointer:?}"))
}

#[tokio::test]
async fn a_wrong_value_in_any_field_of_any_body_is_refused_by_name_and_changes_nothing() {
    let stage = Stage::open().await;
    let world = World::new(&stage).await;
    let mut cases: Vec<(String, String, &'static str, String)> = Vec::new();
    for (operation, schema) in world.bodies() {
        let (_, fine) = world.request(&operation);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (field, schema) in schema["properties"].as_object().expect("an object") {
            let is_required = required.contains(&json!(field));
            let whole = Value::Object(fine.clone());
            let mut add = |case, body| cases.push((operation.clone(), field.clone(), case, body));
            for wrong in values::of(&world.document, schema, is_required) {
                let body = with(whole.clone(), field, wrong.value);
                add(wrong.case, values::written(&body));
            }
            let twice = format!(
                "{{\"{field}\":null,{}",
                &with(whole.clone(), field, json!(1)).to_string()[1..]
            );
            add("twice", twice);
            if is_required {
                let mut less = fine.clone();
                less.remove(field);
                add("missing", Value::Object(less).to_string());
            }
        }
        let surplus = with(Value::Object(fine), "surplus", json!(1)).to_string();
        cases.push((operation, "surplus".to_owned(), "a field that nobody knows", surplus));
    }
    assert!(cases.len() > 300, "only {} cases", cases.len());
    let before = world.written().await;
    let world = &world;
    let faults = stream::iter(cases).map(async |(operation, field, case, body)| {
        let answer = world.send(&operation, body).await;
        let is_taken = TAKEN.contains(&(&*operation, &*field, case));
        match fault(&answer, &operation, &field) {
            None if is_taken => {
                Some(format!("{operation}.{field}, {case}: it is not taken: {}", answer.text))
            }
            Some(_) if is_taken && answer.status < 300 => None,
            fault => fault.map(|fault| format!("{operation}.{field}, {case}: {fault}")),
        }
    });
    let faults: Vec<Option<String>> = faults.buffered(4).collect().await;
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let taken = i64::try_from(TAKEN.len()).expect("a few");
    for (before, after) in before.iter().zip(world.written().await) {
        assert!(after - before <= 2 * taken, "a refused request has written something");
    }
    stage.house.close().await;
}

#[tokio::test]
async fn a_wrong_id_in_any_path_is_not_found_or_refused() {
    let stage = Stage::open().await;
    let world = World::new(&stage).await;
    let mut faults = Vec::new();
    let mut tried = 0;
    for (operation, known) in &world.operations {
        for name in known.in_path() {
            for wrong in values::of_path() {
                tried += 1;
                let (_, data) = world.fine(operation);
                let data = with(data, name, json!(wrong));
                let mut statuses = Vec::new();
                for by in [&stage.admin, &world.placed.shopper.token] {
                    let answer = stage.send(operation, by, &data).await;
                    if (400..500).contains(&answer.status) {
                        answer.problem();
                    }
                    statuses.push(answer.status);
                }
                let is_refused = statuses.iter().all(|status| (400..500).contains(status));
                if !is_refused || !statuses.iter().any(|status| matches!(status, 400 | 404)) {
                    let start: String = wrong.chars().take(40).collect();
                    faults.push(format!("{operation} {name}={start}: {statuses:?}"));
                }
            }
        }
    }
    assert!(tried > 300, "only {tried} ids");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    stage.house.close().await;
}

/// Ids in paths that are a customer's own.
const OWN: [&str; 8] = [
    "customerId",
    "addressId",
    "paymentMethodId",
    "cartId",
    "cartItemId",
    "orderId",
    "operationId",
    "paymentId",
];

#[tokio::test]
async fn the_ids_of_another_customer_lead_nowhere() {
    let stage = Stage::open().await;
    let world = World::new(&stage).await;
    let stranger = Shopper::new(&stage.house).await;
    let (guest_cart, guest, _) = stage.guest().await;
    assert_ne!(json!(guest_cart), world.ids["cartId"]);
    let mut faults = Vec::new();
    let mut tried = 0;
    for (operation, known) in &world.operations {
        if !known.in_path().any(|name| OWN.contains(&name)) {
            continue;
        }
        tried += 1;
        let (_, data) = world.fine(operation);
        for by in [&stranger.token, &guest] {
            let answer = stage.send(operation, by, &data).await;
            if !matches!(answer.status, 403 | 404) {
                faults.push(format!("{operation}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(tried > 20, "only {tried} operations");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    stage.house.close().await;
}
