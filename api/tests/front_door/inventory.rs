//! Stock over HTTP: every refusal, and the bodies that no operation accepts.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::{Answer, House, refusal, send};

/// A front door with one product that has `on_hand` in stock, and a stock keeper's key.
pub(crate) struct Store {
    pub(crate) house: House,
    pub(crate) key: String,
    pub(crate) product: Uuid,
}

impl Store {
    pub(crate) async fn open(on_hand: i32) -> Self {
        let house = House::open().await;
        let key = house.key("service", &["inventory:write", "inventory:read"]).await;
        let product = put_product(&house, on_hand).await;
        Self { house, key, product }
    }

    pub(crate) async fn ask(&self, method: Method, what: &str, body: &Value) -> Answer {
        let path = format!("/v1/products/{}/inventory{what}", self.product);
        let key = Uuid::now_v7().to_string();
        let request = self.house.ask(method, &path).bearer_auth(&self.key).json(body);
        send(request.header("idempotency-key", key)).await
    }

    pub(crate) async fn stock(&self) -> (i64, i64) {
        let path = format!("/v1/products/{}/inventory", self.product);
        let stock = send(self.house.get(&path).bearer_auth(&self.key)).await.is(200).json();
        let number = |name: &str| stock["items"][0][name].as_i64().expect("a number");
        (number("onHand"), number("reserved"))
    }
}

/// Writes an order, which nothing but reservations refer to.
async fn put_order(house: &House) -> Uuid {
    let order = Uuid::now_v7();
    let text = r#"insert into shop."order" (order_id, order_number, customer_id, cart_id, payment_id,
            status, item_count, subtotal, shipping_cost, tax, total_amount, currency,
            shipping_address, created_at, updated_at)
        values ($1, $1::text, $1, $1, $1, 'pending', 1, 1, 0, 0, 1, 'USD', '', saga.now(), saga.now())"#;
    sqlx::query(text).bind(order).execute(house.database.pool()).await.expect("an order");
    order
}

async fn put_product(house: &House, on_hand: i32) -> Uuid {
    let (category, product) = (Uuid::now_v7(), Uuid::now_v7());
    let statements = [
        "insert into shop.category (category_id, name, depth, created_at)
         values ($1, 'Things', 1, saga.now())",
        "insert into shop.product (product_id, category_id, name, description, price, currency,
            status, created_by, created_at, updated_at)
         values ($2, $1, 'Thing', '', 10, 'USD', 'active', $2, saga.now(), saga.now())",
        "insert into shop.inventory (inventory_id, product_id, on_hand, updated_at)
         values ($1, $2, $3, saga.now())",
    ];
    let mut tx = house.database.pool().begin().await.expect("a transaction");
    for statement in statements {
        let query = format!("with given as (select $1::uuid, $2::uuid, $3::int) {statement}");
        sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(category)
            .bind(product)
            .bind(on_hand)
            .execute(&mut *tx)
            .await
            .expect("a row");
    }
    tx.commit().await.expect("a product");
    product
}

#[tokio::test]
async fn stock_is_set_adjusted_reserved_released_and_every_change_is_in_the_audit() {
    let store = Store::open(10).await;
    let order = put_order(&store.house).await;
    let set = json!({"quantity": 20, "reason": "count"});
    store.ask(Method::PUT, "", &set).await.is(200);
    store
        .ask(Method::POST, "/adjust", &json!({"adjustment": -5, "reason": "broken"}))
        .await
        .is(200);
    let reserve = json!({"quantity": 4, "orderId": order});
    let reserved = store.ask(Method::POST, "/reserve", &reserve).await.is(200).json();
    assert_eq!(reserved["available"], 11);
    store.ask(Method::POST, "/release", &json!({"quantity": 1, "reason": "less"})).await.is(200);
    assert_eq!(store.stock().await, (15, 3));

    let audit = format!("/v1/products/{}/inventory/audit", store.product);
    let page =
        |query: String| send(store.house.get(&format!("{audit}{query}")).bearer_auth(&store.key));
    let first = page("?limit=3".into()).await.is(200).json();
    assert_eq!(first["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(first["items"][0]["change"], "released");
    let cursor = first["nextCursor"].as_str().expect("there is one more");
    let last = page(format!("?limit=3&cursor={cursor}")).await.is(200).json();
    assert_eq!(last["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["items"][0]["change"], "set");
    assert!(last.get("nextCursor").is_none());
    store.house.close().await;
}

#[tokio::test]
async fn what_stock_does_not_allow_is_refused_with_its_code_and_changes_nothing() {
    let store = Store::open(10).await;
    let order = put_order(&store.house).await;
    let reserve = json!({"quantity": 4, "orderId": order});
    store.ask(Method::POST, "/reserve", &reserve).await.is(200);
    let (put, post) = (Method::PUT, Method::POST);
    for (method, what, body, problem) in [
        (&put, "", json!({"quantity": -1, "reason": "x"}), refusal(422, "negative_quantity")),
        (&put, "", json!({"quantity": 3, "reason": "x"}), refusal(409, "below_reserved")),
        (
            &post,
            "/adjust",
            json!({"adjustment": -7, "reason": "x"}),
            refusal(409, "negative_stock"),
        ),
        (
            &post,
            "/adjust",
            json!({"adjustment": i32::MAX, "reason": "x"}),
            refusal(409, "too_much_stock"),
        ),
        (
            &post,
            "/reserve",
            json!({"quantity": 7, "orderId": order}),
            refusal(409, "insufficient_stock"),
        ),
        (
            &post,
            "/reserve",
            json!({"quantity": 1, "orderId": Uuid::now_v7()}),
            refusal(404, "order_not_found"),
        ),
        (
            &post,
            "/reserve",
            json!({"quantity": 7, "orderId": Uuid::now_v7()}),
            refusal(404, "order_not_found"),
        ),
        (
            &post,
            "/release",
            json!({"quantity": 5, "reason": "x"}),
            refusal(409, "quantity_exceeds_reserved"),
        ),
    ] {
        let answer = store.ask(method.clone(), what, &body).await;
        assert_eq!(answer.problem(), problem, "{what} {body}");
    }
    assert_eq!(store.stock().await, (10, 4));
    store.house.close().await;
}

#[tokio::test]
async fn a_product_nobody_knows_is_404() {
    let mut store = Store::open(10).await;
    store.product = Uuid::now_v7();
    let body = json!({"quantity": 1, "reason": "x"});
    let answer = store.ask(Method::PUT, "", &body).await;
    assert_eq!(answer.problem(), refusal(404, "product_not_found"));
    let path = "/v1/products/not-an-id/inventory";
    let answer = send(store.house.get(path).bearer_auth(&store.key)).await;
    assert_eq!(answer.problem(), refusal(404, "not_found"));
    store.house.close().await;
}

#[tokio::test]
async fn a_body_no_operation_takes_is_refused_where_it_is_wrong() {
    let store = Store::open(10).await;
    let with = |field: &str, value: Value| {
        let mut body = json!({"quantity": 1, "reason": "count"});
        body[field] = value;
        body
    };
    for (body, code, pointer) in [
        (with("price", json!(1)), "unknown_field", "/price"),
        (with("a/b~c", json!(1)), "unknown_field", "/a~1b~0c"),
        (json!({"quantity": 1}), "missing_field", "/reason"),
        (with("reason", Value::Null), "wrong_type", "/reason"),
        (with("quantity", json!("2")), "wrong_type", "/quantity"),
        (with("quantity", json!(1.5)), "wrong_type", "/quantity"),
        (with("quantity", json!(9_223_372_036_854_775_808_u64)), "out_of_range", "/quantity"),
        (with("quantity", json!(3_000_000_000_u32)), "out_of_range", "/quantity"),
        (with("variantId", json!("no")), "invalid_format", "/variantId"),
        (with("reason", json!("a\u{0}b")), "invalid_character", "/reason"),
        (with("reason", json!("a\u{202e}b")), "invalid_character", "/reason"),
        (with("reason", json!("")), "missing_field", "/reason"),
        (with("reason", json!("x".repeat(501))), "too_long", "/reason"),
        (with("reason", json!("4242 4242 4242 4242")), "card_number_not_accepted", "/reason"),
        (json!([1]), "wrong_type", ""),
    ] {
        let answer = store.ask(Method::PUT, "", &body).await;
        assert_eq!(answer.problem(), refusal(422, code), "{body}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
        assert!(!answer.text.contains("4242"), "what was sent is not repeated");
    }
    assert_eq!(store.stock().await, (10, 0));
    store.house.close().await;
}

#[tokio::test]
async fn what_is_not_a_json_body_is_refused_before_it_costs_anything() {
    let store = Store::open(10).await;
    let path = format!("/v1/products/{}/inventory", store.product);
    let put = |body: Vec<u8>| {
        let request = store.house.ask(Method::PUT, &path).bearer_auth(&store.key);
        request.header("content-type", "application/json").body(body)
    };
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    for (body, problem) in [
        (b"".to_vec(), refusal(400, "malformed_json")),
        (b"{".to_vec(), refusal(400, "malformed_json")),
        (b"{\"quantity\":1,\"reason\":\"\xff\"}".to_vec(), refusal(400, "malformed_json")),
        (b"{\"quantity\":1,\"reason\":\"\\ud800\"}".to_vec(), refusal(400, "malformed_json")),
        (b"{\"quantity\":1e999,\"reason\":\"x\"}".to_vec(), refusal(400, "malformed_json")),
        (b"{\"quantity\":1,\"quantity\":2}".to_vec(), refusal(422, "duplicate_key")),
        (deep, refusal(422, "too_deep")),
        (vec![b' '; 300 * 1024], refusal(413, "payload_too_large")),
    ] {
        let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(send(put(body)).await.problem(), problem, "{start}");
    }
    let fine = json!({"quantity": 1, "reason": "x"}).to_string();
    for (name, value) in [("content-type", "text/plain"), ("content-encoding", "gzip")] {
        let request = store.house.ask(Method::PUT, &path).bearer_auth(&store.key);
        let request = match name {
            "content-type" => request,
            _ => request.header("content-type", "application/json"),
        };
        let answer = send(request.header(name, value).body(fine.clone())).await;
        assert_eq!(answer.problem(), refusal(415, "unsupported_media_type"), "{name}");
    }
    assert_eq!(store.stock().await, (10, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_key_without_the_scope_changes_nothing() {
    let mut store = Store::open(10).await;
    store.key = store.house.key("service", &["inventory:read"]).await;
    let answer = store.ask(Method::PUT, "", &json!({"quantity": 1, "reason": "x"})).await;
    assert_eq!(answer.problem(), refusal(403, "forbidden"));
    assert_eq!(store.stock().await, (10, 0));
    store.house.close().await;
}
