//! Integration events: what partners are told, versioned and published through the outbox.
//!
//! One declaration says all of an event: its type, which is its routing key as well, its source, its subject, the person for whom it is sealed, and its
//! payload, which is exactly the catalogue's. Its JSON schema comes from the same declaration. An event follows from a domain event
//! ([`crate::reactions`]), or a command publishes it ([`crate::shop::Context::record_and_publish`]).
//!
//! Two counters on the subject's row number the messages about a subject: all of them (`sequence`), and those of each type (`typesequence`). Both are
//! raised by the transaction that publishes, so a partner who takes some types only can tell a gap as well.

mod schema;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use self::schema::Schema;
use crate::{events::Sealed, money::Money};

/// The subject of a message, whose row counts the messages about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The order, of order and payment events.
    Order(Uuid),
    /// The customer, of customer events.
    Customer(Uuid),
    /// The product, of stock events.
    Product(Uuid),
}

impl Subject {
    /// Its id.
    #[must_use]
    pub fn id(self) -> Uuid {
        match self {
            Self::Order(id) | Self::Customer(id) | Self::Product(id) => id,
        }
    }
}

/// Declares the events: a name, type, source, subject, perhaps for whom it is sealed, and the payload. After `beside` stands what is known and not
/// part of the payload.
macro_rules! notifications {
    ($(
        $(#[$doc:meta])*
        $name:ident $kind:literal from $source:literal about $subject:ident($id:ident)
            $(sealed for $person:ident)? { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
            $(, beside { $($(#[$known_doc:meta])* $known:ident: $known_type:ty),* $(,)? })?
    )*) => {
        /// The events for partners.
        #[derive(Debug, Clone, Serialize)]
        #[serde(untagged, rename_all_fields = "camelCase")]
        pub enum Notification {
            $($(#[$doc])* $name {
                $($(#[$field_doc])* $field: $type,)*
                $($($(#[$known_doc])* #[serde(skip)] $known: $known_type,)*)?
            },)*
        }

        impl Notification {
            /// Routing key and CloudEvents type.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name { .. } => $kind,)* }
            }

            /// The CloudEvents source.
            #[must_use]
            pub fn source(&self) -> &'static str {
                match self { $(Self::$name { .. } => $source,)* }
            }

            /// The subject.
            #[must_use]
            pub fn subject(&self) -> Subject {
                match self { $(Self::$name { $id, .. } => Subject::$subject(*$id),)* }
            }

            /// The customer whose personal data it carries, sealed; `None`: it carries none.
            #[must_use]
            pub fn sealed_for(&self) -> Option<Uuid> {
                $($(if let Self::$name { $person, .. } = self {
                    return Some(*$person);
                })?)*
                None
            }

            /// The JSON schema of the data of this type; `None`: there is no such type.
            #[must_use]
            pub fn schema(kind: &str) -> Option<Value> {
                match kind {
                    $($kind => Some(schema::of_data(
                        concat!(stringify!($name), "Notification"),
                        &[$((stringify!($field), <$type as Schema>::schema)),*],
                        !concat!("" $(, stringify!($person))?).is_empty(),
                    )),)*
                    _ => None,
                }
            }

            /// The name in the catalogue and the type of every event.
            pub const ALL: &[(&str, &str)] =
                &[$((concat!(stringify!($name), "Notification"), $kind)),*];
        }
    };
}

notifications! {
    /// Somebody has opened an account. The address is not verified yet.
    CustomerRegistered "shop.customer.registered.v1" from "/stepwise/customer" about Customer(customer_id)
        sealed for customer_id {
        /// The customer.
        customer_id: Uuid,
        /// The address, sealed until publication.
        email: Sealed,
        /// The first name, sealed until publication.
        first_name: Sealed,
    }

    /// A new order is there to be processed.
    OrderPlaced "shop.order.placed.v1" from "/stepwise/order" about Order(order_id) {
        /// The order.
        order_id: Uuid,
        /// Its number for people.
        order_number: String,
        /// The customer.
        customer_id: Uuid,
        /// With shipping and tax.
        total_amount: Money,
        /// The sum of the quantities.
        item_count: i32,
    }

    /// An order is on its way.
    OrderShipped "shop.order.shipped.v1" from "/stepwise/order" about Order(order_id) {
        /// The order.
        order_id: Uuid,
        /// Its number for people.
        order_number: String,
        /// The customer.
        customer_id: Uuid,
        /// The carrier's number of the parcel.
        tracking_number: String,
        /// The carrier.
        carrier: String,
    }

    /// An order was cancelled.
    OrderCancelled "shop.order.cancelled.v1" from "/stepwise/order" about Order(order_id)
        sealed for customer_id {
        /// The order.
        order_id: Uuid,
        /// Its number for people.
        order_number: String,
        /// The customer.
        customer_id: Uuid,
        /// Why, in the words of whoever cancelled: free text, so it is sealed until publication.
        reason: Sealed,
        /// The amount that is to be given back or released.
        refund_amount: Money,
    }

    /// A payment failed, and with it the order if the order was being placed.
    PaymentFailed "shop.payment.failed.v1" from "/stepwise/payment" about Order(order_id) {
        /// The order that it was for.
        order_id: Uuid,
        /// The customer.
        customer_id: Uuid,
        /// The amount that should have been authorized.
        amount: Money,
        /// A code, such as `insufficient_funds` or `approval_expired`.
        failure_reason: String,
    }

    /// Money was given back.
    RefundProcessed "shop.payment.refund-processed.v1" from "/stepwise/payment" about Order(order_id) {
        /// The order it was paid for.
        order_id: Uuid,
        /// The customer.
        customer_id: Uuid,
        /// How much: for a void the amount released.
        refund_amount: Money,
        /// The provider's reference of the refund or the void.
        refund_id: String,
    }

    /// Fewer of a product, or of one of its variants, are available than its threshold.
    LowStock "shop.inventory.low-stock.v1" from "/stepwise/inventory" about Product(product_id) {
        /// The product.
        product_id: Uuid,
        /// Its name, and that of the variant if it is about one.
        product_name: String,
        /// How many were available after the crossing.
        current_stock: i32,
        /// The threshold.
        threshold: i32,
    }

    /// No more of a product, or of one of its variants, is available.
    OutOfStock "shop.inventory.out-of-stock.v1" from "/stepwise/inventory" about Product(product_id) {
        /// The product.
        product_id: Uuid,
        /// Its name, and that of the variant if it is about one.
        product_name: String,
    }

    /// The data of a customer was erased. Whoever got it has to erase it as well (Art. 19 GDPR).
    CustomerErased "shop.customer.erased.v1" from "/stepwise/customer" about Customer(customer_id) {
        /// The id that stands for the customer in orders from now on.
        anonymized_id: Uuid,
        /// When it was erased.
        erased_at: DateTime<Utc>,
    }, beside {
        /// The customer.
        customer_id: Uuid,
    }
}

impl Notification {
    /// The payload, exactly the catalogue's fields.
    #[must_use]
    pub fn payload(&self) -> Value {
        serde_json::to_value(self).expect("ids, texts and amounts are valid JSON")
    }
}

#[cfg(test)]
mod tests;
