//! Customers at Stripe, and the payment methods that are attached to them.

use reqwest::Method as Verb;
use serde::Deserialize;
use serde_json::Value;
use stepwise_workflows::payment::gateway::{
    Attachment, Creation, GatewayError, MethodToken, Reference, Trouble,
};
use uuid::Uuid;

use super::{Answer, Sent, StripeGateway};
use crate::provider::unasked;

/// A Customer.
#[derive(Debug, Deserialize)]
struct Customer {
    id: String,
}

/// A PaymentMethod.
#[derive(Debug, Deserialize)]
struct Method {
    customer: Option<String>,
}

impl StripeGateway {
    pub(super) async fn customer(&self, key: &str, ours: Uuid) -> Result<Creation, GatewayError> {
        let ours = ours.to_string();
        let form = [("metadata[customerId]", ours.as_str())];
        match self.post::<Customer>(&["v1", "customers"], key, &form).await? {
            Answer::Done(made) => Ok(Creation::Created(Reference(made.id))),
            Answer::Refused(failure) => Ok(Creation::Refused(failure.reason()?)),
        }
    }

    pub(super) async fn attach_to(
        &self,
        key: &str,
        method: &MethodToken,
        customer: &Reference,
    ) -> Result<Attachment, GatewayError> {
        let path = ["v1", "payment_methods", &method.0, "attach"];
        let failure =
            match self.post::<Value>(&path, key, &[("customer", customer.0.as_str())]).await? {
                Answer::Done(_) => return Ok(Attachment::Attached),
                Answer::Refused(failure) => failure,
            };
        let reason = failure.reason()?;
        // Attaching it a second time is refused as well.
        match self.owner(method).await.map_err(unasked)? {
            Some(owner) if owner == customer.0 => Ok(Attachment::Attached),
            _ => Ok(Attachment::Refused(reason)),
        }
    }

    /// A method that is not attached, or that Stripe does not know, is detached already.
    pub(super) async fn detach_it(
        &self,
        key: &str,
        method: &MethodToken,
    ) -> Result<(), GatewayError> {
        let path = ["v1", "payment_methods", &method.0, "detach"];
        match self.post::<Value>(&path, key, &[]).await? {
            Answer::Done(_) => Ok(()),
            Answer::Refused(failure) if failure.status == 404 => Ok(()),
            Answer::Refused(failure) => match self.owner(method).await.map_err(unasked)? {
                None => Ok(()),
                Some(_) => failure.misunderstood(),
            },
        }
    }

    /// An account that Stripe does not know is deleted already. Stripe takes no idempotency key for a deletion, which has one effect however often it is
    /// repeated.
    pub(super) async fn delete(&self, customer: &Reference) -> Result<(), GatewayError> {
        let path = ["v1", "customers", &customer.0];
        match self.send::<Value>(self.request(Verb::DELETE, &path, &[])).await? {
            Sent::Answer(Answer::Done(_)) => Ok(()),
            Sent::Answer(Answer::Refused(failure)) if failure.status == 404 => Ok(()),
            Sent::Answer(Answer::Refused(failure)) => failure.misunderstood(),
            Sent::Stored(status) => Err(GatewayError::Unknown(Trouble::ServerError(status))),
        }
    }

    async fn owner(&self, method: &MethodToken) -> Result<Option<String>, GatewayError> {
        let found = self.get::<Method>(&["v1", "payment_methods", &method.0], &[]).await?;
        Ok(found.and_then(|found| found.customer))
    }
}
