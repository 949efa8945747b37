//! A customer with an account who shops over HTTP.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stepwise_workflows::customer::verification;
use uuid::Uuid;

use crate::house::{Answer, House, send};

pub(crate) const PASSWORD: &str = "a lantern hums over wet slate";

/// A customer with a session.
#[derive(Clone)]
pub(crate) struct Shopper<'h> {
    pub(crate) house: &'h House,
    pub(crate) id: Uuid,
    pub(crate) email: String,
    pub(crate) token: String,
}

/// An id of its own in letters: one id in some thousands has digits like a card number's, which the API refuses.
pub(crate) fn letters() -> String {
    let letter = |nibble: char| nibble.to_digit(16).and_then(|n| char::from_digit(n + 10, 36));
    Uuid::now_v7().simple().to_string().chars().filter_map(letter).collect()
}

pub(crate) fn id(value: &Value) -> Uuid {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id: {value}"))
}

impl<'h> Shopper<'h> {
    /// Registers and logs in. The email address is not verified.
    pub(crate) async fn unverified(house: &'h House) -> Self {
        let email = format!("{}@example.org", letters());
        let body =
            json!({"email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "L"});
        let customer = send(house.post("/v1/customers", &body)).await.is(201).json();
        let log_in = json!({"email": email, "password": PASSWORD});
        let session = send(house.post("/v1/sessions", &log_in)).await.is(201).json();
        let token = session["token"].as_str().expect("a token").to_owned();
        Self { house, id: id(&customer["id"]), email, token }
    }

    /// The same customer with a new session.
    pub(crate) async fn log_in_again(&self) -> Self {
        let log_in = json!({"email": self.email, "password": PASSWORD});
        let session = send(self.house.post("/v1/sessions", &log_in)).await.is(201).json();
        let token = session["token"].as_str().expect("a token").to_owned();
        Self { token, ..self.clone() }
    }

    /// Registers, logs in and verifies the email address with the token in the mail.
    pub(crate) async fn new(house: &'h House) -> Self {
        let shopper = Self::unverified(house).await;
        let body = json!({"verificationToken": shopper.verification_token().await});
        let verified = send(house.post("/v1/customers/verify-email", &body)).await.is(200).json();
        assert_eq!(verified["emailVerified"], true);
        shopper
    }

    /// The token in the verification mail, even if no worker has sent the mail yet.
    pub(crate) async fn verification_token(&self) -> String {
        let key = self.house.door.shop.keys.get(self.id).await.expect("the store answers");
        let token = verification::token(&key.expect("a customer has a key"), self.id);
        token.expose().to_owned()
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.house.ask(method, &path.replace("{me}", &self.id.to_string())).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.ask(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.ask(Method::POST, path).json(body)).await
    }

    pub(crate) async fn add(&self, product: Uuid, quantity: i64) -> Answer {
        let body = json!({"productId": product, "quantity": quantity});
        self.post("/v1/customers/{me}/cart/items", &body).await
    }

    pub(crate) async fn address(&self) -> Uuid {
        let added = self.post("/v1/customers/{me}/addresses", &address()).await.is(201).json();
        id(&added["id"])
    }

    /// Saves a payment method that behaves like the sandbox's method of that name.
    pub(crate) async fn method(&self, name: &str) -> Uuid {
        let token = format!("pm_sandbox_{name}");
        let body = json!({"token": token, "brand": "visa", "last4": "4242"});
        let added = self.post("/v1/customers/{me}/payment-methods", &body).await.is(201).json();
        id(&added["id"])
    }

    /// The body of placeOrder.
    pub(crate) fn order(&self, address: Uuid, method: Uuid) -> Value {
        json!({"customerId": self.id, "shippingAddressId": address, "paymentMethodId": method})
    }

    /// Places an order, waiting `wait` seconds for its end.
    pub(crate) async fn place(&self, body: &Value, wait: u8) -> Answer {
        let request = self.ask(Method::POST, "/v1/orders").json(body);
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        send(request.header("prefer", format!("wait={wait}"))).await
    }

    /// Cancels an order, waiting `wait` seconds for the end.
    pub(crate) async fn cancel(&self, order: Uuid, wait: u8) -> Answer {
        let request = self.ask(Method::POST, &format!("/v1/orders/{order}/cancel"));
        let request = request.json(&json!({"reason": "changed my mind"}));
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        send(request.header("prefer", format!("wait={wait}"))).await
    }
}

pub(crate) fn address() -> Value {
    json!({
        "recipientName": "Ada Lovelace", "street": "1 Analytical Way", "city": "San Francisco",
        "state": "CA", "postalCode": "94103", "country": "US",
    })
}

/// Creates a product on sale with `stock`, over HTTP as an admin.
pub(crate) async fn product(house: &House, admin: &str, price: &str, stock: i32) -> Uuid {
    let ask = |method, path: &str, body: &Value| {
        let key = Uuid::now_v7().to_string();
        send(house.ask(method, path).bearer_auth(admin).header("idempotency-key", key).json(body))
    };
    let name = format!("Category {}", Uuid::now_v7().simple());
    let category = ask(Method::POST, "/v1/categories", &json!({"name": name})).await.is(201).json();
    let body = json!({
        "name": "Thing", "description": "A thing.", "categoryId": category["id"],
        "price": {"amount": price, "currency": "USD"},
    });
    let product = ask(Method::POST, "/v1/products", &body).await.is(201).json();
    let product = id(&product["id"]);
    let path = format!("/v1/products/{product}");
    ask(Method::POST, &format!("{path}/activate"), &json!({})).await.is(200);
    let set = json!({"quantity": stock, "reason": "delivery"});
    ask(Method::PUT, &format!("{path}/inventory"), &set).await.is(200);
    product
}
