//! The stories of the commands: each is called with all its data, and must have its outcome.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    failures::{
        adjustment, approval, below, changing, creating, item, refund, registration, reserved,
        shipping, stock,
    },
    stage::{Provoke, Stage, own_id, parcel, until, with},
};
use crate::{house::send, shopper::Shopper};

/// A command with its expected outcome.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) provoke: Provoke<()>,
}

const fn of(name: &'static str, provoke: Provoke<()>) -> Command {
    Command { name, provoke }
}

/// The totals of a cart, which must fit its lines.
fn assert_totals(cart: &Value, count: i64, subtotal: &str) {
    assert_eq!(cart["itemCount"], count, "{cart}");
    assert_eq!(cart["subtotal"], json!({"amount": subtotal, "currency": "USD"}), "{cart}");
}

/// The last change in the audit of a product's stock.
async fn audited(stage: &Stage, product: uuid::Uuid) -> Value {
    let data = json!({"productId": product});
    stage.done("listInventoryAudit", &stage.admin, data).await["items"][0].clone()
}

/// The commands of customers and carts.
pub(super) const OF_CUSTOMERS: &[Command] = &[
    // Customer created with unverified status, verification email queued.
    of("registerCustomer", |stage| {
        Box::pin(async move {
            let data = registration();
            let customer = stage.done("registerCustomer", "", data.clone()).await;
            assert_eq!(customer["emailVerified"], false, "{customer}");
            let email = data["email"].as_str().expect("a text");
            until("a mail", async || stage.house.mail.last_to(email).is_some()).await;
        })
    }),
    // Customer email verified, can now place orders.
    of("verifyCustomerEmail", |stage| {
        Box::pin(async move {
            let shopper = Shopper::unverified(&stage.house).await;
            let data = json!({"verificationToken": shopper.verification_token().await});
            let customer = stage.done("verifyCustomerEmail", "", data).await;
            assert_eq!(customer["emailVerified"], true, "{customer}");
            shopper.add(stage.product(9).await, 1).await.is(200);
            let data = shopper.order(shopper.address().await, shopper.method("ok").await);
            stage.done("placeOrder", &shopper.token, data).await;
        })
    }),
    // Address saved and available for orders.
    of("addShippingAddress", |stage| {
        Box::pin(async move {
            let shopper = Shopper::new(&stage.house).await;
            let added = stage.done("addShippingAddress", &shopper.token, shipping(&shopper)).await;
            shopper.add(stage.product(9).await, 1).await.is(200);
            let address = own_id(&added, "addressId");
            let data = shopper.order(address, shopper.method("ok").await);
            let order = stage.done("placeOrder", &shopper.token, data).await;
            assert_eq!(order["shippingAddress"]["street"], shipping(&shopper)["street"]);
        })
    }),
    // Personal data deleted, order history anonymized.
    of("requestGdprErasure", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let shopper = &placed.shopper;
            let data = json!({"orderId": placed.id, "reason": "no more"});
            stage.done("cancelOrder", &shopper.token, data).await;
            let data = json!({"customerId": shopper.id, "confirmation": true});
            let answer = stage.call("requestGdprErasure", &shopper.token, data).await;
            assert!(matches!(answer.status, 200..=202), "{}", answer.text);
            stage.aggregate_of_request("CustomerDataErased", &answer).await;
            assert_eq!(shopper.get("/v1/me").await.status, 401);
            let data = json!({"orderId": placed.id});
            let order = stage.done("getOrder", &stage.admin, data).await;
            assert_eq!(order["totalAmount"], placed.order["totalAmount"], "amounts are kept");
            assert_ne!(order["customerId"], json!(shopper.id), "{order}");
            assert!(!order.to_string().contains("Analytical"), "{order}");
        })
    }),
    // Item added to cart, totals recalculated.
    of("addItemToCart", |stage| {
        Box::pin(async move {
            let (shopper, product, _) = stage.shopping(9).await;
            let data = json!({"customerId": shopper.id, "productId": product, "variantId": null,
                "quantity": 1});
            let cart = stage.done("addItemToCart", &shopper.token, data).await;
            assert_totals(&cart, 3, "30.00");
            let (product, variant) = stage.product_with_variant().await;
            let in_stock = with(stock(product, 4), "variantId", json!(variant));
            stage.done("setInventoryQuantity", &stage.admin, in_stock).await;
            let data = json!({"customerId": shopper.id, "productId": product, "variantId": variant,
                "quantity": 1});
            let cart = stage.done("addItemToCart", &shopper.token, data).await;
            assert_totals(&cart, 4, "40.00");
        })
    }),
    // Quantity updated or item removed if zero.
    of("updateCartItemQuantity", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            for (quantity, subtotal) in [(3, "30.00"), (0, "0.00")] {
                let data = with(item(&cart), "quantity", json!(quantity));
                let cart = stage.done("updateCartItemQuantity", &shopper.token, data).await;
                assert_totals(&cart, quantity, subtotal);
            }
        })
    }),
    // Item removed, totals recalculated, undo available.
    of("removeItemFromCart", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            let emptied = stage.done("removeItemFromCart", &shopper.token, item(&cart)).await;
            assert_totals(&emptied, 0, "0.00");
            let restored = stage.done("restoreCartItem", &shopper.token, item(&cart)).await;
            assert_totals(&restored, 2, "20.00");
        })
    }),
    // Carts merged, quantities capped to stock.
    of("mergeGuestCart", |stage| {
        Box::pin(async move {
            let (guest_cart, token, product) = stage.guest().await;
            let shopper = Shopper::unverified(&stage.house).await;
            shopper.add(product, 8).await.is(200);
            let data = json!({"customerId": shopper.id, "guestCartId": guest_cart,
                "guestToken": token});
            let cart = stage.done("mergeGuestCart", &shopper.token, data).await;
            assert_totals(&cart, 9, "90.00");
            assert_eq!(cart["capped"], true, "{cart}");
        })
    }),
];

/// The commands of orders and payments.
pub(super) const OF_ORDERS: &[Command] = &[
    // Order created, payment authorized, inventory reserved, cart cleared.
    of("placeOrder", |stage| {
        Box::pin(async move {
            let (shopper, product, data) = stage.ordering("ok").await;
            let order = stage.done("placeOrder", &shopper.token, data).await;
            assert_eq!(order["payment"]["status"], "authorized", "{order}");
            let data = json!({"productId": product});
            let stock = stage.done("getInventory", &stage.admin, data).await;
            assert_eq!(stock["items"][0]["reserved"], 2, "{stock}");
            let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
            assert_totals(&cart, 0, "0.00");
        })
    }),
    // Order status changed to confirmed.
    of("confirmOrder", |stage| {
        Box::pin(async move {
            let data = json!({"orderId": stage.placed("ok").await.id});
            let order = stage.done("confirmOrder", &stage.admin, data).await;
            assert_eq!(order["status"], "confirmed", "{order}");
        })
    }),
    // Status shipped, inventory deducted, customer notified.
    of("shipOrder", |stage| {
        Box::pin(async move {
            let placed = stage.confirmed("ok").await;
            let order = stage.done("shipOrder", &stage.admin, parcel(placed.id)).await;
            assert_eq!(order["status"], "shipped", "{order}");
            let data = json!({"productId": placed.product});
            let stock = stage.done("getInventory", &stage.admin, data).await;
            assert_eq!(
                (&stock["items"][0]["onHand"], &stock["items"][0]["reserved"]),
                (&json!(18), &json!(0))
            );
            stage.message("shop.order.shipped.v1", placed.id).await;
        })
    }),
    // Order cancelled, inventory released, refund initiated.
    of("cancelOrder", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let data = json!({"orderId": placed.id, "reason": "changed my mind"});
            let order = stage.done("cancelOrder", &placed.shopper.token, data).await;
            assert_eq!(order["status"], "cancelled", "{order}");
            assert_eq!(order["payment"]["status"], "voided", "{order}");
            let data = json!({"productId": placed.product});
            let stock = stage.done("getInventory", &stage.admin, data).await;
            assert_eq!(stock["items"][0]["reserved"], 0, "{stock}");
        })
    }),
    // Payment authorized, authorization ID stored.
    of("authorizePayment", |stage| {
        Box::pin(async move {
            let placed = stage.lapsed().await;
            let data = placed.authorizing("ok").await;
            let order = stage.done("authorizePayment", &stage.admin, data).await;
            assert_eq!(order["payment"]["status"], "authorized", "{order}");
            let data = json!({"paymentId": order["payment"]["id"]});
            let payment = stage.done("getPayment", &stage.admin, data).await;
            assert!(payment["transactions"][0]["reference"].is_string(), "{payment}");
        })
    }),
    // Refund processed to original payment method.
    of("refundPayment", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            let order = stage.done("refundPayment", &stage.admin, refund(placed.id)).await;
            assert_eq!(order["payment"]["id"], placed.order["payment"]["id"], "{order}");
            assert_eq!(order["payment"]["refundedAmount"]["amount"], "10.00", "{order}");
        })
    }),
    // PayPal redirect URL returned.
    of("initiatePayPal", |stage| {
        Box::pin(async move {
            let shopper = Shopper::new(&stage.house).await;
            let begun =
                stage.call("initiatePayPal", &shopper.token, approval()).await.is(202).json();
            let url = begun["action"]["url"].as_str().expect("a link");
            let page = stage.house.client.request(Method::GET, url);
            send(page).await.is(200);
        })
    }),
];

/// The commands of products, categories and stock.
pub(super) const OF_PRODUCTS: &[Command] = &[
    // Product created as draft with UUID.
    of("createProduct", |stage| {
        Box::pin(async move {
            let data = creating(stage).await;
            let product = stage.done("createProduct", &stage.admin, data).await;
            assert_eq!(product["status"], "draft", "{product}");
            own_id(&product, "productId");
        })
    }),
    // Product updated, change logged.
    of("updateProduct", |stage| {
        Box::pin(async move {
            let product = stage.product(1).await;
            let changed = stage.done("updateProduct", &stage.admin, changing(product)).await;
            assert_eq!(
                (&changed["name"], &changed["price"]["amount"]),
                (&json!("Other"), &json!("12.00"))
            );
            stage.event("ProductUpdated", product).await;
        })
    }),
    // Product soft-deleted, removed from carts.
    of("deleteProduct", |stage| {
        Box::pin(async move {
            let (shopper, product, _) = stage.shopping(9).await;
            stage.done("deleteProduct", &stage.admin, json!({"productId": product})).await;
            let gone = stage.call("getProduct", "", json!({"productId": product})).await;
            assert_eq!(gone.problem().0, 404);
            until("it is removed from the cart", async || {
                let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
                cart["itemCount"] == 0 && cart["removedItems"][0]["removed"] == "not_sold"
            })
            .await;
        })
    }),
    // Stock level set, audit log created.
    of("setInventoryQuantity", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            let set = stage.done("setInventoryQuantity", &stage.admin, stock(product, 7)).await;
            assert_eq!(set["onHand"], 7, "{set}");
            let change = audited(stage, product).await;
            assert_eq!((&change["change"], &change["reason"]), (&json!("set"), &json!("count")));
        })
    }),
    // Stock adjusted, audit log created.
    of("adjustInventory", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            let data = adjustment(product, -2);
            let adjusted = stage.done("adjustInventory", &stage.admin, data).await;
            assert_eq!(adjusted["onHand"], 7, "{adjusted}");
            let change = audited(stage, product).await;
            assert_eq!(
                (&change["change"], &change["onHandBefore"]),
                (&json!("adjusted"), &json!(9))
            );
        })
    }),
    // Inventory reserved for order.
    of("reserveInventory", |stage| {
        Box::pin(async move {
            let (product, order) = reserved(stage, 3).await;
            let change = audited(stage, product).await;
            assert_eq!(
                (&change["change"], &change["orderId"]),
                (&json!("reserved"), &json!(order))
            );
        })
    }),
    // Reserved quantity released.
    of("releaseInventory", |stage| {
        Box::pin(async move {
            let (product, _) = reserved(stage, 3).await;
            let released = stage.done("releaseInventory", &stage.admin, stock(product, 2)).await;
            assert_eq!(released["reserved"], 1, "{released}");
        })
    }),
    // Category created with calculated depth.
    of("createCategory", |stage| {
        Box::pin(async move {
            let parent = stage.category().await;
            let part = below(stage, parent).await.is(201).json();
            assert_eq!(part["depth"], 2, "{part}");
        })
    }),
];
