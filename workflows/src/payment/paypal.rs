//! The port to PayPal's approvals: a customer approves a payment at PayPal before the order is placed.
//!
//! An approval moves no money. The order that is paid with it authorizes, captures and gives back money through
//! [`PaymentGateway`](super::gateway::PaymentGateway), like every other order: the approval's reference, `paypal:` and PayPal's id of its
//! order, is the method's token there and the authorization's reference as well.

use async_trait::async_trait;

use super::gateway::{Approval, ApprovalStatus, GatewayError, Reason, Reference};
use crate::money::Money;

/// Approvals at PayPal: a customer approves a payment at PayPal's page before the order is placed.
#[async_trait]
pub trait PayPalApprovals: Send + Sync {
    /// Opens a PayPal order for `request.amount` that the customer is to approve. Moves no money; harmless to repeat under the same key.
    async fn open(&self, key: &str, request: &ApprovalRequest) -> Result<Opening, GatewayError>;

    /// The status of an approval. `None`: PayPal does not know it. Changes nothing.
    async fn find(&self, reference: &Reference) -> Result<Option<ApprovalStatus>, GatewayError>;
}

/// The payment that the customer is to approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// How much.
    pub amount: Money,
    /// The address to which PayPal sends the customer after an approval.
    pub return_url: String,
    /// The address to which PayPal sends the customer who does not approve.
    pub cancel_url: String,
}

/// Answer to [`PayPalApprovals::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Opened: the customer is to approve it at this address.
    Opened {
        /// Names the approval, and later the authorization: `paypal:` and PayPal's id of its order.
        reference: Reference,
        /// Where to send the customer.
        approval: Approval,
    },
    /// Will not be opened, now or ever (the currency is not taken, the amount is out of range).
    Refused(Reason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_can_be_held_as_an_object() {
        fn _takes(_: std::sync::Arc<dyn PayPalApprovals>) {}
    }
}
