//! One change of one stock: what it does to the numbers and which events tell of it.

use uuid::Uuid;

use super::{Stock, Time};
use crate::events::{DomainEvent, Numbered};

/// A change of a locked stock, ready to be written.
#[derive(Debug, Clone)]
pub struct Movement {
    /// The stock as it was read under its lock.
    pub before: Stock,
    /// What is done to it.
    pub kind: MovementKind,
    /// Who did it.
    pub actor: Uuid,
    /// Why.
    pub reason: String,
    /// For which order, if for one.
    pub order_id: Option<Uuid>,
}

/// What is done to a stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovementKind {
    /// `on_hand` becomes this.
    Set(i32),
    /// `on_hand` changes by this.
    Adjust(i32),
    /// So many are promised; the order's placement holds them.
    ReserveForPlacement(i32),
    /// So many are given back by the order's placement.
    ReleaseFromPlacement(i32),
    /// So many are promised by hand; the caller writes the reservation.
    ReserveByHand(i32),
    /// So many are given back by hand; the caller writes the reservations.
    ReleaseByHand(i32),
}

impl Movement {
    /// What is on hand and reserved afterwards.
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
        }
    }

    /// What the placement of the order holds more, or less.
    pub(super) fn held(&self) -> i32 {
        match self.kind {
            MovementKind::ReserveForPlacement(quantity) => quantity,
            MovementKind::ReleaseFromPlacement(quantity) => -quantity,
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
        }
    }

    /// What has happened, numbered: the change itself, then the alerts it causes.
    pub fn events(&self, now: Time) -> Vec<Numbered> {
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
        (self.before.event_count + 1..).zip(events).map(|(n, event)| event.at(n)).collect()
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
        }
    }
}
