//! Reactions: each domain event with the consequences for each consumer that the catalogue names.
//!
//! The compiler asks for a line when an event is added. Everything here is written in the event's own transaction ([`crate::shop::Context::record`]):
//! a bounded number of rows, a message for partners, or a saga where there may be much to do. The consumers of the catalogue are parts of this one
//! program, so most of them have been served by the transaction already; the line says by what.
//!
//! The event's own row is what the audit and the operators' pages read, whatever else follows.

use chrono::{DateTime, Utc};
use stepwise_engine::Start;
use uuid::Uuid;

use crate::{
    events::DomainEvent,
    integration::Notification as Message,
    sagas::{
        cart_expiry::{self, CartExpiry},
        register_customer::{self, RegisterCustomer},
        remove_product_from_carts::RemoveProductFromCarts,
        reservation_expiry::{self, ReservationExpiry},
        stock_alert::{self, Alert, Crossing, StockAlert},
    },
    shop::reaction::{
        Consumer::{self, *},
        Reaction::{self, Nothing, Tell},
    },
};

/// The consequences of the event, consumer by consumer.
#[must_use]
pub fn of_event(event: &DomainEvent) -> Vec<(Consumer, Reaction)> {
    use DomainEvent as E;
    match event {
        E::CustomerRegistered { customer_id, email, first_name, .. } => {
            let registered = Message::CustomerRegistered {
                customer_id: *customer_id,
                email: email.clone(),
                first_name: first_name.clone(),
            };
            let input = register_customer::Input::Registered(*customer_id);
            let start = Start::new(customer_id.to_string(), input);
            vec![(Email, Tell(registered)), (Email, Reaction::start::<RegisterCustomer>(start))]
        }
        E::CustomerEmailVerified { .. } => vec![(Customer, Nothing("the customer's row has it"))],
        E::ShippingAddressAdded { .. } => vec![(Customer, Nothing("the address is saved"))],
        E::CustomerDataErased { anonymized_id, erased_at, customer_id } => {
            let erased = Message::CustomerErased {
                customer_id: *customer_id,
                anonymized_id: *anonymized_id,
                erased_at: *erased_at,
            };
            vec![(Audit, Tell(erased))]
        }

        E::ItemAddedToCart { cart_id, unwatched_for: Some(after), .. }
        | E::CartMerged { cart_id, unwatched_for: Some(after), .. } => {
            let start = cart_expiry::start(*cart_id, *after);
            vec![(Cart, Reaction::start::<CartExpiry>(start))]
        }
        E::ItemAddedToCart { .. }
        | E::CartItemQuantityUpdated { .. }
        | E::ItemRemovedFromCart { .. }
        | E::CartCleared { .. }
        | E::CartMerged { .. } => vec![(Cart, Nothing("totals are made when the cart is read"))],
        E::CartExpired { .. } => {
            vec![(Notification, Nothing("the catalogue has no message of it"))]
        }

        E::OrderPlaced {
            order_id, order_number, customer_id, total_amount, line_items, ..
        } => {
            let placed = Message::OrderPlaced {
                order_id: *order_id,
                order_number: order_number.clone(),
                customer_id: *customer_id,
                total_amount: *total_amount,
                item_count: line_items.iter().map(|line| line.quantity).sum(),
            };
            vec![
                (Inventory, Nothing("the stock was reserved when the placement began")),
                (Email, Tell(placed)),
                (Payment, Nothing("the payment was authorized before")),
            ]
        }
        E::OrderConfirmed { .. } => vec![(Order, Nothing("the order's row has it"))],
        E::OrderShipped {
            order_id, order_number, tracking_number, carrier, customer_id, ..
        } => {
            let shipped = Message::OrderShipped {
                order_id: *order_id,
                order_number: order_number.clone(),
                customer_id: *customer_id,
                tracking_number: tracking_number.clone(),
                carrier: carrier.clone(),
            };
            vec![
                (Email, Tell(shipped)),
                (Inventory, Nothing("the stock is deducted by the same transaction")),
            ]
        }
        E::OrderDelivered { .. } => vec![(Email, Nothing("the catalogue has no message of it"))],
        E::OrderCancelled {
            order_id, order_number, customer_id, reason, refund_amount, ..
        } => {
            let cancelled = Message::OrderCancelled {
                order_id: *order_id,
                order_number: order_number.clone(),
                customer_id: *customer_id,
                reason: reason.clone(),
                refund_amount: *refund_amount,
            };
            vec![
                (Inventory, Nothing("the stock is released by the same transaction")),
                (Payment, Nothing("the saga that cancels gives the money back")),
                (Email, Tell(cancelled)),
            ]
        }

        E::ProductCreated { .. } => vec![
            (Inventory, Nothing("the product has an empty inventory from the start")),
            (Catalog, Nothing("the product's row is the catalogue")),
        ],
        // The product may have been sold without a variant until now.
        E::ProductUpdated { product_id, changed_fields, updated_at, .. }
            if changed_fields.contains_key("variants") =>
        {
            vec![
                (Cart, out_of_carts(*product_id, *updated_at)),
                (Catalog, Nothing("the product's row is the catalogue")),
            ]
        }
        E::ProductUpdated { .. } => vec![
            (Cart, Nothing("carts show the prices of the moment")),
            (Catalog, Nothing("the product's row is the catalogue")),
        ],
        E::ProductDeleted { product_id, deleted_at, .. } => vec![
            (Cart, out_of_carts(*product_id, *deleted_at)),
            (Inventory, Nothing("its stock stays as it was counted")),
        ],
        E::ProductActivated { .. } => {
            vec![(Catalog, Nothing("the product's row is the catalogue"))]
        }
        E::ProductDeactivated { product_id, deactivated_at } => vec![
            (Cart, out_of_carts(*product_id, *deactivated_at)),
            (Catalog, Nothing("the product's row is the catalogue")),
        ],

        E::InventoryQuantitySet { .. }
        | E::InventoryAdjusted { .. }
        | E::InventoryDeducted { .. } => {
            vec![(Inventory, Nothing("the stock's row and its audit have it"))]
        }
        E::InventoryReserved { order_id, inventory_id, held_for: Some(lifetime), .. } => {
            let start = reservation_expiry::start(*order_id, *inventory_id, *lifetime);
            vec![(Order, Reaction::start::<ReservationExpiry>(start))]
        }
        E::InventoryReserved { .. } | E::InventoryReleased { .. } => {
            vec![(Order, Nothing("the transaction that changes the order changes the stock"))]
        }
        E::LowStockAlert { inventory_id, product_id, current_stock, threshold, .. } => {
            let crossing = Crossing::Low { available: *current_stock, threshold: *threshold };
            vec![
                (Notification, crossed(*product_id, *inventory_id, crossing)),
                (Admin, Nothing("the stock and its audit show it")),
            ]
        }
        E::OutOfStock { inventory_id, product_id, .. } => vec![
            (Cart, Nothing("carts show how many can be had")),
            (Catalog, Nothing("the catalogue shows how many can be had")),
            (Notification, crossed(*product_id, *inventory_id, Crossing::Out)),
        ],

        E::CategoryCreated { .. } => {
            vec![(Catalog, Nothing("the category's row is the catalogue"))]
        }

        E::PaymentAuthorized { .. } => {
            vec![(Order, Nothing("the same transaction makes the order pending"))]
        }
        E::PaymentRefunded { order_id, customer_id, refund_amount, refund_id, .. } => {
            let refunded = Message::RefundProcessed {
                order_id: *order_id,
                customer_id: *customer_id,
                refund_amount: *refund_amount,
                refund_id: refund_id.clone(),
            };
            vec![(Order, Nothing("the order shows its payment")), (Email, Tell(refunded))]
        }
    }
}

/// Takes the product out of all carts in which it cannot be ordered any more. It may be taken off sale again while an earlier removal is still running.
fn out_of_carts(product_id: Uuid, at: DateTime<Utc>) -> Reaction {
    let start = Start::new(product_id.to_string(), product_id).key(at.to_rfc3339());
    Reaction::start::<RemoveProductFromCarts>(start)
}

/// Tells partners that a stock has crossed its threshold, or is used up.
fn crossed(product: Uuid, inventory: Uuid, crossing: Crossing) -> Reaction {
    Reaction::start::<StockAlert>(stock_alert::start(Alert { product, inventory, crossing }))
}

#[cfg(test)]
mod tests;
