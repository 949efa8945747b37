//! The guard at the door: card numbers are never stored, guessable passwords are refused, and visitors with the same idempotency key are
//! told apart.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{PASSWORD, Shopper, address, id},
};

fn visitor(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password, "firstName": "Grace", "lastName": "Hopper"})
}

async fn register(house: &House, key: &str, body: &Value) -> Answer {
    send(house.post("/v1/customers", body).header("idempotency-key", key)).await
}

#[tokio::test]
async fn a_card_number_is_refused_whatever_separates_its_digits() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    for name in [
        "Apt 5 4242 4242 4242 4242 12/25",
        "4242.4242.4242.4242",
        "4242  4242  4242  4242",
        "4242\u{a0}4242\u{a0}4242\u{a0}4242",
        "4242/4242/4242/4242",
        "4242\u{2013}4242\u{2013}4242\u{2013}4242",
        "4 2 4 2 4 2 4 2 4 2 4 2 4 2 4 2",
        "４２４２ ４２４２ ４２４２ ４２４２",
        "٤٢٤٢ ٤٢٤٢ ٤٢٤٢ ٤٢٤٢",
        "Flat 12 3782 822463 10005",
    ] {
        let mut body = address();
        body["recipientName"] = json!(name);
        let answer = shopper.post("/v1/customers/{me}/addresses", &body).await;
        assert_eq!(answer.problem(), refusal(422, "card_number_not_accepted"), "{name}");
        assert!(!answer.text.contains("4242"), "the answer does not repeat it");
    }
    let mut body = address();
    body["recipientName"] = json!("Apt 5, ring +49 30 901820 or 555-0100, 12/25");
    shopper.post("/v1/customers/{me}/addresses", &body).await.is(201);
    house.close().await;
}

#[tokio::test]
async fn the_numbers_of_goods_are_no_card_numbers() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let post = |path: &str, body: Value| {
        let key = Uuid::now_v7().to_string();
        let request = house.ask(Method::POST, path).bearer_auth(&admin);
        send(request.header("idempotency-key", key).json(&body))
    };
    let category = post("/v1/categories", json!({"name": "Phones"})).await.is(201).json();
    for description in [
        "Phone as new, IMEI 356938035643809.",
        "IMEI 490154203237518",
        "EAN 4006381333931",
        "Sizes 36, 38, 40, 42, 44, 46, 48, 50.",
    ] {
        let product = json!({
            "name": "Phone", "description": description, "categoryId": category["id"],
            "price": {"amount": "99.00", "currency": "USD"},
        });
        post("/v1/products", product).await.is(201);
    }
    house.close().await;
}

#[tokio::test]
async fn a_password_is_refused_for_being_guessable_and_not_for_its_characters() {
    let house = House::open().await;
    for (n, (password, status)) in [
        ("🦀🚲🌵🎻🧊🐙🍋🪁🎲🧭🗿🪐🥨🦔🧶🚀🎈🔭🍉🪴", 201),
        ("😀😁😂😃😄😅😆😇😈😉😊😋😌😍😎😏😐😑😒😓", 201),
        ("730482915506317294860153", 201),
        ("xkqvzjwmhbtrpfd", 201),
        ("chocolatebutterfly", 422),
        ("chocolate-butterfly", 422),
        ("passwordpassword", 422),
        ("hopper.grace.hopper", 422),
        ("123456789012345", 422),
        ("😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀", 422),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("visitor-{n}@example.org");
        let answer = send(house.post("/v1/customers", &visitor(&email, password))).await;
        assert_eq!(answer.status, status, "{password}: {}", answer.text);
        if status == 422 {
            assert_eq!(answer.problem(), refusal(422, "invalid_password"), "{password}");
        } else {
            let log_in = json!({"email": email, "password": password});
            send(house.post("/v1/sessions", &log_in)).await.is(201);
        }
    }
    house.close().await;
}

#[tokio::test]
async fn visitors_who_use_the_same_key_do_not_share_it() {
    let house = House::open().await;
    let grace = register(&house, "1", &visitor("grace@example.org", PASSWORD)).await;
    let ada = register(&house, "1", &visitor("ada@example.org", PASSWORD)).await;
    let (grace, ada) = (grace.is(201).json(), ada.is(201).json());
    assert_ne!(id(&grace["id"]), id(&ada["id"]));
    assert_eq!(
        (&grace["email"], &ada["email"]),
        (&json!("grace@example.org"), &json!("ada@example.org"))
    );

    let shoppers = (Shopper::unverified(&house).await, Shopper::unverified(&house).await);
    for shopper in [&shoppers.0, &shoppers.1] {
        let body = json!({"verificationToken": shopper.verification_token().await});
        let request =
            || house.post("/v1/customers/verify-email", &body).header("idempotency-key", "1");
        let first = send(request()).await;
        assert_eq!(first.is(200).json()["id"], json!(shopper.id));
        let again = send(request()).await;
        assert_eq!(again.is(200).header("idempotent-replayed"), "true");
        assert_eq!(again.text, first.text);
    }
    house.close().await;
}

#[tokio::test]
async fn a_registration_is_repeated_only_with_its_own_password() {
    let house = House::open().await;
    let body = visitor("grace@example.org", PASSWORD);
    let first = register(&house, "k", &body).await;
    let again = register(&house, "k", &visitor("Grace@Example.org", PASSWORD)).await;
    assert_eq!(again.problem(), refusal(422, "idempotency_key_reused"), "another text");
    let again = register(&house, "k", &body).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), "true");
    assert_eq!(again.text, first.text);
    let other = visitor("grace@example.org", "violet tram over nine bridges");
    let other = register(&house, "k", &other).await;
    assert_eq!(other.problem(), refusal(422, "idempotency_key_reused"));
    let stored: String = sqlx::query_scalar("select row_to_json(i)::text from shop.idempotency i")
        .fetch_one(house.database.pool())
        .await
        .expect("one answer is kept");
    assert!(!stored.contains(PASSWORD) && !stored.contains("grace@example.org"), "{stored}");
    house.close().await;
}
