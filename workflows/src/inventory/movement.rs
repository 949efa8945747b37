//! One change of one stock: what it does to the numbers and which events tell of it.

use std::time::Duration;

use uuid::Uuid;

use super::{Stock, Time};
use crate::events::{DomainEvent, Told, tell};

/// A change of a locked stock, ready to be written.
#[derive(Debug, Clone)]
pub struct Movement {
    /// The stock as it was read under its lock.
    pub before: Stock,
    /// The kind of change.
    pub kind: MovementKind,
    /// The actor.
    pub actor: Uuid,
    /// Why.
    pub reason: String,
    /// For which order, if for one.
    pub order_id: Option<Uuid>,
}

/// The kinds of change to a stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovementKind {
    /// `on_hand` becomes this.
    Set(i32),
    /// `on_hand` changes by this.
    Adjust(i32),
    /// An order's placement reserves so many.
    ReserveForPlacement(i32),
    /// An order that ends releases so many: all that its placement and people have reserved for it.
    ReleaseFromOrder(i32),
    /// An order is shipped.
    DeductForShipment {
        /// How many it takes, which its placement had reserved.
        quantity: i32,
        /// How many it releases, which people had reserved for it.
        by_hand: i32,
    },
    /// A person reserves so many, for so long; the caller writes the reservation.
    ReserveByHand(i32, Duration),
    /// This number, which a person had reserved, is released; the caller writes the reservations.
    ReleaseByHand(i32),
}

impl Movement {
    /// The quantities on hand and reserved afterwards.
    pub fn after(&self) -> (i32, i32) {
        let Stock { on_hand, reserved, .. } = self.before;
        match self.kind {
            MovementKind::Set(quantity) => (quantity, reserved),
            MovementKind::Adjust(delta) => (on_hand.saturating_add(delta), reserved),
            MovementKind::ReserveForPlacement(quantity)
            | MovementKind::ReserveByHand(quantity, _) => {
                (on_hand, reserved.saturating_add(quantity))
            }
            MovementKind::ReleaseFromOrder(quantity) | MovementKind::ReleaseByHand(quantity) => {
                (on_hand, reserved - quantity)
            }
            MovementKind::DeductForShipment { quantity, by_hand } => {
                (on_hand - quantity, reserved - quantity - by_hand)
            }
        }
    }

    /// The stock as it is after this change, for the next change of it in the same transaction.
    pub fn leaves(&self, now: Time) -> Stock {
        let (on_hand, reserved) = self.after();
        let event_count = self.before.event_count + self.events(now).count();
        Stock { on_hand, reserved, event_count, ..self.before.clone() }
    }

    /// How many the placement of the order reserves. Below 0: the order holds nothing of this stock any more.
    pub(super) fn held(&self) -> i32 {
        match self.kind {
            MovementKind::ReserveForPlacement(quantity) => quantity,
            MovementKind::ReleaseFromOrder(_) | MovementKind::DeductForShipment { .. } => -1,
            _ => 0,
        }
    }

    /// The word for the audit.
    pub(super) fn word(&self) -> &'static str {
        match self.kind {
            MovementKind::Set(_) => "set",
            MovementKind::Adjust(_) => "adjusted",
            MovementKind::ReserveForPlacement(_) | MovementKind::ReserveByHand(..) => "reserved",
            MovementKind::ReleaseFromOrder(_) | MovementKind::ReleaseByHand(_) => "released",
            MovementKind::DeductForShipment { .. } => "deducted",
        }
    }

    /// The events: the change itself, then the alerts that it causes.
    pub fn events(&self, now: Time) -> Told {
        let Stock { inventory_id, product_id, low_stock_threshold: threshold, .. } = self.before;
        let (on_hand, reserved) = self.after();
        let (was, is) = (self.before.available(), on_hand - reserved);
        let mut events = vec![self.event(now)];
        if let MovementKind::DeductForShipment { by_hand: quantity @ 1.., .. } = self.kind {
            let reason = self.reason.clone();
            let released_at = now;
            events.push(DomainEvent::InventoryReleased {
                inventory_id,
                product_id,
                quantity,
                reason,
                released_at,
            });
        }
        if was >= threshold && is < threshold {
            events.push(DomainEvent::LowStockAlert {
                inventory_id,
                product_id,
                current_stock: is,
                threshold,
                triggered_at: now,
            });
        }
        if was > 0 && is == 0 {
            events.push(DomainEvent::OutOfStock { inventory_id, product_id, triggered_at: now });
        }
        tell(events)
    }

    fn event(&self, now: Time) -> DomainEvent {
        let Stock { inventory_id, product_id, on_hand, .. } = self.before;
        let (reason, user_id) = (self.reason.clone(), self.actor);
        match self.kind {
            MovementKind::Set(quantity) => DomainEvent::InventoryQuantitySet {
                inventory_id,
                product_id,
                previous_value: on_hand,
                new_value: quantity,
                reason,
                user_id,
                timestamp: now,
            },
            MovementKind::Adjust(adjustment) => DomainEvent::InventoryAdjusted {
                inventory_id,
                product_id,
                adjustment,
                new_value: self.after().0,
                reason,
                user_id,
                timestamp: now,
            },
            MovementKind::ReserveForPlacement(quantity) => self.reserved(now, quantity, None),
            MovementKind::ReserveByHand(quantity, lifetime) => {
                self.reserved(now, quantity, Some(lifetime))
            }
            MovementKind::ReleaseFromOrder(quantity) | MovementKind::ReleaseByHand(quantity) => {
                DomainEvent::InventoryReleased {
                    inventory_id,
                    product_id,
                    quantity,
                    reason,
                    released_at: now,
                }
            }
            MovementKind::DeductForShipment { quantity, .. } => DomainEvent::InventoryDeducted {
                inventory_id,
                product_id,
                quantity,
                order_id: self.order_id.expect("stock is deducted for an order"),
                deducted_at: now,
            },
        }
    }

    fn reserved(&self, now: Time, quantity: i32, held_for: Option<Duration>) -> DomainEvent {
        let Stock { inventory_id, product_id, .. } = self.before;
        DomainEvent::InventoryReserved {
            inventory_id,
            product_id,
            quantity,
            order_id: self.order_id.expect("stock is reserved for an order"),
            reserved_at: now,
            held_for,
        }
    }
}
