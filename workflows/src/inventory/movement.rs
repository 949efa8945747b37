//! One change of one stock: what it does to the numbers and which events tell of it.

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
    /// An order's placement releases so many.
    ReleaseFromPlacement(i32),
    /// An order that is shipped takes so many, which its placement had reserved.
    DeductForShipment(i32),
    /// A person reserves so many; the caller writes the reservation.
    ReserveByHand(i32),
    /// A person releases so many; the caller writes the reservations.
    ReleaseByHand(i32),
}

impl Movement {
    /// The quantities on hand and reserved afterwards.
    pub fn after(&self) -> (i32, i32) {
        let Stock { on_hand, reserved, .. } = self.before;
        match self.kind {
            MovementKind::Set(quantity) => (quantity, reserved),
            MovementKind::Adjust(delta) => (on_hand.saturating_add(delta), reserved),
            MovementKind::ReserveForPlacement(quantity) | MovementKind::ReserveByHand(quantity) => {
                (on_hand, reserved.saturating_add(quantity))
            }
            MovementKind::ReleaseFromPlacement(quantity)
            | MovementKind::ReleaseByHand(quantity) => (on_hand, reserved - quantity),
            MovementKind::DeductForShipment(quantity) => (on_hand - quantity, reserved - quantity),
        }
    }

    /// How many more, or fewer, the placement of the order reserves.
    pub(super) fn held(&self) -> i32 {
        match self.kind {
            MovementKind::ReserveForPlacement(quantity) => quantity,
            MovementKind::ReleaseFromPlacement(quantity)
            | MovementKind::DeductForShipment(quantity) => -quantity,
            _ => 0,
        }
    }

    /// The word for the audit.
    pub(super) fn word(&self) -> &'static str {
        match self.kind {
            MovementKind::Set(_) => "set",
            MovementKind::Adjust(_) => "adjusted",
            MovementKind::ReserveForPlacement(_) | MovementKind::ReserveByHand(_) => "reserved",
            MovementKind::ReleaseFromPlacement(_) | MovementKind::ReleaseByHand(_) => "released",
            MovementKind::DeductForShipment(_) => "deducted",
        }
    }

    /// The events: the change itself, then the alerts that it causes.
    pub fn events(&self, now: Time) -> Told {
        let Stock { inventory_id, product_id, low_stock_threshold: threshold, .. } = self.before;
        let (on_hand, reserved) = self.after();
        let (was, is) = (self.before.available(), on_hand - reserved);
        let mut events = vec![self.event(now)];
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
            MovementKind::ReserveForPlacement(quantity) | MovementKind::ReserveByHand(quantity) => {
                DomainEvent::InventoryReserved {
                    inventory_id,
                    product_id,
                    quantity,
                    order_id: self.order_id.expect("stock is reserved for an order"),
                    reserved_at: now,
                }
            }
            MovementKind::ReleaseFromPlacement(quantity)
            | MovementKind::ReleaseByHand(quantity) => DomainEvent::InventoryReleased {
                inventory_id,
                product_id,
                quantity,
                reason,
                released_at: now,
            },
            MovementKind::DeductForShipment(quantity) => DomainEvent::InventoryDeducted {
                inventory_id,
                product_id,
                quantity,
                order_id: self.order_id.expect("stock is deducted for an order"),
                deducted_at: now,
            },
        }
    }
}
