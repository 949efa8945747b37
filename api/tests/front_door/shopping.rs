//! Accounts, addresses, payment methods, products and carts: every refusal that the catalogue of commands names.

use reqwest::Method;
use serde_json::{Value, json};
use stepwise::door::caller::token_hash;
use uuid::Uuid;

use crate::{
    house::{House, refusal, send},
    shopper::{PASSWORD, Shopper, address, id, product},
};

fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

#[tokio::test]
async fn registering_is_refused_with_the_code_of_what_is_wrong() {
    let house = House::open().await;
    let known = Shopper::unverified(&house).await;
    let fine = json!({"email": "new@example.org", "password": PASSWORD, "firstName": "A", "lastName": "B"});
    for (body, problem) in [
        (
            with(fine.clone(), "email", known.email.to_uppercase()),
            (409, "email_already_registered"),
        ),
        (with(fine.clone(), "email", "no address"), (422, "invalid_email")),
        (with(fine.clone(), "password", "x".repeat(14)), (422, "invalid_password")),
        (with(fine.clone(), "password", "ab".repeat(65)), (422, "invalid_password")),
        (with(fine.clone(), "password", "passwordpassword"), (422, "invalid_password")),
        (with(fine.clone(), "password", "new@example.org"), (422, "invalid_password")),
        (with(fine.clone(), "firstName", " "), (422, "missing_field")),
        (with(fine.clone(), "role", "admin"), (422, "unknown_field")),
    ] {
        let answer = send(house.post("/v1/customers", &body)).await;
        assert_eq!(answer.problem(), refusal(problem.0, problem.1), "{problem:?}");
        assert!(!answer.text.contains("new@example.org"), "no personal data in errors");
    }
    let passphrase = "eine lange Phrase mit Umlauten äöü und 🦀 darin, zum Merken";
    let body = with(fine, "password", passphrase);
    send(house.post("/v1/customers", &body)).await.is(201);
    house.close().await;
}

#[tokio::test]
async fn a_verification_token_works_once_and_for_a_day() {
    let house = House::open().await;
    let (first, second) = (Shopper::unverified(&house).await, Shopper::unverified(&house).await);
    let verify = |token: String| {
        send(house.post("/v1/customers/verify-email", &json!({"verificationToken": token})))
    };
    let mut wrong = first.verification_token().await;
    wrong.replace_range(..1, if wrong.starts_with('A') { "B" } else { "A" });
    assert_eq!(verify(wrong).await.problem(), refusal(422, "invalid_token"));
    verify(first.verification_token().await).await.is(200);
    assert_eq!(
        verify(first.verification_token().await).await.problem(),
        refusal(422, "invalid_token")
    );
    sqlx::query("update saga.clock set offset_by = interval '25 hours'")
        .execute(house.database.pool())
        .await
        .expect("the clock moves");
    assert_eq!(
        verify(second.verification_token().await).await.problem(),
        refusal(422, "token_expired")
    );
    house.close().await;
}

#[tokio::test]
async fn the_mail_after_a_registration_tells_the_token() {
    let house = House::open_working().await;
    let shopper = Shopper::unverified(&house).await;
    let begun = std::time::Instant::now();
    let mail = loop {
        if let Some(mail) = house.mail.last_to(&shopper.email) {
            break mail;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "no mail came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let (_, rest) = mail.split_once("token: ").expect("it has the token");
    let token = rest.split_whitespace().next().expect("a word");
    let body = json!({"verificationToken": token});
    send(house.post("/v1/customers/verify-email", &body)).await.is(200);
    house.close().await;
}

#[tokio::test]
async fn logging_in_tells_nobody_which_half_was_wrong_and_logging_out_ends_the_session() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let log_in = |email: &str, password: &str| {
        send(house.post("/v1/sessions", &json!({"email": email, "password": password})))
    };
    let unknown = log_in("nobody@example.org", PASSWORD).await;
    let wrong = log_in(&shopper.email, "another password entirely").await;
    for answer in [&unknown, &wrong] {
        assert_eq!(answer.problem(), refusal(401, "invalid_credentials"));
    }
    assert_eq!(unknown.json()["detail"], wrong.json()["detail"]);
    assert_eq!(shopper.get("/v1/me").await.is(200).json()["email"], shopper.email.as_str());
    send(shopper.ask(Method::DELETE, "/v1/sessions/current")).await.is(204);
    assert_eq!(shopper.get("/v1/me").await.problem(), refusal(401, "token_invalid"));
    house.close().await;
}

#[tokio::test]
async fn guessing_one_account_s_password_becomes_slow_and_is_never_locked_for_good() {
    let rates = stepwise::door::limits::Rates {
        per_caller_s: 100,
        attempts_per_minute: 1_000,
        ..stepwise::door::limits::Rates::OFF
    };
    let house = House::open_with(rates).await;
    let email = Shopper::unverified(&house).await.email;
    let log_in = |email: &str, password: &str| {
        send(house.post("/v1/sessions", &json!({"email": email, "password": password})))
    };
    let mut refused = None;
    for _ in 0..8 {
        let answer = log_in(&email, "a guess that is wrong").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("eight guesses in a row are too many");
    assert_eq!(refused.problem(), refusal(429, "rate_limited"));
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=60).contains(&s)));
    // Other customers are not affected.
    let other = Shopper::unverified(&house).await;
    log_in(&other.email, PASSWORD).await.is(201);
    house.close().await;
}

#[tokio::test]
async fn an_address_is_refused_with_the_code_of_what_is_wrong() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    for (field, value, code) in [
        ("postalCode", "9410", "invalid_postal_code"),
        ("country", "DE", "country_not_supported"),
        ("state", "ZZ", "invalid_state"),
        ("street", " ", "missing_field"),
        ("city", "x\ny", "invalid_character"),
    ] {
        let body = with(address(), field, value);
        let answer = shopper.post("/v1/customers/{me}/addresses", &body).await;
        assert_eq!(answer.problem(), refusal(422, code), "{field}");
        assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{field}"));
    }
    let mut body = address();
    body.as_object_mut().expect("an object").remove("city");
    let answer = shopper.post("/v1/customers/{me}/addresses", &body).await;
    assert_eq!(answer.problem(), refusal(422, "missing_field"));
    let added = shopper.address().await;
    let list = shopper.get("/v1/customers/{me}/addresses").await.is(200).json();
    assert_eq!(id(&list["items"][0]["id"]), added);
    let path = format!("/v1/customers/{{me}}/addresses/{added}");
    send(shopper.ask(Method::DELETE, &path)).await.is(204);
    let again = send(shopper.ask(Method::DELETE, &path)).await;
    assert_eq!(again.problem(), refusal(404, "address_not_found"));
    house.close().await;
}

#[tokio::test]
async fn a_card_number_is_accepted_nowhere() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let body = json!({"token": "4242424242424242", "brand": "visa", "last4": "4242"});
    let answer = shopper.post("/v1/customers/{me}/payment-methods", &body).await;
    assert_eq!(answer.problem(), refusal(422, "card_number_not_accepted"));
    let body = with(address(), "recipientName", "4242-4242-4242-4242");
    let answer = shopper.post("/v1/customers/{me}/addresses", &body).await;
    assert_eq!(answer.problem(), refusal(422, "card_number_not_accepted"));
    let token = shopper.method("ok").await;
    let path = format!("/v1/customers/{{me}}/payment-methods/{token}");
    send(shopper.ask(Method::DELETE, &path)).await.is(204);
    let none = shopper.get("/v1/customers/{me}/payment-methods").await.is(200).json();
    assert_eq!(none["items"], json!([]));
    house.close().await;
}

#[tokio::test]
async fn somebody_else_s_things_are_as_unknown_as_no_things() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let (mine, theirs) = (Shopper::unverified(&house).await, Shopper::unverified(&house).await);
    let cart = mine.add(thing, 1).await.is(200).json();
    let (cart_id, item) = (id(&cart["id"]), id(&cart["items"][0]["id"]));
    let mine_path = format!("/v1/customers/{}", mine.id);
    for path in ["/cart", "/addresses", "/payment-methods"] {
        let answer = theirs.get(&format!("{mine_path}{path}")).await;
        assert_eq!(answer.problem(), refusal(404, "customer_not_found"), "{path}");
    }
    let item = format!("/v1/carts/{cart_id}/items/{item}");
    let change = theirs.ask(Method::PATCH, &item).json(&json!({"quantity": 2}));
    assert_eq!(send(change).await.problem(), refusal(404, "cart_not_found"));
    let remove = send(theirs.ask(Method::DELETE, &item)).await;
    assert_eq!(remove.problem(), refusal(404, "cart_not_found"));
    assert_eq!(mine.get("/v1/customers/{me}/cart").await.json()["itemCount"], 1);
    // A customer is not an admin.
    let answer = mine.post("/v1/categories", &json!({"name": "Mine"})).await;
    assert_eq!(answer.problem(), refusal(403, "forbidden"));
    house.close().await;
}

#[tokio::test]
async fn what_a_cart_does_not_take_is_refused_with_its_code() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let sold_out = product(&house, &admin, "10.00", 0).await;
    let off_sale = product(&house, &admin, "10.00", 5).await;
    let off = format!("/v1/products/{off_sale}/deactivate");
    send(house.post(&off, &json!({})).bearer_auth(&admin)).await.is(200);
    let shopper = Shopper::unverified(&house).await;
    for (product, quantity, problem) in [
        (sold_out, 1, refusal(409, "out_of_stock")),
        (off_sale, 1, refusal(409, "product_inactive")),
        (Uuid::now_v7(), 1, refusal(404, "product_not_found")),
        (thing, 0, refusal(422, "invalid_quantity")),
        (thing, -1, refusal(422, "invalid_quantity")),
        (thing, 1_000_000_000, refusal(422, "invalid_quantity")),
        (thing, i64::MAX, refusal(422, "out_of_range")),
    ] {
        assert_eq!(shopper.add(product, quantity).await.problem(), problem, "{quantity}");
    }
    let capped = shopper.add(thing, 9).await.is(200).json();
    assert_eq!((&capped["capped"], &capped["itemCount"]), (&json!(true), &json!(5)));
    assert_eq!(capped["subtotal"], json!({"amount": "50.00", "currency": "USD"}));
    let cart_id = id(&capped["id"]);
    let item = format!("/v1/carts/{cart_id}/items/{}", id(&capped["items"][0]["id"]));
    let change = |quantity: i64| {
        send(shopper.ask(Method::PATCH, &item).json(&json!({"quantity": quantity})))
    };
    assert_eq!(change(6).await.problem(), refusal(409, "quantity_exceeds_stock"));
    assert_eq!(change(2).await.is(200).json()["itemCount"], 2);
    send(shopper.ask(Method::DELETE, &item)).await.is(200);
    let again = send(shopper.ask(Method::DELETE, &item)).await;
    assert_eq!(again.problem(), refusal(404, "item_not_in_cart"));
    let restored = shopper.post(&format!("{item}/restore"), &json!({})).await;
    assert_eq!(restored.is(200).json()["itemCount"], 2);
    let variant = json!({"productId": with_variant(&house, &admin).await, "quantity": 1});
    let answer = shopper.post("/v1/customers/{me}/cart/items", &variant).await;
    assert_eq!(answer.problem(), refusal(422, "variant_required"));
    house.close().await;
}

async fn with_variant(house: &House, admin: &str) -> Uuid {
    let product = product(house, admin, "10.00", 0).await;
    let path = format!("/v1/products/{product}/variants");
    send(house.post(&path, &json!({"name": "blue"})).bearer_auth(admin)).await.is(201);
    product
}

#[tokio::test]
async fn a_guest_shops_with_a_token_and_takes_the_cart_along_when_logging_in() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let guest = send(house.ask(Method::POST, "/v1/guest-carts")).await.is(201).json();
    let token = guest["token"].as_str().expect("a token").to_owned();
    let items = format!("/v1/customers/{}/cart/items", id(&guest["customerId"]));
    let body = json!({"productId": thing, "quantity": 2});
    send(house.post(&items, &body).bearer_auth(&token)).await.is(200);
    let me = send(house.get("/v1/me").bearer_auth(&token)).await;
    assert_eq!(me.problem(), refusal(403, "forbidden"));

    let shopper = Shopper::unverified(&house).await;
    let unknown = json!({"guestCartId": Uuid::now_v7(), "guestToken": token});
    let answer = shopper.post("/v1/customers/{me}/cart/merge", &unknown).await;
    assert_eq!(answer.problem(), refusal(404, "guest_cart_not_found"));
    let log_in = json!({
        "email": shopper.email, "password": PASSWORD,
        "guestCartId": guest["cartId"], "guestToken": token,
    });
    let session = send(house.post("/v1/sessions", &log_in)).await.is(201).json();
    assert_eq!(session["guestCart"], json!({"merged": true, "capped": false}));
    assert_eq!(shopper.get("/v1/customers/{me}/cart").await.json()["itemCount"], 2);
    let merged = json!({"guestCartId": guest["cartId"], "guestToken": token});
    let answer = shopper.post("/v1/customers/{me}/cart/merge", &merged).await;
    assert_eq!(answer.problem(), refusal(404, "guest_cart_not_found"));
    house.door.callers.forget(&token_hash(&token));
    let guest = send(house.post(&items, &body).bearer_auth(&token)).await;
    assert_eq!(guest.problem(), refusal(401, "token_invalid"), "the guest's token is used up");
    house.close().await;
}

#[tokio::test]
async fn the_catalogue_refuses_with_the_code_of_what_is_wrong() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let post = |path: &str, body: &Value| send(house.post(path, body).bearer_auth(&admin));
    let root = post("/v1/categories", &json!({"name": "Root", "parentCategoryId": null})).await;
    let root = root.is(201).json();
    assert_eq!(root["depth"], 1);
    let same = post("/v1/categories", &json!({"name": "ROOT"})).await;
    assert_eq!(same.problem(), refusal(409, "name_not_unique"));
    let orphan = json!({"name": "Orphan", "parentCategoryId": Uuid::now_v7()});
    assert_eq!(post("/v1/categories", &orphan).await.problem(), refusal(404, "parent_not_found"));
    let mut parent = root["id"].clone();
    for name in ["Second", "Third"] {
        let body = json!({"name": name, "parentCategoryId": parent});
        parent = post("/v1/categories", &body).await.is(201).json()["id"].clone();
    }
    let fourth = json!({"name": "Fourth", "parentCategoryId": parent});
    assert_eq!(
        post("/v1/categories", &fourth).await.problem(),
        refusal(422, "max_nesting_exceeded")
    );

    let fine = json!({
        "name": "Thing", "description": "", "categoryId": root["id"],
        "price": {"amount": "9.99", "currency": "USD"},
    });
    let price = |amount: &str, currency: &str| json!({"amount": amount, "currency": currency});
    for (field, value, problem) in [
        ("name", json!(""), refusal(422, "invalid_name")),
        ("name", json!("x".repeat(201)), refusal(422, "invalid_name")),
        ("price", price("0.00", "USD"), refusal(422, "invalid_price")),
        ("price", price("-1.00", "USD"), refusal(422, "invalid_price")),
        ("price", price("0.001", "USD"), refusal(422, "invalid_price")),
        ("price", price("1e3", "USD"), refusal(422, "invalid_price")),
        ("price", price("9.99", "EUR"), refusal(422, "invalid_price")),
        ("categoryId", json!(Uuid::now_v7()), refusal(404, "category_not_found")),
    ] {
        let body = with(fine.clone(), field, value);
        assert_eq!(post("/v1/products", &body).await.problem(), problem, "{body}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_product_changes_only_for_who_has_seen_it_as_it_is() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let product = product(&house, &admin, "10.00", 5).await;
    let path = format!("/v1/products/{product}");
    let tag = send(house.get(&path)).await.is(200).header("etag").to_owned();
    let change = |tag: String, body: Value| {
        let request = house.ask(Method::PATCH, &path).bearer_auth(&admin).json(&body);
        send(request.header("if-match", tag))
    };
    let cheaper = json!({"price": {"amount": "8.00", "currency": "USD"}});
    let changed = change(tag.clone(), cheaper.clone()).await;
    assert_eq!(changed.is(200).json()["price"]["amount"], "8.00");
    assert_eq!(change(tag, cheaper).await.problem(), refusal(412, "precondition_failed"));
    let weak = change("W/\"1\"".into(), json!({})).await;
    assert_eq!(weak.problem(), refusal(412, "precondition_failed"));
    let bare = change("1".into(), json!({})).await;
    assert_eq!(bare.problem(), refusal(400, "invalid_parameter"));
    let nameless = change("*".into(), json!({"name": ""})).await;
    assert_eq!(nameless.problem(), refusal(422, "invalid_data"));

    send(house.ask(Method::DELETE, &path).bearer_auth(&admin)).await.is(204);
    assert_eq!(send(house.get(&path)).await.problem(), refusal(404, "product_not_found"));
    let again = send(house.ask(Method::DELETE, &path).bearer_auth(&admin)).await;
    assert_eq!(again.problem(), refusal(404, "product_not_found"));
    house.close().await;
}

#[tokio::test]
async fn only_staff_see_what_is_not_on_sale() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let product = product(&house, &admin, "10.00", 5).await;
    let path = format!("/v1/products/{product}");
    send(house.post(&format!("{path}/deactivate"), &json!({})).bearer_auth(&admin)).await.is(200);
    assert_eq!(send(house.get(&path)).await.problem(), refusal(404, "product_not_found"));
    assert_eq!(send(house.get("/v1/products")).await.json()["items"], json!([]));
    send(house.get(&path).bearer_auth(&admin)).await.is(200);
    let bad = send(house.get(&path).bearer_auth("nonsense")).await;
    assert_eq!(bad.problem(), refusal(401, "token_invalid"));
    house.close().await;
}

#[tokio::test]
async fn a_kept_answer_about_a_person_is_not_readable_in_the_database() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let add = |key: &str| {
        let request = shopper.ask(Method::POST, "/v1/customers/{me}/addresses").json(&address());
        send(request.header("idempotency-key", key.to_owned()))
    };
    let first = add("k").await;
    let again = add("k").await;
    assert_eq!(again.is(201).text, first.text);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let kept: Vec<u8> = sqlx::query_scalar("select body from shop.idempotency")
        .fetch_one(house.database.pool())
        .await
        .expect("one answer is kept");
    let kept = String::from_utf8_lossy(&kept);
    assert!(!kept.contains("Lovelace") && !kept.contains("Analytical"), "{kept}");
    house.close().await;
}
