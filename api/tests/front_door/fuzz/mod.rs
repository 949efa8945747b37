//! Property-based requests: Schemathesis makes them from the document, as callers of each kind.
//!
//! It checks that no answer is a 5xx, that each answer is one of those that the document describes, that a wrong request is refused and a right one is
//! not refused for its form, that an operation needs its token, that what was deleted is gone, and that unknown methods are refused. `hooks.py` puts
//! the ids of what is there into the requests. The seed is fixed; `STEPWISE_SEED` takes another one.

use std::{fs, path::Path, time::Duration};

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Workshop,
    conformance::stage::own_id,
    house::{House, send},
    shopper::{Shopper, id, product},
};

/// The program, from PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// The least number of requests of all callers together.
const CASES: u64 = 5_000;

/// The time limit for one caller.
const LIMIT: Duration = Duration::from_secs(170);

/// Operations that are not tried: streams do not end, and the others end the caller's own session.
const LEFT_OUT: [&str; 6] = [
    "streamEvents",
    "streamOperation",
    "logOut",
    "endSession",
    "changePassword",
    "requestGdprErasure",
];

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    positive_data_acceptance,ignored_auth,use_after_free,ensure_resource_availability,\
    unsupported_method,allow_header_conformance,missing_required_header,\
    a_failure_is_a_whole_problem";

/// A caller, its token, and how many requests it makes for each operation beside those that cover the document.
struct Caller {
    name: &'static str,
    token: String,
    examples: u32,
    /// The ids and values that `hooks.py` puts into its requests, by name.
    there: Value,
}

/// A guest with an item in the cart, who otherwise sees the same things.
async fn guest(house: &House, there: &Value) -> Caller {
    let guest = send(house.ask(Method::POST, "/v1/guest-carts")).await.is(201).json();
    let token = guest["token"].as_str().expect("a token").to_owned();
    let customer = guest["customerId"].clone();
    let items = format!("/v1/customers/{}/cart/items", id(&customer));
    let item = json!({"productId": there["productId"][1], "quantity": 2});
    let cart = send(house.post(&items, &item).bearer_auth(&token)).await.is(200).json();
    let mut there = there.clone();
    there["customerId"] = json!([customer]);
    there["cartId"] = json!([own_id(&cart, "cartId")]);
    there["cartItemId"] = json!([own_id(&cart["items"][0], "cartItemId")]);
    Caller { name: "guest", token, examples: 4, there }
}

/// Opens orders in each state, and answers the ids and values that `hooks.py` puts into requests.
async fn things(house: &House, admin: &str, shopper: &Shopper<'_>) -> Value {
    let mut products = Vec::new();
    for stock in [50, 50, 50, 0] {
        products.push(product(house, admin, "10.00", stock).await);
    }
    let (address, method) = (shopper.address().await, shopper.method("ok").await);
    let (mut orders, mut payments, mut operations) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        shopper.add(products[0], 2).await.is(200);
        let order = shopper.place(&shopper.order(address, method), 15).await.is(201).json();
        orders.push(id(&order["id"]));
        payments.push(id(&order["payment"]["id"]));
    }
    for order in &orders[1..] {
        let confirm = house.post(&format!("/v1/orders/{order}/confirm"), &json!({}));
        send(confirm.bearer_auth(admin)).await.is(200);
    }
    let sagas = send(house.get("/v1/admin/sagas").bearer_auth(admin)).await.is(200).json();
    for saga in sagas["items"].as_array().into_iter().flatten() {
        operations.push(id(&saga["id"]));
    }
    let cart = shopper.add(products[1], 2).await.is(200).json();
    let category = send(house.get(&format!("/v1/products/{}", products[0]))).await.json();
    let money = |amount: &str| json!({"amount": amount, "currency": "USD"});
    json!({
        "customerId": [shopper.id], "addressId": [address], "shippingAddressId": [address],
        "paymentMethodId": [method], "cartId": [own_id(&cart, "cartId")],
        "cartItemId": [own_id(&cart["items"][0], "cartItemId")], "productId": products,
        "orderId": orders, "paymentId": payments, "operationId": operations, "sagaId": operations,
        "categoryId": [category["categoryId"]], "parentCategoryId": [category["categoryId"]],
        "type": ["shop.order.placed.v1"], "code": ["out-of-stock"],
        "email": [shopper.email, "somebody@example.org"], "country": ["US"], "state": ["CA", "NY"],
        "postalCode": ["94103"], "token": ["pm_sandbox_ok", "pm_sandbox_declined"],
        "brand": ["visa"], "last4": ["4242"], "amount": [money("27.44"), money("10.00")],
        "price": [money("9.99")], "returnUrl": ["http://127.0.0.1:8080/thanks"],
        "cancelUrl": ["http://127.0.0.1:8080/cart"], "quantity": [1, 2, 3],
    })
}

/// Runs Schemathesis as this caller. Answers how many requests it has made, and what it says if it has found a fault.
async fn run(workshop: &Workshop, base: &str, caller: &Caller) -> (u64, Option<String>) {
    let seed = std::env::var("STEPWISE_SEED").unwrap_or_else(|_| "20261127".to_owned());
    let (document, examples) = (format!("{base}/openapi.json"), caller.examples.to_string());
    let authorization = format!("Authorization: Bearer {}", caller.token);
    let mut args = vec![
        "--config-file",
        "schemathesis.toml",
        "run",
        &*document,
        "--no-color",
        "--seed",
        &*seed,
        "--max-examples",
        &*examples,
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--checks",
        CHECKS,
    ];
    for operation in LEFT_OUT {
        args.extend(["--exclude-operation-id", operation]);
    }
    if !caller.token.is_empty() {
        args.extend(["--header", &*authorization]);
    }
    let there = caller.there.to_string();
    let environment = [("STEPWISE_THERE", &*there)];
    let program = workshop.program("schemathesis");
    let (succeeded, said) = workshop.try_run(&program, &args, &environment, LIMIT).await;
    let requests = said
        .split_once(" generated, ")
        .and_then(|(before, _)| before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let found = format!("as {} (seed {seed}):\n{said}", caller.name);
    (requests.unwrap_or(0), (!succeeded).then_some(found))
}

/// Needs `python3` and PyPI.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_made_from_the_document_find_no_answer_that_it_does_not_describe() {
    let workshop = Workshop::with(&[SCHEMATHESIS]).await;
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/front_door/fuzz");
    for name in ["hooks.py", "schemathesis.toml"] {
        fs::copy(files.join(name), workshop.file(name)).expect("writable");
    }
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    let there = things(&house, &admin, &shopper).await;
    let guest = guest(&house, &there).await;
    let scopes =
        ["payments:write", "payments:read", "inventory:write", "inventory:read", "operations:read"];
    let caller = |name, token, examples| Caller { name, token, examples, there: there.clone() };
    let callers = [
        caller("customer", shopper.token.clone(), 12),
        caller("viewer", house.key("viewer", &[]).await, 2),
        caller("operator", house.key("operator", &[]).await, 2),
        caller("service", house.key("service", &scopes).await, 2),
        guest,
        caller("nobody", String::new(), 2),
        caller("admin", admin, 12),
    ];
    let told = callers.iter().map(|caller| run(&workshop, &house.base, caller));
    let told: Vec<_> = stream::iter(told).buffer_unordered(2).collect().await;
    let requests: u64 = told.iter().map(|(requests, _)| requests).sum();
    let faults: Vec<String> = told.into_iter().filter_map(|(_, found)| found).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(requests >= CASES, "only {requests} requests");
    house.shut().await;
}
