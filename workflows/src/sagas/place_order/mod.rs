//! Placing an order: stock is reserved, the payment is authorized, the order is placed.
//!
//! The command reserves the stock in its own transaction, which also starts the saga ([`place_order`]). Then:
//! 1. `Create` opens an authorization at the gateway. It moves no money. The next commit stores its reference.
//! 2. `Confirm` reserves the money under that reference. For 3-D Secure the customer must approve first; `Ask` finds out
//!    whether they have, when the gateway reports a change and once more when the time is over, because an event of the gateway may be lost.
//! 3. `PlaceOrder` makes the order `pending`. It is the pivot. It runs under the lock of the order's row, where a cancellation is decided too, so
//!    exactly one of them wins.
//!
//! Authorizing is two calls because the fence in our database does not stop a request that is on its way to the gateway. Cancelling the
//! authorization does: a confirm that arrives later fails. So both undos cancel it, and the stock is released after them.
//!
//! This file says what happens. The states and events are in `placement.rs`. How each step is done is in `steps.rs`, and how the
//! gateway is called and what its answers mean in `sagas::authorizing`. Nothing personal is stored.

mod command;
mod operation;
mod placement;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use stepwise_engine::{Next, Part, Saga, Unexpected, UpcastError, signals, steps, to, unwind};
use uuid::Uuid;

use super::authorizing::closing;
pub use super::authorizing::{APPROVAL, Patience};
pub use command::{PlaceOrderError, Placed, place_order, place_together};
pub use placement::{Event, Placement, Reason, State};

use crate::payment::{
    PaymentFailure,
    gateway::{Reason as GatewayReason, Reference},
};

steps! {
    /// The steps, and what takes each of them back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by PlaceOrderSteps -> Event, undone for Reason {
        /// Open an authorization. It moves no money, and repeating it under its key is harmless. The undo closes the authorization.
        Create(placement: Placement) => call(create, placement.patience.opening()).repeatable().undo_call(cancel, closing()),
        /// Reserve the money. The undo releases it, by closing the authorization.
        Confirm(placement: Placement, reference: Reference)
            => call(confirm, placement.patience.reserving(placement.amount)).probe(find).undo_call(void, closing()),
        /// Ask whether the customer has approved. The undo of Confirm also takes back what the customer did.
        Ask(placement: Placement, reference: Reference) => call(ask, placement.patience.asking()).repeatable().no_undo(),
        /// Make the order `pending`, together with the other orders that are paid at the moment.
        PlaceOrder {
            /// The order.
            order: Uuid,
            /// The gateway's reference of the authorization.
            reference: Reference,
            /// The key under which `Confirm` reserved the money.
            key: String,
        } => tx_together(place).pivot(),
    }
    /// The step that the command has done in the transaction that starts the saga, and two undos that rows of version 1 still hold.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The cart's stock is reserved and the order written.
        ReserveStock(order: Uuid) => undo_tx(release_stock),
        /// The undo of Create as version 1 recorded it. It can go when [`stepwise_engine::Gate`] finds no instance of version 1 any more.
        Cancel(order: Uuid) => undo_call(cancel_of_version_1, closing()),
        /// The undo of Confirm as version 1 recorded it. It can go with that of Create.
        Void(order: Uuid, reference: Reference) => undo_call(void_of_version_1, closing()),
    }
}

signals! {
    /// The signals, and what happens to one that comes before the saga waits for it.
    pub enum Signal as Event {
        /// The gateway says (webhook) that the authorization has changed. It may come before the answer that makes the saga wait for it.
        GatewayReported => keep,
        /// The customer cancels. Every state before the end takes it, also while a call is in flight.
        CancelRequested => refuse,
    }
}

/// The saga that places an order.
pub struct PlaceOrder;

impl Saga for PlaceOrder {
    const NAME: &'static str = "place-order";
    const VERSION: u16 = 2;
    type Input = Placement;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(placement: Placement) -> Next<Self> {
        to(State::Creating(placement.clone()))
            .caller_did(CallerStep::ReserveStock(placement.order))
            .run(Step::Create(placement))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Creating(placement), E::Created(reference)) => {
                to(S::Confirming(placement.clone(), reference.clone()))
                    .run(Step::Confirm(placement, reference))
            }
            (
                S::Confirming(placement, reference) | S::Expiring(placement, reference),
                E::Confirmed(key),
            ) => {
                let order = placement.order;
                to(S::Placing(placement, reference.clone())).run(Step::PlaceOrder {
                    order,
                    reference,
                    key,
                })
            }
            (S::Confirming(placement, reference), E::ApprovalRequired { url, expires_at }) => {
                to(S::AwaitingApproval { placement, reference, url, expires_at })
                    .or_after(APPROVAL, E::ApprovalExpired)
            }
            (S::AwaitingApproval { placement, reference, .. }, E::GatewayReported) => {
                to(S::Confirming(placement.clone(), reference.clone()))
                    .run(Step::Ask(placement, reference))
            }
            (S::Placing(placement, _), E::OrderPlaced) => to(S::Placed(placement.order)).done(),
            (S::AwaitingApproval { placement, reference, .. }, E::ApprovalExpired) => {
                to(S::Expiring(placement.clone(), reference.clone()))
                    .run(Step::Ask(placement, reference))
            }
            (S::Creating(_) | S::Confirming(..) | S::Expiring(..), E::Refused(why)) => {
                unwind(Reason::PaymentFailed(why))
            }
            (S::Confirming(..) | S::Expiring(..), E::Voided) => unwind(Reason::PaymentFailed(
                PaymentFailure::Declined(GatewayReason::new("voided")),
            )),
            (S::Expiring(..), E::ApprovalRequired { .. }) => {
                unwind(Reason::PaymentFailed(PaymentFailure::ApprovalExpired))
            }
            (
                S::Creating(_)
                | S::Confirming(..)
                | S::AwaitingApproval { .. }
                | S::Expiring(..)
                | S::Placing(..),
                E::CancelRequested,
            ) => unwind(Reason::Cancelled),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// Version 1 named an undo, `ReleaseStock`, and not the step that it takes back. Its other data can be read as it is.
    fn upcast(_: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        Ok(match (part, json.get("ReleaseStock")) {
            (Part::CallerStep, Some(order)) => json!({ "ReserveStock": order }),
            _ => json,
        })
    }
}
