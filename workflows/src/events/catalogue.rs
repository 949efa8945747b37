//! All domain events of the catalogue, each with exactly its payload.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Sealed;
use crate::money::Money;

type Time = DateTime<Utc>;

/// The version of the payloads' form. The catalogue has 1.0 for every event.
pub const VERSION: i16 = 1;

/// Declares the events: a name, the aggregate with the field that holds its id, and the payload. After `beside` stands what is known
/// when the event happens and not part of its payload: reactions read it, and it is not kept.
macro_rules! events {
    ($($name:ident of $aggregate:ident($id:ident) { $($field:ident: $type:ty),* $(,)? }
        $(, beside { $($known:ident: $known_type:ty),* $(,)? })?)*) => {
        /// What has happened in the shop. The catalogue explains each event and field.
        #[derive(Debug, Clone, Serialize)]
        #[serde(untagged, rename_all_fields = "camelCase")]
        #[expect(missing_docs, reason = "the catalogue documents events and fields")]
        pub enum DomainEvent {
            $($name { $($field: $type,)* $($(#[serde(skip)] $known: $known_type),*)? },)*
        }

        impl DomainEvent {
            /// The name in the catalogue.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name),)* }
            }

            /// What it happened to.
            pub fn aggregate(&self) -> (Aggregate, Uuid) {
                match self { $(Self::$name { $id, .. } => (Aggregate::$aggregate, *$id),)* }
            }

            /// Every event: its name, its aggregate, its fields with their Rust types.
            #[cfg(test)]
            pub(super) const ALL: &[(&str, &str, &[(&str, &str)])] = &[
                $((stringify!($name), stringify!($aggregate),
                    &[$((stringify!($field), stringify!($type))),*]),)*
            ];

            /// One of each, for tests.
            #[cfg(any(test, feature = "testing"))]
            pub fn samples() -> Vec<Self> {
                use super::samples::Sample;
                vec![$(Self::$name {
                    $($field: Sample::sample(),)* $($($known: Sample::sample()),*)?
                },)*]
            }
        }
    };
}

events! {
    CustomerRegistered of Customer(customer_id) {
        customer_id: Uuid, email: Sealed, first_name: Sealed, last_name: Sealed, created_at: Time,
    }
    CustomerEmailVerified of Customer(customer_id) {
        customer_id: Uuid, email: Sealed, verified_at: Time,
    }
    ShippingAddressAdded of Customer(customer_id) {
        customer_id: Uuid, address_id: Uuid, street: Sealed, city: Sealed, state: Sealed,
        postal_code: Sealed, country: String,
    }
    CustomerDataErased of Customer(anonymized_id) { anonymized_id: Uuid, erased_at: Time },
        beside { customer_id: Uuid }

    ItemAddedToCart of Cart(cart_id) {
        cart_id: Uuid, customer_id: Uuid, product_id: Uuid, variant_id: Option<Uuid>,
        quantity: i32, unit_price: Money, added_at: Time,
    }, beside { unwatched_for: Option<Duration> }
    CartItemQuantityUpdated of Cart(cart_id) {
        cart_id: Uuid, cart_item_id: Uuid, product_id: Uuid, old_quantity: i32, new_quantity: i32,
        updated_at: Time,
    }
    ItemRemovedFromCart of Cart(cart_id) {
        cart_id: Uuid, product_id: Uuid, variant_id: Option<Uuid>, removed_at: Time,
    }
    CartCleared of Cart(cart_id) {
        cart_id: Uuid, customer_id: Uuid, reason: &'static str, cleared_at: Time,
    }
    CartMerged of Cart(cart_id) {
        cart_id: Uuid, guest_cart_id: Uuid, customer_id: Uuid, merged_items: Vec<MergedItem>,
        merged_at: Time,
    }, beside { unwatched_for: Option<Duration> }
    CartExpired of Cart(cart_id) {
        cart_id: Uuid, customer_id: Uuid, last_activity_date: Time, expired_at: Time,
    }

    OrderPlaced of Order(order_id) {
        order_id: Uuid, order_number: String, customer_id: Uuid, line_items: Vec<LineItem>,
        subtotal: Money, shipping_cost: Money, tax: Money, total_amount: Money,
        shipping_address: Sealed, created_at: Time,
    }
    OrderConfirmed of Order(order_id) {
        order_id: Uuid, order_number: String, confirmed_at: Time, confirmed_by: Uuid,
    }
    OrderShipped of Order(order_id) {
        order_id: Uuid, order_number: String, tracking_number: String, carrier: String,
        shipped_at: Time,
    }, beside { customer_id: Uuid }
    OrderDelivered of Order(order_id) {
        order_id: Uuid, order_number: String, delivered_at: Time,
    }
    OrderCancelled of Order(order_id) {
        order_id: Uuid, order_number: String, customer_id: Uuid, reason: Sealed,
        line_items: Vec<LineItem>, cancelled_at: Time,
    }, beside { refund_amount: Money }

    ProductCreated of Product(product_id) {
        product_id: Uuid, name: String, price: Money, category_id: Uuid, status: &'static str,
        created_by: Uuid, created_at: Time,
    }
    ProductUpdated of Product(product_id) {
        product_id: Uuid, changed_fields: BTreeMap<&'static str, Change>, updated_by: Uuid,
        updated_at: Time,
    }
    ProductDeleted of Product(product_id) { product_id: Uuid, deleted_by: Uuid, deleted_at: Time }
    ProductActivated of Product(product_id) { product_id: Uuid, activated_at: Time }
    ProductDeactivated of Product(product_id) { product_id: Uuid, deactivated_at: Time }

    InventoryQuantitySet of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, previous_value: i32, new_value: i32, reason: String,
        user_id: Uuid, timestamp: Time,
    }
    InventoryAdjusted of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, adjustment: i32, new_value: i32, reason: String,
        user_id: Uuid, timestamp: Time,
    }
    InventoryReserved of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, quantity: i32, order_id: Uuid, reserved_at: Time,
    }, beside { held_for: Option<Duration> }
    InventoryReleased of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, quantity: i32, reason: String, released_at: Time,
    }
    InventoryDeducted of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, quantity: i32, order_id: Uuid, deducted_at: Time,
    }
    LowStockAlert of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, current_stock: i32, threshold: i32,
        triggered_at: Time,
    }
    OutOfStock of Inventory(inventory_id) {
        inventory_id: Uuid, product_id: Uuid, triggered_at: Time,
    }

    CategoryCreated of Category(category_id) {
        category_id: Uuid, name: String, parent_category_id: Option<Uuid>, depth: i32,
        created_at: Time,
    }

    PaymentAuthorized of Payment(payment_id) {
        payment_id: Uuid, order_id: Uuid, amount: Money, authorization_id: String,
        payment_method: String, authorized_at: Time,
    }
    PaymentRefunded of Payment(payment_id) {
        payment_id: Uuid, order_id: Uuid, refund_amount: Money, refund_id: String,
        refunded_at: Time,
    }, beside { customer_id: Uuid }
}

impl DomainEvent {
    /// The fields of the catalogue; an absent optional one is null.
    pub fn payload(&self) -> Value {
        serde_json::to_value(self).expect("ids, texts, amounts and times are valid JSON")
    }
}

/// The aggregates, whose rows number their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// An account.
    Customer,
    /// A cart, of a customer or a guest.
    Cart,
    /// An order.
    Order,
    /// A product with its variants.
    Product,
    /// The stock of a product or of one of its variants.
    Inventory,
    /// A category of products.
    Category,
    /// A payment of an order.
    Payment,
}

impl Aggregate {
    /// The name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "Customer",
            Self::Cart => "Cart",
            Self::Order => "Order",
            Self::Product => "Product",
            Self::Inventory => "Inventory",
            Self::Category => "Category",
            Self::Payment => "Payment",
        }
    }
}

/// One line of an order, as events and answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineItem {
    /// The product.
    pub product_id: Uuid,
    /// Its variant; null where it has none.
    pub variant_id: Option<Uuid>,
    /// The product's name when it was ordered.
    pub name: String,
    /// How many.
    pub quantity: i32,
    /// The price of one.
    pub unit_price: Money,
    /// The price of all.
    pub line_total: Money,
}

/// One item that a guest cart gave to a customer's cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MergedItem {
    /// The product.
    pub product_id: Uuid,
    /// Its variant; null where it has none.
    pub variant_id: Option<Uuid>,
    /// How many lie in the customer's cart now.
    pub quantity: i32,
    /// Whether stock allowed fewer than both carts held.
    pub capped: bool,
}

/// A field's value before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Before.
    pub old: Value,
    /// After.
    pub new: Value,
}
