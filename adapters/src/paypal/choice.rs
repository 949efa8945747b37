//! The gateway that the shop calls: it passes each call to the provider whose payment it is.

use std::sync::Arc;

use async_trait::async_trait;
use stepwise_workflows::money::Money;
use stepwise_workflows::payment::gateway::{
    Attachment, Authorization, Cancellation, Capture, Charge, Confirmation, Creation, GatewayError,
    MadeRefund, MethodToken, PaymentGateway, Reference, Refund, Trouble,
};
use uuid::Uuid;

use super::PREFIX;

/// The payment providers of the shop. The method's token chooses the provider of a new payment, and its reference tells it afterwards:
/// PayPal's begin with `paypal:`.
#[derive(Clone)]
pub struct Providers {
    cards: Arc<dyn PaymentGateway>,
    paypal: Option<Arc<dyn PaymentGateway>>,
}

impl Providers {
    /// Passes the payments of PayPal to `paypal`, and all others to `cards`. Without `paypal` a call about a payment of PayPal is surely not done, and is
    /// tried again, because another process may have been told where PayPal is.
    pub fn new(cards: Arc<dyn PaymentGateway>, paypal: Option<Arc<dyn PaymentGateway>>) -> Self {
        Self { cards, paypal }
    }

    /// The provider of a token or a reference.
    fn of(&self, id: &str) -> Result<&dyn PaymentGateway, GatewayError> {
        match &self.paypal {
            _ if !id.starts_with(PREFIX) => Ok(&*self.cards),
            Some(paypal) => Ok(&**paypal),
            None => Err(GatewayError::NotDone(Trouble::Unreachable)),
        }
    }
}

#[async_trait]
impl PaymentGateway for Providers {
    async fn create(&self, key: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        self.of(&charge.method.0)?.create(key, charge).await
    }

    async fn confirm(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Confirmation, GatewayError> {
        self.of(&reference.0)?.confirm(key, reference).await
    }

    async fn find(&self, reference: &Reference) -> Result<Option<Authorization>, GatewayError> {
        self.of(&reference.0)?.find(reference).await
    }

    /// Asks the provider of cards alone: PayPal never has an authorization whose reference the shop does not know.
    async fn find_by_key(
        &self,
        order_id: Uuid,
        key: &str,
    ) -> Result<Option<Authorization>, GatewayError> {
        self.cards.find_by_key(order_id, key).await
    }

    async fn cancel(&self, key: &str, reference: &Reference) -> Result<Cancellation, GatewayError> {
        self.of(&reference.0)?.cancel(key, reference).await
    }

    async fn find_void(&self, reference: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        self.of(&reference.0)?.find_void(reference).await
    }

    async fn capture(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Capture, GatewayError> {
        self.of(&reference.0)?.capture(key, reference, amount).await
    }

    async fn refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        self.of(&reference.0)?.refund(key, reference, amount).await
    }

    async fn find_refund(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Option<Refund>, GatewayError> {
        self.of(&reference.0)?.find_refund(key, reference).await
    }

    /// Only cards are attached to accounts.
    async fn open_customer(&self, key: &str, customer_id: Uuid) -> Result<Creation, GatewayError> {
        self.cards.open_customer(key, customer_id).await
    }

    async fn attach(
        &self,
        key: &str,
        method: &MethodToken,
        customer: &Reference,
    ) -> Result<Attachment, GatewayError> {
        self.of(&method.0)?.attach(key, method, customer).await
    }

    /// A payment at PayPal pays one order, so nothing is attached there.
    async fn detach(&self, key: &str, method: &MethodToken) -> Result<(), GatewayError> {
        if method.0.starts_with(PREFIX) { Ok(()) } else { self.cards.detach(key, method).await }
    }

    /// Only cards have accounts.
    async fn delete_customer(&self, customer: &Reference) -> Result<(), GatewayError> {
        self.cards.delete_customer(customer).await
    }

    async fn refunds(&self, reference: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        self.of(&reference.0)?.refunds(reference).await
    }
}
