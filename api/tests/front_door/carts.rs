//! Carts at their edges: the limits on every way in, the guest's token and prices, and changes of something that has changed meanwhile.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{PASSWORD, Shopper, id, product},
};

/// A visitor with a cart and no account.
struct Guest<'h> {
    house: &'h House,
    customer: Uuid,
    cart: Uuid,
    token: String,
}

impl<'h> Guest<'h> {
    async fn new(house: &'h House) -> Self {
        let guest = send(house.ask(Method::POST, "/v1/guest-carts")).await.is(201).json();
        let token = guest["token"].as_str().expect("a token").to_owned();
        Self { house, customer: id(&guest["customerId"]), cart: id(&guest["cartId"]), token }
    }

    async fn add(&self, product: Uuid, quantity: i64) -> Answer {
        let path = format!("/v1/customers/{}/cart/items", self.customer);
        let body = json!({"productId": product, "quantity": quantity});
        send(self.house.post(&path, &body).bearer_auth(&self.token)).await
    }

    async fn item_count(&self) -> Value {
        let path = format!("/v1/customers/{}/cart", self.customer);
        send(self.house.get(&path).bearer_auth(&self.token)).await.is(200).json()["itemCount"]
            .clone()
    }

    /// The body of mergeGuestCart.
    fn merge(&self) -> Value {
        json!({"guestCartId": self.cart, "guestToken": self.token})
    }

    /// Logs a customer in with this guest's cart.
    async fn log_in(&self, shopper: &Shopper<'_>) -> Value {
        let mut body = self.merge();
        body["email"] = json!(shopper.email);
        body["password"] = json!(PASSWORD);
        send(self.house.post("/v1/sessions", &body)).await.is(201).json()
    }
}

/// Writes so many products on sale.
async fn products(house: &House, count: i32) -> Vec<Uuid> {
    let text = "with numbered as (
            select n, gen_random_uuid() as id, gen_random_uuid() as inventory_id
            from generate_series(1, $1) as n
        ), category as (
            insert into shop.category (category_id, name, depth, created_at)
            values ($2, $2::text, 1, saga.now())
        ), product as (
            insert into shop.product (product_id, category_id, name, description, price, currency,
                                      status, created_by, created_at, updated_at)
            select id, $2, 'Thing ' || n, '', 1, 'USD', 'active', $2, saga.now(), saga.now()
            from numbered
        ), stock as (
            insert into shop.inventory (inventory_id, product_id, on_hand, updated_at)
            select inventory_id, id, 9, saga.now() from numbered
        )
        select id from numbered order by n";
    sqlx::query_scalar(text)
        .bind(count)
        .bind(Uuid::now_v7())
        .fetch_all(house.database.pool())
        .await
        .expect("products are written")
}

fn products_of(cart: &Value) -> Vec<Uuid> {
    let items = cart["items"].as_array().expect("items").iter();
    items.map(|item| id(&item["productId"])).collect()
}

async fn reprice(house: &House, admin: &str, product: Uuid, amount: &str) {
    let body = json!({"price": {"amount": amount, "currency": "USD"}});
    let change = house.ask(Method::PATCH, &format!("/v1/products/{product}")).bearer_auth(admin);
    send(change.json(&body)).await.is(200);
}

#[tokio::test]
async fn a_merged_cart_has_no_more_lines_than_a_cart_takes_and_says_so() {
    let house = House::open().await;
    let things = products(&house, 120).await;
    let (guest, shopper) = (Guest::new(&house).await, Shopper::unverified(&house).await);
    for (mine, theirs) in things[..60].iter().zip(&things[60..]) {
        shopper.add(*mine, 1).await.is(200);
        guest.add(*theirs, 1).await.is(200);
    }
    // A line that both have needs no room.
    guest.add(things[0], 2).await.is(200);
    let merged = shopper.post("/v1/customers/{me}/cart/merge", &guest.merge()).await.is(200).json();
    assert_eq!(merged["capped"], true);
    let mut lines = products_of(&merged);
    lines.sort_unstable();
    let mut wanted = things[..100].to_vec();
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "the guest's oldest 40 lines fit");
    assert_eq!(merged["itemCount"], 102);
    assert_eq!(
        shopper.add(things[119], 1).await.problem(),
        refusal(422, "invalid_quantity"),
        "the cart is full"
    );
    house.close().await;
}

#[tokio::test]
async fn a_line_is_not_restored_into_a_full_cart() {
    let house = House::open().await;
    let things = products(&house, 101).await;
    let shopper = Shopper::unverified(&house).await;
    for thing in &things[..99] {
        shopper.add(*thing, 1).await.is(200);
    }
    let cart = shopper.add(things[99], 1).await.is(200).json();
    let item = |n: usize| {
        let (cart_id, item) = (id(&cart["id"]), id(&cart["items"][n]["id"]));
        format!("/v1/carts/{cart_id}/items/{item}")
    };
    send(shopper.ask(Method::DELETE, &item(0))).await.is(200);
    shopper.add(things[100], 1).await.is(200);
    let full = shopper.post(&format!("{}/restore", item(0)), &json!({})).await;
    assert_eq!(full.problem(), refusal(422, "invalid_quantity"));
    send(shopper.ask(Method::DELETE, &item(1))).await.is(200);
    let back = shopper.post(&format!("{}/restore", item(0)), &json!({})).await.is(200).json();
    assert_eq!(products_of(&back).len(), 100);
    house.close().await;
}

#[tokio::test]
async fn a_price_that_rose_since_the_guest_saw_it_is_not_ordered_silently() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let (both, guests) =
        (product(&house, &admin, "2.00", 9).await, product(&house, &admin, "2.00", 9).await);
    for (dearer, steady) in [(both, guests), (guests, both)] {
        let shopper = Shopper::new(&house).await;
        let order = shopper.order(shopper.address().await, shopper.method("ok").await);
        let guest = Guest::new(&house).await;
        shopper.add(both, 1).await.is(200);
        guest.add(both, 1).await.is(200);
        guest.add(guests, 1).await.is(200);
        reprice(&house, &admin, dearer, "9.00").await;
        let session = guest.log_in(&shopper).await;
        assert_eq!(session["guestCart"], json!({"merged": true, "capped": false}));
        let refused = shopper.place(&order, 0).await;
        assert_eq!(refused.problem(), refusal(409, "price_changed"));
        let wrong = refused.json()["errors"].as_array().map(Vec::len);
        assert_eq!(wrong, Some(1), "{steady} costs what it did");
        reprice(&house, &admin, dearer, "2.00").await;
        shopper.place(&order, 0).await.is(202);
    }
    house.close().await;
}

#[tokio::test]
async fn who_knows_only_the_id_of_a_guests_cart_does_not_get_it() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let (guest, other) = (Guest::new(&house).await, Guest::new(&house).await);
    guest.add(thing, 2).await.is(200);
    let stranger = Shopper::unverified(&house).await;
    let missing = json!({"guestCartId": guest.cart, "guestToken": null});
    for body in [
        json!({"guestCartId": guest.cart}),
        missing,
        json!({"guestCartId": guest.cart, "guestToken": "a guess"}),
        json!({"guestCartId": guest.cart, "guestToken": other.token}),
        json!({"guestCartId": Uuid::now_v7(), "guestToken": guest.token}),
    ] {
        let answer = stranger.post("/v1/customers/{me}/cart/merge", &body).await;
        assert_eq!(answer.problem(), refusal(404, "guest_cart_not_found"), "{body}");
        let mut log_in = body;
        log_in["email"] = json!(stranger.email);
        log_in["password"] = json!(PASSWORD);
        let session = send(house.post("/v1/sessions", &log_in)).await.is(201).json();
        assert_eq!(session["guestCart"]["merged"], false);
        assert_eq!(session["guestCart"]["code"], "guest_cart_not_found");
    }
    assert_eq!(stranger.get("/v1/customers/{me}/cart").await.json()["itemCount"], 0);
    assert_eq!(guest.item_count().await, 2, "the guest's cart is as it was");
    let merged = stranger.post("/v1/customers/{me}/cart/merge", &guest.merge()).await;
    assert_eq!(merged.is(200).json()["itemCount"], 2);
    house.close().await;
}

#[tokio::test]
async fn a_cart_under_checkout_does_not_prevent_the_log_in() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let (guest, shopper) = (Guest::new(&house).await, Shopper::new(&house).await);
    guest.add(thing, 2).await.is(200);
    shopper.add(thing, 1).await.is(200);
    let order = shopper.order(shopper.address().await, shopper.method("ok").await);
    shopper.place(&order, 0).await.is(202);
    let session = guest.log_in(&shopper).await;
    assert_eq!(session["guestCart"]["merged"], false);
    assert_eq!(session["guestCart"]["code"], "checkout_in_progress");
    assert!(session["guestCart"]["detail"].as_str().is_some_and(|why| !why.is_empty()));
    let token = session["token"].as_str().expect("a session");
    send(house.get("/v1/me").bearer_auth(token)).await.is(200);
    assert_eq!(guest.item_count().await, 2, "it can be merged later");
    house.close().await;
}

#[tokio::test]
async fn a_cart_that_has_changed_since_it_was_read_is_not_changed() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let (thing, other) =
        (product(&house, &admin, "10.00", 9).await, product(&house, &admin, "10.00", 9).await);
    let shopper = Shopper::unverified(&house).await;
    shopper.add(other, 1).await.is(200);
    let first = shopper.add(thing, 1).await;
    let stale = first.is(200).header("etag").to_owned();
    let cart = first.json();
    let items = format!("/v1/carts/{}/items", id(&cart["id"]));
    let removed = format!("{items}/{}", id(&cart["items"][0]["id"]));
    let item = format!("{items}/{}", id(&cart["items"][1]["id"]));
    send(shopper.ask(Method::DELETE, &removed)).await.is(200);
    let add = "/v1/customers/{me}/cart/items".to_owned();
    let restore = format!("{removed}/restore");
    let adding = json!({"productId": thing, "quantity": 1});
    for (method, path, body) in [
        (Method::POST, &add, adding),
        (Method::PATCH, &item, json!({"quantity": 3})),
        (Method::POST, &restore, json!({})),
        (Method::DELETE, &item, Value::Null),
        (Method::DELETE, &items, Value::Null),
    ] {
        let ask = |tag: &str| {
            let request = shopper.ask(method.clone(), path).header("if-match", tag.to_owned());
            send(if body.is_null() { request } else { request.json(&body) })
        };
        let before = shopper.get("/v1/customers/{me}/cart").await;
        assert_eq!(ask(&stale).await.problem(), refusal(412, "precondition_failed"), "{path}");
        let after = shopper.get("/v1/customers/{me}/cart").await;
        assert_eq!(before.text, after.text, "{method} {path} changes nothing");
        let fresh = after.header("etag").to_owned();
        let changed = ask(&fresh).await;
        assert_ne!(changed.is(200).header("etag"), fresh, "{method} {path}");
    }
    let unknown = format!("/v1/carts/{}/items", Uuid::now_v7());
    let unknown = send(shopper.ask(Method::DELETE, &unknown).header("if-match", stale)).await;
    assert_eq!(unknown.problem(), refusal(404, "cart_not_found"));
    house.close().await;
}

#[tokio::test]
async fn a_product_that_has_changed_since_it_was_read_keeps_its_status() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 0).await;
    let path = format!("/v1/products/{thing}");
    let stale = send(house.get(&path)).await.is(200).header("etag").to_owned();
    reprice(&house, &admin, thing, "11.00").await;
    for (method, what, body, status) in [
        (Method::POST, "/variants", json!({"name": "blue"}), 201),
        (Method::POST, "/deactivate", Value::Null, 200),
        (Method::POST, "/activate", Value::Null, 200),
        (Method::PATCH, "", json!({"name": "Other thing"}), 200),
        (Method::DELETE, "", Value::Null, 204),
    ] {
        let ask = |tag: &str| {
            let request = house.ask(method.clone(), &format!("{path}{what}")).bearer_auth(&admin);
            let request = request.header("if-match", tag.to_owned());
            send(if body.is_null() { request } else { request.json(&body) })
        };
        assert_eq!(ask(&stale).await.problem(), refusal(412, "precondition_failed"), "{what}");
        let now = send(house.get(&path).bearer_auth(&admin)).await;
        ask(now.is(200).header("etag")).await.is(status);
    }
    house.close().await;
}

#[tokio::test]
async fn an_order_that_has_changed_since_it_was_read_does_not_move_on() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let shopper = Shopper::new(&house).await;
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let parcel = json!({"trackingNumber": "1Z999", "carrier": "UPS"});
    let reason = json!({"reason": "changed my mind"});
    for steps in [
        vec![("confirm", &Value::Null), ("ship", &parcel), ("deliver", &Value::Null)],
        vec![("cancel", &reason)],
    ] {
        shopper.add(thing, 1).await.is(200);
        let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
        let path = format!("/v1/orders/{order}");
        for (what, body) in steps {
            let ask = |tag: &str| {
                let request = house.ask(Method::POST, &format!("{path}/{what}"));
                let request = request.bearer_auth(&admin).header("if-match", tag.to_owned());
                let request = request.header("prefer", "wait=15");
                let request = request.header("idempotency-key", Uuid::now_v7().to_string());
                send(if body.is_null() { request } else { request.json(body) })
            };
            let seen = shopper.get(&path).await.is(200).header("etag").to_owned();
            let stale = ask("\"0\"").await;
            assert_eq!(stale.problem(), refusal(412, "precondition_failed"), "{what}");
            ask(&seen).await.is(200);
            let again = ask(&seen).await;
            assert_eq!(again.problem(), refusal(412, "precondition_failed"), "{what}, once more");
        }
    }
    house.close().await;
}

/// Reads a cart until it is as wanted.
async fn until(shopper: &Shopper<'_>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
        if wanted(&cart) {
            return cart;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {cart}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_product_that_is_deleted_or_not_sold_leaves_the_carts_and_their_owners_see_it() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let (first, second) = (Shopper::new(&house).await, Shopper::new(&house).await);
    let (gone, off, kept) = (
        product(&house, &admin, "10.00", 9).await,
        product(&house, &admin, "10.00", 9).await,
        product(&house, &admin, "10.00", 9).await,
    );
    for shopper in [&first, &second] {
        for (thing, quantity) in [(gone, 2), (off, 3), (kept, 1)] {
            shopper.add(thing, quantity).await.is(200);
        }
    }
    let seen = first.get("/v1/customers/{me}/cart").await.header("etag").to_owned();
    let admins = |method, path: String| send(house.ask(method, &path).bearer_auth(&admin));
    admins(Method::DELETE, format!("/v1/products/{gone}")).await.is(204);
    admins(Method::POST, format!("/v1/products/{off}/deactivate")).await.is(200);
    for shopper in [&first, &second] {
        let cart = until(shopper, "both are taken out", |cart| {
            cart["items"].as_array().map(Vec::len) == Some(1)
        })
        .await;
        assert_eq!(products_of(&cart), [kept]);
        assert_eq!(cart["subtotal"]["amount"], "10.00");
        let removed = cart["removedItems"].as_array().expect("removed items");
        let mut told: Vec<_> = removed
            .iter()
            .map(|item| (id(&item["productId"]), &item["quantity"], &item["removed"]))
            .collect();
        told.sort_by_key(|(_, quantity, _)| quantity.as_i64());
        let not_sold = json!("not_sold");
        assert_eq!(told, [(gone, &json!(2), &not_sold), (off, &json!(3), &not_sold)]);
        assert!(removed.iter().all(|item| item.get("restorableUntil").is_none()), "{cart}");
    }
    let body = first.order(first.address().await, first.method("ok").await);
    let place = first.ask(Method::POST, "/v1/orders").json(&body).header("if-match", seen);
    let stale = send(place.header("idempotency-key", "k")).await;
    assert_eq!(stale.problem(), refusal(412, "precondition_failed"), "the cart has changed");

    // It is not restored while it is not sold, and however late once it is.
    let cart = first.get("/v1/customers/{me}/cart").await.json();
    let removed = cart["removedItems"].as_array().expect("removed items").iter();
    let item = removed.clone().find(|item| id(&item["productId"]) == off).expect("it is shown");
    let (cart_id, item) = (id(&cart["id"]), id(&item["id"]));
    let restore = format!("/v1/carts/{cart_id}/items/{item}/restore");
    let early = first.post(&restore, &json!({})).await;
    assert_eq!(early.problem(), refusal(409, "quantity_exceeds_stock"));
    admins(Method::POST, format!("/v1/products/{off}/activate")).await.is(200);
    let later = "update saga.clock set offset_by = offset_by + interval '1 hour'";
    sqlx::query(later).execute(house.database.pool()).await.expect("the clock moves");
    let back = first.post(&restore, &json!({})).await.is(200).json();
    assert_eq!(products_of(&back), [off, kept]);

    // An order is made of what is left, and nothing is shown as removed after it.
    first.place(&body, 15).await.is(201);
    let cart = first.get("/v1/customers/{me}/cart").await.json();
    assert_eq!((&cart["items"], &cart["removedItems"]), (&json!([]), &json!([])));
    house.close().await;
}

#[tokio::test]
async fn a_product_that_gets_variants_leaves_the_carts_that_have_it_without_one() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    shopper.add(thing, 2).await.is(200);
    let admins = |path: String, body: Value| send(house.post(&path, &body).bearer_auth(&admin));
    let none = json!({"quantity": 0, "reason": "counted"});
    let stock = format!("/v1/products/{thing}/inventory");
    send(house.ask(Method::PUT, &stock).bearer_auth(&admin).json(&none)).await.is(200);
    let variants = format!("/v1/products/{thing}/variants");
    let blue = admins(variants.clone(), json!({"name": "blue"})).await.is(201).json();
    let cart = until(&shopper, "it is taken out", |cart| cart["items"] == json!([])).await;
    assert_eq!(cart["removedItems"][0]["removed"], "not_sold");
    assert_eq!(cart["subtotal"]["amount"], "0.00");

    // A variant that lies in a cart stays there when another one is added.
    let blue = &blue["variants"][0]["id"];
    let filled = json!({"quantity": 9, "variantId": blue, "reason": "counted"});
    send(house.ask(Method::PUT, &stock).bearer_auth(&admin).json(&filled)).await.is(200);
    let item = json!({"productId": thing, "variantId": blue, "quantity": 1});
    shopper.post("/v1/customers/{me}/cart/items", &item).await.is(200);
    admins(variants, json!({"name": "red"})).await.is(201);
    // Both removals have looked once.
    let looked = "select count(*) from saga.instance
        where name = 'remove-product-from-carts' and state::text like '%Last%'";
    let begun = Instant::now();
    loop {
        let count = sqlx::query_scalar::<_, i64>(looked).fetch_one(house.database.pool());
        if count.await.expect("read") == 2 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "a removal does not look");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
    assert_eq!(products_of(&cart), [thing]);
    house.close().await;
}

#[tokio::test]
async fn a_guests_items_that_are_not_sold_any_more_are_shown_in_the_merged_cart() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let (shopper, guest) = (Shopper::new(&house).await, Guest::new(&house).await);
    let thing = product(&house, &admin, "10.00", 9).await;
    guest.add(thing, 2).await.is(200);
    let off = format!("/v1/products/{thing}/deactivate");
    send(house.ask(Method::POST, &off).bearer_auth(&admin)).await.is(200);
    let look = async {
        while guest.item_count().await != json!(0) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), look).await.expect("it is taken out");
    guest.log_in(&shopper).await;
    let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
    let removed = &cart["removedItems"][0];
    assert_eq!((id(&removed["productId"]), &removed["removed"]), (thing, &json!("not_sold")));
    house.close().await;
}
