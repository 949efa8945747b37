//! The stories of the failure conditions, each of which provokes one.

use serde_json::{Value, json};
use uuid::Uuid;

use super::stage::{Provoke, Stage, alone, own_id, parcel, until, with};
use crate::{
    house::{Answer, send},
    paypal::{self, TOTAL},
    shopper::{PASSWORD, Shopper, address, letters},
};

/// A failure condition of a command.
pub(crate) struct Failure {
    pub(crate) command: &'static str,
    pub(crate) code: &'static str,
    /// The place in the body that the problem names; empty if it names none.
    pub(crate) pointer: &'static str,
    /// Whether the command is accepted first, and fails at the gateway.
    pub(crate) is_late: bool,
    pub(crate) provoke: Provoke<Answer>,
}

const fn at_once(
    command: &'static str,
    code: &'static str,
    pointer: &'static str,
    provoke: Provoke<Answer>,
) -> Failure {
    Failure { command, code, pointer, is_late: false, provoke }
}

const fn late(command: &'static str, code: &'static str, provoke: Provoke<Answer>) -> Failure {
    Failure { command, code, pointer: "", is_late: true, provoke }
}

/// The data of registerCustomer.
pub(crate) fn registration() -> Value {
    json!({"email": format!("{}@example.org", letters()), "password": PASSWORD, "firstName": "Ada",
        "lastName": "L"})
}

/// The data of addShippingAddress.
pub(crate) fn shipping(shopper: &Shopper<'_>) -> Value {
    with(address(), "customerId", json!(shopper.id))
}

async fn adding(stage: &Stage, field: &str, value: Value) -> Answer {
    let shopper = Shopper::unverified(&stage.house).await;
    let data = with(shipping(&shopper), field, value);
    stage.call("addShippingAddress", &shopper.token, data).await
}

async fn into_cart(stage: &Stage, product: Uuid) -> Answer {
    let shopper = Shopper::unverified(&stage.house).await;
    let data = json!({"customerId": shopper.id, "productId": product, "variantId": null,
        "quantity": 1});
    stage.call("addItemToCart", &shopper.token, data).await
}

/// The data of createProduct.
pub(crate) async fn creating(stage: &Stage) -> Value {
    json!({"name": "Thing", "description": "One of many.", "categoryId": stage.category().await,
        "price": {"amount": "9.99", "currency": "USD"}})
}

async fn created(stage: &Stage, field: &str, value: Value) -> Answer {
    let data = with(creating(stage).await, field, value);
    stage.call("createProduct", &stage.admin, data).await
}

/// The data of updateProduct.
pub(crate) fn changing(product: Uuid) -> Value {
    json!({"productId": product, "name": "Other", "description": "Another one.",
        "price": {"amount": "12.00", "currency": "USD"}})
}

/// The data of setInventoryQuantity, reserveInventory and releaseInventory, except for the order.
pub(crate) fn stock(product: Uuid, quantity: i32) -> Value {
    json!({"productId": product, "quantity": quantity, "reason": "count"})
}

async fn authorized(stage: &Stage, method: &str) -> Answer {
    let placed = stage.lapsed().await;
    let data = placed.authorizing(method).await;
    stage.call("authorizePayment", &stage.admin, data).await
}

/// The problem with which an accepted operation ends, as an answer of its own.
async fn ends(stage: &Stage, by: &str, operation: Uuid) -> Answer {
    let path = format!("/v1/operations/{operation}");
    until("the operation fails", async || {
        let asked = stage.house.get(&path).bearer_auth(by);
        send(asked).await.json()["status"] == "failed"
    })
    .await;
    let asked = stage.house.get(&path).bearer_auth(by);
    let shown = send(asked).await;
    let problem = shown.json()["problem"].clone();
    let status = u16::try_from(problem["status"].as_u64().expect("a status")).expect("a status");
    Answer { status, headers: shown.headers, text: problem.to_string() }
}

/// A product whose stock is reserved with this quantity for an order.
pub(crate) async fn reserved(stage: &Stage, quantity: i32) -> (Uuid, Uuid) {
    let placed = stage.placed("ok").await;
    let product = stage.product(9).await;
    let data = json!({"productId": product, "quantity": quantity, "orderId": placed.id});
    stage.done("reserveInventory", &stage.admin, data).await;
    (product, placed.id)
}

/// The failure conditions of customers, carts and orders.
pub(crate) const OF_CUSTOMERS: &[Failure] = &[
    at_once("registerCustomer", "email_already_registered", "", |stage| {
        Box::pin(async move {
            let known = Shopper::unverified(&stage.house).await;
            let data = with(registration(), "email", json!(known.email.to_uppercase()));
            stage.call("registerCustomer", "", data).await
        })
    }),
    at_once("registerCustomer", "invalid_password", "/password", |stage| {
        Box::pin(async move {
            let data = with(registration(), "password", json!("x".repeat(14)));
            stage.call("registerCustomer", "", data).await
        })
    }),
    at_once("registerCustomer", "invalid_email", "/email", |stage| {
        Box::pin(async move {
            let data = with(registration(), "email", json!("no address"));
            stage.call("registerCustomer", "", data).await
        })
    }),
    at_once("verifyCustomerEmail", "invalid_token", "/verificationToken", |stage| {
        Box::pin(async move {
            let shopper = Shopper::new(&stage.house).await;
            let used = json!({"verificationToken": shopper.verification_token().await});
            stage.call("verifyCustomerEmail", "", used).await
        })
    }),
    at_once("verifyCustomerEmail", "token_expired", "/verificationToken", |_| {
        Box::pin(alone(async |stage: &Stage| {
            let shopper = Shopper::unverified(&stage.house).await;
            stage.later(25.0 * 3_600.0).await;
            let data = json!({"verificationToken": shopper.verification_token().await});
            stage.call("verifyCustomerEmail", "", data).await
        }))
    }),
    at_once("addShippingAddress", "invalid_postal_code", "/postalCode", |stage| {
        Box::pin(adding(stage, "postalCode", json!("9410")))
    }),
    at_once("addShippingAddress", "country_not_supported", "/country", |stage| {
        Box::pin(adding(stage, "country", json!("DE")))
    }),
    at_once("addShippingAddress", "missing_field", "/street", |stage| {
        Box::pin(adding(stage, "street", json!("")))
    }),
    at_once("requestGdprErasure", "pending_orders_exist", "", |stage| {
        Box::pin(async move {
            let Shopper { id, token, .. } = stage.placed("ok").await.shopper;
            let data = json!({"customerId": id, "confirmation": true});
            stage.call("requestGdprErasure", &token, data).await
        })
    }),
    at_once("addItemToCart", "out_of_stock", "", |stage| {
        Box::pin(async move { into_cart(stage, stage.product(0).await).await })
    }),
    at_once("addItemToCart", "variant_required", "/variantId", |stage| {
        Box::pin(async move { into_cart(stage, stage.product_with_variant().await.0).await })
    }),
    at_once("addItemToCart", "product_inactive", "", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            stage.done("deactivateProduct", &stage.admin, json!({"productId": product})).await;
            into_cart(stage, product).await
        })
    }),
    at_once("updateCartItemQuantity", "item_not_in_cart", "", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            let cart = own_id(&cart, "cartId");
            let data = json!({"cartId": cart, "cartItemId": Uuid::now_v7(), "quantity": 1});
            stage.call("updateCartItemQuantity", &shopper.token, data).await
        })
    }),
    at_once("updateCartItemQuantity", "quantity_exceeds_stock", "", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            let data = with(item(&cart), "quantity", json!(10));
            stage.call("updateCartItemQuantity", &shopper.token, data).await
        })
    }),
    at_once("removeItemFromCart", "item_not_in_cart", "", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            stage.done("removeItemFromCart", &shopper.token, item(&cart)).await;
            stage.call("removeItemFromCart", &shopper.token, item(&cart)).await
        })
    }),
    at_once("mergeGuestCart", "guest_cart_not_found", "", |stage| {
        Box::pin(async move {
            let (_, token, _) = stage.guest().await;
            let shopper = Shopper::unverified(&stage.house).await;
            let data = json!({"customerId": shopper.id, "guestCartId": Uuid::now_v7(),
                "guestToken": token});
            stage.call("mergeGuestCart", &shopper.token, data).await
        })
    }),
];

/// The cart and the item of the first line of a cart.
pub(crate) fn item(cart: &Value) -> Value {
    let line = &cart["items"][0];
    json!({"cartId": own_id(cart, "cartId"), "cartItemId": own_id(line, "cartItemId")})
}

/// The failure conditions of orders and payments.
pub(crate) const OF_ORDERS: &[Failure] = &[
    at_once("placeOrder", "cart_empty", "", |stage| {
        Box::pin(async move {
            let shopper = Shopper::new(&stage.house).await;
            let data = shopper.order(shopper.address().await, shopper.method("ok").await);
            stage.call("placeOrder", &shopper.token, data).await
        })
    }),
    at_once("placeOrder", "out_of_stock", "/items/0", |stage| {
        Box::pin(async move {
            let (shopper, product, data) = stage.ordering("ok").await;
            stage.done("setInventoryQuantity", &stage.admin, stock(product, 1)).await;
            stage.call("placeOrder", &shopper.token, data).await
        })
    }),
    late("placeOrder", "payment_failed", |stage| {
        Box::pin(async move {
            let (shopper, _, data) = stage.ordering("declined").await;
            stage.call("placeOrder", &shopper.token, data).await
        })
    }),
    at_once("placeOrder", "email_not_verified", "", |stage| {
        Box::pin(async move {
            let shopper = Shopper::unverified(&stage.house).await;
            shopper.add(stage.product(9).await, 1).await.is(200);
            let data = shopper.order(shopper.address().await, shopper.method("ok").await);
            stage.call("placeOrder", &shopper.token, data).await
        })
    }),
    at_once("confirmOrder", "order_not_found", "", |stage| {
        Box::pin(stage.call("confirmOrder", &stage.admin, json!({"orderId": Uuid::now_v7()})))
    }),
    at_once("confirmOrder", "invalid_status_transition", "", |stage| {
        Box::pin(async move {
            let order = stage.confirmed("ok").await.id;
            stage.call("confirmOrder", &stage.admin, json!({"orderId": order})).await
        })
    }),
    at_once("shipOrder", "order_not_found", "", |stage| {
        Box::pin(stage.call("shipOrder", &stage.admin, parcel(Uuid::now_v7())))
    }),
    at_once("shipOrder", "invalid_status_transition", "", |stage| {
        Box::pin(async move {
            let order = stage.placed("ok").await.id;
            stage.call("shipOrder", &stage.admin, parcel(order)).await
        })
    }),
    at_once("shipOrder", "missing_tracking", "/trackingNumber", |stage| {
        Box::pin(async move {
            let order = stage.confirmed("ok").await.id;
            let data = with(parcel(order), "trackingNumber", json!(" "));
            stage.call("shipOrder", &stage.admin, data).await
        })
    }),
    at_once("cancelOrder", "order_not_found", "", |stage| {
        Box::pin(async move {
            let order = stage.placed("ok").await.id;
            let stranger = Shopper::unverified(&stage.house).await;
            let data = json!({"orderId": order, "reason": "not mine"});
            stage.call("cancelOrder", &stranger.token, data).await
        })
    }),
    at_once("cancelOrder", "already_shipped", "", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            let data = json!({"orderId": placed.id, "reason": "too late"});
            stage.call("cancelOrder", &placed.shopper.token, data).await
        })
    }),
    late("authorizePayment", "card_declined", |stage| Box::pin(authorized(stage, "declined"))),
    late("authorizePayment", "unsupported_card_type", |stage| {
        Box::pin(authorized(stage, "unsupported"))
    }),
    late("authorizePayment", "gateway_error", |_| {
        Box::pin(alone(async |stage: &Stage| {
            let placed = stage.lapsed().await;
            let data = placed.authorizing("timeoutBefore").await;
            let by = stage.admin.clone();
            let begun = stage.house.post("/v1/payments/authorizations", &data).bearer_auth(&by);
            let begun = begun.header("idempotency-key", "k");
            let operation = send(begun).await.is(202).json();
            let operation = own_id(&operation, "id");
            stage.has_tried(operation).await;
            stage.later(31.0 * 60.0).await;
            ends(stage, &by, operation).await
        }))
    }),
    at_once("refundPayment", "payment_not_found", "", |stage| {
        Box::pin(stage.call("refundPayment", &stage.admin, refund(Uuid::now_v7())))
    }),
    late("refundPayment", "refund_failed", |stage| {
        Box::pin(async move {
            let order = stage.shipped("declinedOnRefund").await.id;
            stage.call("refundPayment", &stage.admin, refund(order)).await
        })
    }),
    late("initiatePayPal", "paypal_service_error", |_| {
        Box::pin(alone(async |stage: &Stage| {
            let shopper = Shopper::new(&stage.house).await;
            stage.house.outside("/sandbox/down", &[]).await.is(204);
            let begun = stage.house.post("/v1/payments/paypal", &approval());
            let begun = begun.bearer_auth(&shopper.token).header("idempotency-key", "k");
            let operation = own_id(&send(begun).await.is(202).json(), "id");
            stage.has_tried(operation).await;
            stage.later(61.0).await;
            ends(stage, &shopper.token, operation).await
        }))
    }),
];

/// The data of refundPayment.
pub(crate) fn refund(order: Uuid) -> Value {
    json!({"orderId": order, "amount": {"amount": "10.00", "currency": "USD"}})
}

/// The data of initiatePayPal.
pub(crate) fn approval() -> Value {
    paypal::request(TOTAL)
}

/// The failure conditions of products, categories and stock.
pub(crate) const OF_PRODUCTS: &[Failure] = &[
    at_once("createProduct", "invalid_name", "/name", |stage| {
        Box::pin(created(stage, "name", json!("x".repeat(201))))
    }),
    at_once("createProduct", "invalid_price", "/price", |stage| {
        Box::pin(created(stage, "price", json!({"amount": "0.00", "currency": "USD"})))
    }),
    at_once("createProduct", "category_not_found", "", |stage| {
        Box::pin(created(stage, "categoryId", json!(Uuid::now_v7())))
    }),
    at_once("updateProduct", "product_not_found", "", |stage| {
        Box::pin(stage.call("updateProduct", &stage.admin, changing(Uuid::now_v7())))
    }),
    at_once("updateProduct", "invalid_data", "/price", |stage| {
        Box::pin(async move {
            let data = changing(stage.product(1).await);
            let data = with(data, "price", json!({"amount": "-1.00", "currency": "USD"}));
            stage.call("updateProduct", &stage.admin, data).await
        })
    }),
    at_once("deleteProduct", "product_not_found", "", |stage| {
        Box::pin(async move {
            let data = json!({"productId": stage.product(1).await});
            stage.done("deleteProduct", &stage.admin, data.clone()).await;
            stage.call("deleteProduct", &stage.admin, data).await
        })
    }),
    at_once("setInventoryQuantity", "product_not_found", "", |stage| {
        Box::pin(stage.call("setInventoryQuantity", &stage.admin, stock(Uuid::now_v7(), 1)))
    }),
    at_once("setInventoryQuantity", "negative_quantity", "/quantity", |stage| {
        Box::pin(async move {
            let data = stock(stage.product(1).await, -1);
            stage.call("setInventoryQuantity", &stage.admin, data).await
        })
    }),
    at_once("adjustInventory", "product_not_found", "", |stage| {
        Box::pin(stage.call("adjustInventory", &stage.admin, adjustment(Uuid::now_v7(), 1)))
    }),
    at_once("adjustInventory", "negative_stock", "", |stage| {
        Box::pin(async move {
            let data = adjustment(stage.product(1).await, -2);
            stage.call("adjustInventory", &stage.admin, data).await
        })
    }),
    at_once("reserveInventory", "insufficient_stock", "", |stage| {
        Box::pin(async move {
            let (product, order) = reserved(stage, 5).await;
            let data = json!({"productId": product, "quantity": 5, "orderId": order});
            stage.call("reserveInventory", &stage.admin, data).await
        })
    }),
    at_once("releaseInventory", "quantity_exceeds_reserved", "", |stage| {
        Box::pin(async move {
            let (product, _) = reserved(stage, 2).await;
            stage.call("releaseInventory", &stage.admin, stock(product, 3)).await
        })
    }),
    at_once("createCategory", "name_not_unique", "", |stage| {
        Box::pin(async move {
            let data = json!({"name": format!("Root {}", letters()), "parentCategoryId": null});
            stage.done("createCategory", &stage.admin, data.clone()).await;
            stage.call("createCategory", &stage.admin, data).await
        })
    }),
    at_once("createCategory", "parent_not_found", "", |stage| {
        Box::pin(below(stage, Uuid::now_v7()))
    }),
    at_once("createCategory", "max_nesting_exceeded", "/parentCategoryId", |stage| {
        Box::pin(async move {
            let mut parent = stage.category().await;
            for _ in 0..2 {
                parent = own_id(&below(stage, parent).await.is(201).json(), "categoryId");
            }
            below(stage, parent).await
        })
    }),
];

/// The data of adjustInventory.
pub(crate) fn adjustment(product: Uuid, by: i32) -> Value {
    json!({"productId": product, "adjustment": by, "reason": "count"})
}

/// Creates a category below another one.
pub(crate) async fn below(stage: &Stage, parent: Uuid) -> Answer {
    let data = json!({"name": format!("Part {}", letters()), "parentCategoryId": parent});
    stage.call("createCategory", &stage.admin, data).await
}
