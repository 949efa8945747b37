//! Hostile input. The page [docs/hostile-input.md](../../../docs/hostile-input.md) lists every attempt with its test; these tests have no other place.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{
    house::{House, refusal, send},
    shopper::{PASSWORD, Shopper, address, id, product},
};

#[tokio::test]
async fn fields_that_the_shop_decides_are_refused_by_name_and_change_nothing() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let (place, method) = (shopper.address().await, shopper.method("ok").await);
    let items = "/v1/customers/{me}/cart/items";
    let order = shopper.order(place, method);
    let item = json!({"productId": thing, "quantity": 1});
    for (path, body, field, value) in [
        (items, &item, "price", json!({"amount": "0.01", "currency": "USD"})),
        (items, &item, "unitPrice", json!("0.01")),
        (items, &item, "customerId", json!(Uuid::now_v7())),
        ("/v1/orders", &order, "totalAmount", json!({"amount": "0.01", "currency": "USD"})),
        ("/v1/orders", &order, "status", json!("shipped")),
        ("/v1/orders", &order, "discount", json!(100)),
        ("/v1/customers/{me}/addresses", &address(), "customerId", json!(Uuid::now_v7())),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let request = shopper.ask(Method::POST, path).json(&body);
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        let answer = send(request).await;
        assert_eq!(answer.problem(), refusal(422, "unknown_field"), "{path}: {field}");
        assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{field}"));
    }
    assert_eq!(shopper.get("/v1/customers/{me}/cart").await.json()["itemCount"], 0);
    assert_eq!(shopper.get("/v1/orders").await.json()["items"], json!([]));
    let addresses = shopper.get("/v1/customers/{me}/addresses").await.json();
    assert_eq!(addresses["items"].as_array().map(Vec::len), Some(1), "{addresses}");
    house.close().await;
}

#[tokio::test]
async fn a_quantity_is_a_whole_number_in_its_limits_or_refused() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::unverified(&house).await;
    for quantity in [
        "0",
        "-1",
        "1000000000",
        "1.5",
        "\"2\"",
        "null",
        "9223372036854775808",
        "-9223372036854775809",
        "1e400",
        "true",
        "[]",
        "{}",
    ] {
        let body = format!("{{\"productId\":\"{thing}\",\"quantity\":{quantity}}}");
        let request = shopper.ask(Method::POST, "/v1/customers/{me}/cart/items");
        let answer = send(request.header("content-type", "application/json").body(body)).await;
        // 1e400 is not a number of JSON that can be read.
        let expected = if quantity == "1e400" { 400 } else { 422 };
        assert_eq!(answer.problem().0, expected, "{quantity}: {}", answer.text);
    }
    assert_eq!(shopper.get("/v1/customers/{me}/cart").await.json()["itemCount"], 0);
    house.close().await;
}

#[tokio::test]
async fn text_that_looks_like_code_is_text() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    for (n, text) in [
        "'); drop table shop.\"order\"; --",
        "${jndi:ldap://127.0.0.1/a}",
        "{{7*7}} #{7*7} <%= 7*7 %>",
        "<script>alert(1)</script>",
        "\" onload=\"alert(1)",
        "$(reboot) `reboot` %x %n",
        "\\u0000 \\x00 \\'",
        "🦀 שלום 你好 e\u{301}",
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("code-{n}@example.org");
        let body =
            json!({"email": email, "password": PASSWORD, "firstName": text, "lastName": "L"});
        let customer = send(house.post("/v1/customers", &body)).await.is(201).json();
        let log_in = json!({"email": email, "password": PASSWORD});
        let session = send(house.post("/v1/sessions", &log_in)).await.is(201).json();
        let token = session["token"].as_str().expect("a token");
        let me = send(house.get("/v1/me").bearer_auth(token)).await;
        // Accents may be written in one character or in two.
        let composed = text.replace("e\u{301}", "\u{e9}");
        assert_eq!(me.is(200).json()["firstName"], composed.as_str(), "{customer}");
        assert_eq!(me.header("content-type"), "application/json");
        assert_eq!(me.header("x-content-type-options"), "nosniff");
        let body = json!({"name": format!("{n} {text}")});
        let request = house.post("/v1/categories", &body).bearer_auth(&admin);
        send(request).await.is(201);
        let products = format!("{}/v1/products", house.base);
        let search = reqwest::Url::parse_with_params(&products, [("search", text)]);
        let search = house.client.get(search.expect("an address"));
        assert_eq!(send(search).await.is(200).json()["items"], json!([]), "{text}");
    }
    for text in ["two\nlines", "\u{202e}turned", "bell\u{7}", "zero\u{0}"] {
        let body = json!({"email": "bad@example.org", "password": PASSWORD, "firstName": text, "lastName": "L"});
        let answer = send(house.post("/v1/customers", &body)).await;
        assert_eq!(answer.problem(), refusal(422, "invalid_character"), "{text:?}");
    }
    let long = json!({"email": "long@example.org", "password": PASSWORD, "firstName": "🦀".repeat(10_000), "lastName": "L"});
    assert_eq!(send(house.post("/v1/customers", &long)).await.problem().0, 422);
    house.close().await;
}

#[tokio::test]
async fn the_page_of_a_problem_shows_no_code_of_its_address() {
    let house = House::open().await;
    let path = "/problems/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let answer = send(house.get(path).header("accept", "text/html")).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.text.contains("<script>"), "{}", answer.text);
    house.close().await;
}

/// Sends text as it is, and reads everything until the server closes the connection.
async fn raw(house: &House, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(house.address()).await.expect("it listens");
    stream.write_all(text).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers and closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_inside_the_body_of_another_is_not_answered() {
    let house = House::open().await;
    let inner = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len();
    for lengths in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
    ] {
        let text = format!("POST /v1/sessions HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n{inner}");
        let answer = raw(&house, text.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{lengths}: {answer}");
    }
    for wrong in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Content-Length: -1",
        "Content-Length: 1 1",
        "X: a\r\n\u{0}b: c",
        "X: a\rb: c",
    ] {
        let text = format!("POST /v1/sessions HTTP/1.1\r\nHost: x\r\n{wrong}\r\n\r\n");
        let answer = raw(&house, text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{wrong:?}: {answer}");
    }
    house.close().await;
}

#[tokio::test]
async fn methods_that_nobody_needs_are_405_with_those_that_are_allowed() {
    let house = House::open().await;
    for method in ["TRACE", "PROPFIND", "CONNECT", "OPTIONS", "FOO"] {
        let text = format!("{method} /v1/orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw(&house, text.as_bytes()).await.to_lowercase();
        if method == "CONNECT" {
            assert!(answer.starts_with("http/1.1 4"), "{method}: {answer}");
            continue;
        }
        assert!(answer.starts_with("http/1.1 405"), "{method}: {answer}");
        assert!(answer.contains("allow: get, head, post\r\n"), "{method}: {answer}");
        assert!(!answer.contains("access-control"), "{method}: {answer}");
    }
    house.close().await;
}

#[tokio::test]
async fn an_amount_or_a_currency_that_is_none_of_the_shops_is_refused() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let post = async |path: &str, body: &Value| {
        let request = house.post(path, body).bearer_auth(&admin);
        send(request.header("idempotency-key", Uuid::now_v7().to_string())).await
    };
    let category = post("/v1/categories", &json!({"name": "Money"})).await.is(201).json();
    let category = id(&category["id"]);
    for (amount, currency) in [
        ("10.00", "EUR"),
        ("10.00", "usd"),
        ("10.001", "USD"),
        ("-1.00", "USD"),
        ("0", "USD"),
        ("1e3", "USD"),
        ("NaN", "USD"),
        ("99999999999999999999", "USD"),
        ("1000000000000.00", "USD"),
    ] {
        let price = json!({"amount": amount, "currency": currency});
        let body =
            json!({"name": "Thing", "description": "", "categoryId": category, "price": price});
        assert_eq!(post("/v1/products", &body).await.problem().0, 422, "{amount} {currency}");
        let refund = json!({"orderId": Uuid::now_v7(), "amount": price});
        let status = post("/v1/payments/refunds", &refund).await.problem().0;
        assert!(matches!(status, 404 | 422), "{amount} {currency}: {status}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_may_stand_once_in_a_request_is_refused_when_it_stands_twice() {
    let house = House::open().await;
    let key = house.key("service", &["events:read"]).await;
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let stream = "GET /v1/events/stream?from=newest";
    for (line, headers, code) in [
        ("GET /healthz", "Host: x\r\nHost: y\r\n", "invalid_parameter"),
        ("GET /healthz", "", "bad_request"),
        (
            "GET /v1/me",
            &*format!("Host: x\r\n{bearer}Authorization: Bearer x\r\n"),
            "invalid_parameter",
        ),
        ("POST /v1/orders", "Host: x\r\nIf-Match: *\r\nIf-Match: \"old\"\r\n", "invalid_parameter"),
        (
            stream,
            &*format!("Host: x\r\n{bearer}Last-Event-ID: .\r\nLast-Event-ID: .1\r\n"),
            "invalid_parameter",
        ),
        (
            "POST /v1/orders",
            "Host: x\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n",
            "invalid_parameter",
        ),
        ("GET /v1/products?limit=1&limit=2", "Host: x\r\n", "invalid_parameter"),
        ("GET /v1/products?limit=1&limit=1", "Host: x\r\n", "invalid_parameter"),
        // Anything but ASCII was taken for no position at all, and events were missed.
        (stream, &*format!("Host: x\r\n{bearer}Last-Event-ID: é\r\n"), "invalid_parameter"),
    ] {
        let request = format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let answer = raw(&house, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{request}: {answer}");
    }
    let old = raw(&house, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    house.close().await;
}
