//! The stories of the domain events, one for each trigger.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    failures::{
        adjustment, below, changing, creating, item, registration, reserved, shipping, stock,
    },
    stage::{Placed, Provoke, Stage, alone, own_id, with},
};
use crate::{
    house::send,
    shopper::{PASSWORD, Shopper},
};

/// A trigger of an event: one of those that the catalogue joins by "or".
pub(super) struct Trigger {
    pub(super) event: &'static str,
    pub(super) text: &'static str,
    pub(super) provoke: Provoke<Happened>,
}

/// An event that must have been recorded by now, or soon.
pub(super) struct Happened {
    pub(super) payload: Value,
    pub(super) aggregate: String,
    /// The values of its fields, as far as the story knows them.
    pub(super) expected: Value,
}

const fn on(event: &'static str, text: &'static str, provoke: Provoke<Happened>) -> Trigger {
    Trigger { event, text, provoke }
}

/// Reads the event of this name of the aggregate, and opens its sealed fields with the person's key.
async fn read(
    stage: &Stage,
    name: &str,
    of: Uuid,
    person: Option<Uuid>,
    expected: Value,
) -> Happened {
    let (aggregate, mut payload) = stage.event(name, of).await;
    for (field, value) in payload.as_object_mut().expect("an object") {
        *value = stage.opened(field, value, person).await;
    }
    Happened { payload, aggregate, expected }
}

async fn seen(stage: &Stage, name: &str, of: Uuid, expected: Value) -> Happened {
    read(stage, name, of, None, expected).await
}

async fn of_order(stage: &Stage, name: &str, placed: &Placed<'_>, expected: Value) -> Happened {
    let expected = with(expected, "orderId", json!(placed.id));
    let expected = with(expected, "orderNumber", placed.order["orderNumber"].clone());
    read(stage, name, placed.id, Some(placed.shopper.id), expected).await
}

async fn of_stock(stage: &Stage, name: &str, product: Uuid, expected: Value) -> Happened {
    let inventory = stage.inventory(product).await;
    let expected = with(expected, "inventoryId", json!(inventory));
    let expected = with(expected, "productId", json!(product));
    seen(stage, name, inventory, expected).await
}

/// A customer with a line of two things, one of which is changed: the cart's event.
async fn of_changed_line(
    stage: &Stage,
    name: &str,
    quantity: Option<i32>,
    expected: Value,
) -> Happened {
    let (shopper, product, cart) = stage.shopping(9).await;
    let data = item(&cart);
    match quantity {
        Some(quantity) => {
            let data = with(data, "quantity", json!(quantity));
            stage.done("updateCartItemQuantity", &shopper.token, data).await;
        }
        None => {
            stage.done("removeItemFromCart", &shopper.token, data).await;
        }
    }
    let of = own_id(&cart, "cartId");
    let expected = with(expected, "productId", json!(product));
    seen(stage, name, of, with(expected, "cartId", json!(of))).await
}

async fn cancelled(stage: &Stage, placed: &Placed<'_>, by: &str) {
    let data = json!({"orderId": placed.id, "reason": "changed my mind"});
    stage.done("cancelOrder", by, data).await;
}

/// The lines of an order with the field that answers leave out where it is null.
fn lines(placed: &Placed<'_>) -> Value {
    let lines = placed.order["lineItems"].as_array().cloned().unwrap_or_default();
    lines.into_iter().map(|line| with(line, "variantId", Value::Null)).collect()
}

async fn of_cancelled(stage: &Stage, placed: &Placed<'_>) -> Happened {
    let expected = json!({"customerId": placed.shopper.id, "reason": "changed my mind",
        "lineItems": lines(placed)});
    of_order(stage, "OrderCancelled", placed, expected).await
}

/// The events of customers and carts.
pub(super) const OF_CUSTOMERS: &[Trigger] = &[
    on(
        "CustomerRegistered",
        "Customer completes registration with valid email and password",
        |stage| {
            Box::pin(async move {
                let data = registration();
                let customer = stage.done("registerCustomer", "", data.clone()).await;
                let of = own_id(&customer, "customerId");
                let expected = json!({"customerId": of, "email": data["email"],
                    "firstName": data["firstName"], "lastName": data["lastName"]});
                read(stage, "CustomerRegistered", of, Some(of), expected).await
            })
        },
    ),
    on("CustomerEmailVerified", "Customer clicks valid verification link", |stage| {
        Box::pin(async move {
            let shopper = Shopper::new(&stage.house).await;
            let expected = json!({"customerId": shopper.id, "email": shopper.email});
            read(stage, "CustomerEmailVerified", shopper.id, Some(shopper.id), expected).await
        })
    }),
    on("ShippingAddressAdded", "Customer saves new shipping address", |stage| {
        Box::pin(async move {
            let shopper = Shopper::unverified(&stage.house).await;
            let data = shipping(&shopper);
            let added = stage.done("addShippingAddress", &shopper.token, data.clone()).await;
            let mut expected = with(data, "addressId", json!(own_id(&added, "addressId")));
            expected.as_object_mut().expect("an object").remove("recipientName");
            read(stage, "ShippingAddressAdded", shopper.id, Some(shopper.id), expected).await
        })
    }),
    on(
        "CustomerDataErased",
        "Customer confirms data erasure request with no pending orders",
        |stage| {
            Box::pin(async move {
                let shopper = Shopper::new(&stage.house).await;
                let data = json!({"customerId": shopper.id, "confirmation": true});
                let answer = stage.call("requestGdprErasure", &shopper.token, data).await;
                assert!(matches!(answer.status, 200..=202), "{}", answer.text);
                let of = stage.aggregate_of_request("CustomerDataErased", &answer).await;
                assert_ne!(of, shopper.id, "it must not lead back to the person");
                seen(stage, "CustomerDataErased", of, json!({"anonymizedId": of})).await
            })
        },
    ),
    on("ItemAddedToCart", "Customer adds product to cart with valid quantity", |stage| {
        Box::pin(async move {
            let (shopper, product, cart) = stage.shopping(9).await;
            let of = own_id(&cart, "cartId");
            let expected = json!({"cartId": of, "customerId": shopper.id, "productId": product,
                "variantId": null, "quantity": 2,
                "unitPrice": {"amount": "10.00", "currency": "USD"}});
            seen(stage, "ItemAddedToCart", of, expected).await
        })
    }),
    on("CartItemQuantityUpdated", "Customer changes quantity in cart", |stage| {
        let expected = json!({"oldQuantity": 2, "newQuantity": 3});
        Box::pin(of_changed_line(stage, "CartItemQuantityUpdated", Some(3), expected))
    }),
    on("ItemRemovedFromCart", "Customer removes item", |stage| {
        Box::pin(of_changed_line(stage, "ItemRemovedFromCart", None, json!({"variantId": null})))
    }),
    on("ItemRemovedFromCart", "sets quantity to zero", |stage| {
        Box::pin(of_changed_line(stage, "ItemRemovedFromCart", Some(0), json!({"variantId": null})))
    }),
    on("CartCleared", "Order placed", |stage| {
        Box::pin(async move {
            let (shopper, _, data) = stage.ordering("ok").await;
            let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
            stage.done("placeOrder", &shopper.token, data).await;
            of_cleared(stage, &shopper, &cart).await
        })
    }),
    on("CartCleared", "customer clears cart", |stage| {
        Box::pin(async move {
            let (shopper, _, cart) = stage.shopping(9).await;
            let data = json!({"cartId": own_id(&cart, "cartId")});
            stage.done("clearCart", &shopper.token, data).await;
            of_cleared(stage, &shopper, &cart).await
        })
    }),
    on("CartMerged", "Guest user logs in with items in cart", |stage| {
        Box::pin(async move {
            let (guest_cart, token, product) = stage.guest().await;
            let shopper = Shopper::unverified(&stage.house).await;
            let data = json!({"email": shopper.email, "password": PASSWORD,
                "guestCartId": guest_cart, "guestToken": token});
            let session = send(stage.house.post("/v1/sessions", &data)).await.is(201).json();
            assert_eq!(session["guestCart"]["merged"], true, "{session}");
            let cart = shopper.get("/v1/customers/{me}/cart").await.is(200).json();
            let of = own_id(&cart, "cartId");
            let expected = json!({"cartId": of, "guestCartId": guest_cart, "customerId": shopper.id,
                "mergedItems": [{"productId": product, "variantId": null, "quantity": 2,
                    "capped": false}]});
            seen(stage, "CartMerged", of, expected).await
        })
    }),
    on("CartExpired", "Background job detects cart exceeds inactivity threshold", |_| {
        Box::pin(alone(async |stage: &Stage| {
            let (shopper, _, cart) = stage.shopping(9).await;
            stage.later(31.0 * 24.0 * 3_600.0).await;
            let of = own_id(&cart, "cartId");
            let expected = json!({"cartId": of, "customerId": shopper.id});
            seen(stage, "CartExpired", of, expected).await
        }))
    }),
];

async fn of_cleared(stage: &Stage, shopper: &Shopper<'_>, cart: &Value) -> Happened {
    let of = own_id(cart, "cartId");
    seen(stage, "CartCleared", of, json!({"cartId": of, "customerId": shopper.id})).await
}

/// The events of orders and payments.
pub(super) const OF_ORDERS: &[Trigger] = &[
    on("OrderPlaced", "Customer places order with valid payment", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let expected = json!({"customerId": placed.shopper.id});
            let expected = with(expected, "lineItems", lines(&placed));
            let fields = ["subtotal", "shippingCost", "tax", "totalAmount", "shippingAddress"];
            let expected = fields.into_iter().fold(expected, |expected, field| {
                with(expected, field, placed.order[field].clone())
            });
            of_order(stage, "OrderPlaced", &placed, expected).await
        })
    }),
    on("OrderConfirmed", "Admin confirms pending order", |stage| {
        Box::pin(async move {
            let placed = stage.confirmed("ok").await;
            of_order(stage, "OrderConfirmed", &placed, json!({})).await
        })
    }),
    on("OrderShipped", "Admin marks order as shipped with tracking number", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            let expected = json!({"trackingNumber": "1Z999", "carrier": "UPS"});
            of_order(stage, "OrderShipped", &placed, expected).await
        })
    }),
    on("OrderDelivered", "Admin marks order as delivered", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            stage.done("deliverOrder", &stage.admin, json!({"orderId": placed.id})).await;
            of_order(stage, "OrderDelivered", &placed, json!({})).await
        })
    }),
    on("OrderCancelled", "Customer", |stage| {
        Box::pin(async move {
            let confirmed = stage.confirmed("ok").await;
            cancelled(stage, &confirmed, &confirmed.shopper.token).await;
            of_cancelled(stage, &confirmed).await
        })
    }),
    on("OrderCancelled", "admin cancels pending/confirmed order", |stage| {
        Box::pin(async move {
            for placed in [stage.confirmed("ok").await, stage.placed("ok").await] {
                cancelled(stage, &placed, &stage.admin).await;
                let happened = of_cancelled(stage, &placed).await;
                assert_eq!(happened.payload["orderId"], json!(placed.id));
            }
            let placed = stage.placed("ok").await;
            cancelled(stage, &placed, &stage.admin).await;
            of_cancelled(stage, &placed).await
        })
    }),
    on("PaymentAuthorized", "Payment gateway approves authorization request", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let expected = json!({"paymentId": placed.payment(), "orderId": placed.id,
                "amount": placed.order["totalAmount"], "paymentMethod": "card:visa"});
            seen(stage, "PaymentAuthorized", placed.payment(), expected).await
        })
    }),
    on("PaymentRefunded", "Order cancelled with successful refund", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            cancelled(stage, &placed, &placed.shopper.token).await;
            let expected = json!({"paymentId": placed.payment(), "orderId": placed.id,
                "refundAmount": placed.order["totalAmount"]});
            seen(stage, "PaymentRefunded", placed.payment(), expected).await
        })
    }),
];

/// The events of products, categories and stock.
pub(super) const OF_PRODUCTS: &[Trigger] = &[
    on("ProductCreated", "Admin creates product with valid data", |stage| {
        Box::pin(async move {
            let data = creating(stage).await;
            let product = stage.done("createProduct", &stage.admin, data.clone()).await;
            let of = own_id(&product, "productId");
            let expected = json!({"productId": of, "name": data["name"], "price": data["price"],
                "categoryId": data["categoryId"], "status": "draft"});
            seen(stage, "ProductCreated", of, expected).await
        })
    }),
    on("ProductUpdated", "Admin updates product details", |stage| {
        Box::pin(async move {
            let of = stage.product(1).await;
            stage.done("updateProduct", &stage.admin, changing(of)).await;
            let happened = seen(stage, "ProductUpdated", of, json!({"productId": of})).await;
            let changed = &happened.payload["changedFields"];
            assert_eq!(changed["name"], json!({"old": "Thing", "new": "Other"}), "{changed}");
            assert!(
                changed["price"].is_object() && changed["description"].is_object(),
                "{changed}"
            );
            happened
        })
    }),
    on("ProductDeleted", "Admin deletes product", |stage| {
        Box::pin(async move {
            let of = stage.product(1).await;
            stage.done("deleteProduct", &stage.admin, json!({"productId": of})).await;
            seen(stage, "ProductDeleted", of, json!({"productId": of})).await
        })
    }),
    on("ProductActivated", "Admin activates draft product", |stage| {
        Box::pin(async move {
            let of = stage.product(1).await;
            seen(stage, "ProductActivated", of, json!({"productId": of})).await
        })
    }),
    on("ProductDeactivated", "Admin deactivates product", |stage| {
        Box::pin(async move {
            let of = stage.product(1).await;
            stage.done("deactivateProduct", &stage.admin, json!({"productId": of})).await;
            seen(stage, "ProductDeactivated", of, json!({"productId": of})).await
        })
    }),
    on("InventoryQuantitySet", "Admin sets inventory quantity with reason", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            stage.done("setInventoryQuantity", &stage.admin, stock(product, 7)).await;
            let expected = json!({"previousValue": 9, "newValue": 7, "reason": "count"});
            of_stock(stage, "InventoryQuantitySet", product, expected).await
        })
    }),
    on("InventoryAdjusted", "Admin adjusts inventory with positive", |stage| {
        Box::pin(adjusted(stage, 3))
    }),
    on("InventoryAdjusted", "negative delta", |stage| Box::pin(adjusted(stage, -3))),
    on("InventoryReserved", "Order placed successfully", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let expected = json!({"quantity": 2, "orderId": placed.id});
            of_stock(stage, "InventoryReserved", placed.product, expected).await
        })
    }),
    on("InventoryReleased", "Order cancelled", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            cancelled(stage, &placed, &placed.shopper.token).await;
            let expected = json!({"quantity": 2});
            of_stock(stage, "InventoryReleased", placed.product, expected).await
        })
    }),
    on("InventoryReleased", "reservation expired", |_| {
        Box::pin(alone(async |stage: &Stage| {
            let (product, _) = reserved(stage, 3).await;
            stage.later(31.0 * 24.0 * 3_600.0).await;
            of_stock(stage, "InventoryReleased", product, json!({"quantity": 3})).await
        }))
    }),
    on("InventoryDeducted", "Order shipped successfully", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            let expected = json!({"quantity": 2, "orderId": placed.id});
            of_stock(stage, "InventoryDeducted", placed.product, expected).await
        })
    }),
    on("LowStockAlert", "Stock level drops below configured threshold", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            stage.done("adjustInventory", &stage.admin, adjustment(product, -5)).await;
            let expected = json!({"currentStock": 4, "threshold": 5});
            of_stock(stage, "LowStockAlert", product, expected).await
        })
    }),
    on("OutOfStock", "Available quantity reaches zero", |stage| {
        Box::pin(async move {
            let product = stage.product(9).await;
            stage.done("adjustInventory", &stage.admin, adjustment(product, -9)).await;
            of_stock(stage, "OutOfStock", product, json!({})).await
        })
    }),
    on("CategoryCreated", "Admin creates category with valid name and parent", |stage| {
        Box::pin(async move {
            let parent = stage.category().await;
            let category = below(stage, parent).await.is(201).json();
            let of = own_id(&category, "categoryId");
            let expected = json!({"categoryId": of, "name": category["name"],
                "parentCategoryId": parent, "depth": 2});
            seen(stage, "CategoryCreated", of, expected).await
        })
    }),
];

async fn adjusted(stage: &Stage, by: i32) -> Happened {
    let product = stage.product(9).await;
    stage.done("adjustInventory", &stage.admin, adjustment(product, by)).await;
    let expected = json!({"adjustment": by, "newValue": 9 + by, "reason": "count"});
    of_stock(stage, "InventoryAdjusted", product, expected).await
}
