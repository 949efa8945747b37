//! Payments with PayPal: Orders v2 with intent `AUTHORIZE`, and Payments v2.
//!
//! A customer approves a PayPal order at PayPal's page ([`PayPalApprovals`]). The shop's order that is paid with it then uses the
//! same port as a card ([`PaymentGateway`]): [`create`](PaymentGateway::create) writes the shop's order id into the PayPal order,
//! `confirm` authorizes it, and voids, captures and refunds follow under the authorization that this made. PayPal's ids of
//! authorization, capture and refunds are read from the PayPal order each time, so its id is the only reference that the shop keeps:
//! `paypal:` and the id. The method's token is the same text.
//!
//! An order that is approved and not authorized cannot be voided at PayPal. [`cancel`](PaymentGateway::cancel) therefore first changes
//! its intent to `CAPTURE`, after which PayPal refuses to authorize it: no late confirm can reserve money. Then it voids the
//! authorization if there is one.
//!
//! Failures are classified as those of the Stripe client are ([`crate::gateway`]), and nothing is repeated except a request that
//! PayPal refuses with 401, once, with a new access token. Every write carries a `PayPal-Request-Id` that is made from the engine's key.
//! PayPal remembers it for 6 hours (orders) or 45 days (payments). A refund also carries it as `custom_id`, and is looked for by
//! that before it is made. Every other write is done once by the status of the order.
//!
//! A call may send four requests, and PayPal may be slow to answer each of them. The breaker ends a call of the gateway's port after
//! the time that the port allows; an approval, which no breaker protects, ends here.
//!
//! Deliberately absent: everything else that PayPal can do, such as reauthorizing after the honor period of three days. That one
//! approval pays for one order is checked here, but two calls at the same moment pass the check: the caller spends the method once.
//!
//! Written after PayPal's public documentation: <https://developer.paypal.com/docs/api/orders/v2/>,
//! <https://developer.paypal.com/docs/api/payments/v2/>, <https://developer.paypal.com/api/rest/reference/idempotency/> and
//! <https://developer.paypal.com/api/rest/webhooks/event-names/>.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use stepwise_workflows::money::Money;
use stepwise_workflows::payment::gateway::{
    Approval, ApprovalStatus, Attachment, Authorization, AuthorizationStatus, Cancellation,
    Capture, Charge, Confirmation, Creation, GatewayError, MadeRefund, MethodToken, PaymentGateway,
    Reason, Reference, Refund, Trouble,
};
use stepwise_workflows::payment::paypal::{ApprovalRequest, Opening, PayPalApprovals};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::choice::Providers;
pub use self::client::PayPalConfig;
pub(crate) use self::client::REQUEST_ID;
use self::client::{Answer, Client, request_id};
use self::wire::{CaptureObject, Failure, Order, RefundObject};
use crate::provider::{GARBLED, in_time, unasked};

mod choice;
mod client;
pub mod webhook;
mod wire;

#[cfg(test)]
mod tests;

/// The beginning of every reference and method's token that is PayPal's.
pub const PREFIX: &str = "paypal:";

/// The name of the only purchase unit of an order. PayPal gives it this name if the request gives none.
const UNIT: &str = "default";

/// The client. Clones share its connections and its access token.
#[derive(Debug, Clone)]
pub struct PayPal {
    client: Client,
    /// One permit for each event that is being verified.
    questions: Arc<Semaphore>,
}

impl PayPal {
    /// Creates the client. Does not connect yet.
    pub fn new(config: PayPalConfig) -> Result<Self, reqwest::Error> {
        Ok(Self { client: Client::new(config)?, questions: webhook::questions() })
    }

    async fn order(&self, reference: &Reference) -> Result<Option<Order>, GatewayError> {
        match order_id(reference) {
            Some(id) => self.client.get(&["v2", "checkout", "orders", id]).await,
            None => Ok(None),
        }
    }

    /// Changes one attribute of the order. Refused by PayPal once the order is authorized.
    async fn patch(
        &self,
        key: &str,
        id: &str,
        op: &str,
        path: &str,
        value: &str,
    ) -> Result<Answer, GatewayError> {
        let body = json!([{ "op": op, "path": path, "value": value }]);
        self.client.patch(&["v2", "checkout", "orders", id], key, &body).await
    }

    /// Reads the order before anything is done to it.
    async fn before(&self, reference: &Reference) -> Result<Option<Order>, GatewayError> {
        self.order(reference).await.map_err(unasked)
    }

    /// The answer to a confirm that PayPal has refused: the status of the order if the refusal is about that.
    async fn not_authorized(
        &self,
        failure: &Failure,
        reference: &Reference,
    ) -> Result<Confirmation, GatewayError> {
        let why = failure.reason()?;
        let order = match failure.is_about_status() {
            true => self.order(reference).await?,
            false => None,
        };
        match order {
            Some(order) => confirmation(order.status().ok_or(GARBLED)?, reference),
            None => Ok(Confirmation::Declined(why)),
        }
    }

    async fn post_refund(
        &self,
        key: &str,
        capture: &CaptureObject,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        let body = json!({ "amount": wire::amount(amount), "custom_id": request_id(key) });
        let path = ["v2", "payments", "captures", &capture.id, "refund"];
        match self.client.post(&path, Some(key), &body).await? {
            Answer::Done(made) => made.json::<RefundObject>()?.into_refund().ok_or(GARBLED),
            Answer::Refused(failure) => Ok(Refund::Refused(failure.reason()?)),
        }
    }
}

/// PayPal's id of the order. `None` if the reference is not one of PayPal.
fn order_id(reference: &Reference) -> Option<&str> {
    reference.0.strip_prefix(PREFIX).filter(|id| !id.is_empty())
}

fn confirmation(
    status: AuthorizationStatus,
    reference: &Reference,
) -> Result<Confirmation, GatewayError> {
    match status {
        AuthorizationStatus::Authorized | AuthorizationStatus::Captured { .. } => {
            Ok(Confirmation::Confirmed(reference.clone()))
        }
        AuthorizationStatus::Declined(reason) => Ok(Confirmation::Declined(reason)),
        AuthorizationStatus::Unsupported => Ok(Confirmation::Unsupported),
        AuthorizationStatus::ApprovalRequired(approval) => {
            Ok(Confirmation::ApprovalRequired(approval))
        }
        AuthorizationStatus::Cancelled => Ok(Confirmation::Cancelled),
        AuthorizationStatus::Created | AuthorizationStatus::Processing => {
            Err(GatewayError::Unknown(Trouble::InFlight))
        }
    }
}

#[async_trait]
impl PayPalApprovals for PayPal {
    async fn open(&self, key: &str, request: &ApprovalRequest) -> Result<Opening, GatewayError> {
        let body = json!({
            "intent": "AUTHORIZE",
            "purchase_units": [{ "reference_id": UNIT, "amount": wire::amount(request.amount) }],
            "payment_source": { "paypal": { "experience_context": {
                "return_url": request.return_url,
                "cancel_url": request.cancel_url,
                "user_action": "CONTINUE",
                "shipping_preference": "NO_SHIPPING",
            } } },
        });
        let path = ["v2", "checkout", "orders"];
        match in_time(self.client.post(&path, Some(key), &body)).await? {
            Answer::Done(made) => {
                let order: Order = made.json()?;
                let url = order.approval_url().ok_or(GARBLED)?;
                Ok(Opening::Opened {
                    reference: order.reference(),
                    approval: Approval { url, expires_at: None },
                })
            }
            Answer::Refused(failure) => Ok(Opening::Refused(failure.reason()?)),
        }
    }

    /// An approved order that names an order of the shop belongs to that one, whether or not it was authorized.
    async fn find(&self, reference: &Reference) -> Result<Option<ApprovalStatus>, GatewayError> {
        let Some(order) = in_time(self.order(reference)).await? else { return Ok(None) };
        match order.approval_status().ok_or(GARBLED)? {
            ApprovalStatus::Approved if order.custom_id().is_some() => {
                Ok(Some(ApprovalStatus::Completed))
            }
            status => Ok(Some(status)),
        }
    }
}

#[async_trait]
impl PaymentGateway for PayPal {
    /// Round trips: 2.
    async fn create(&self, key: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        let refused = |why: &str| Ok(Creation::Refused(Reason::new(why)));
        let reference = Reference(charge.method.0.clone());
        let Some(order) = self.before(&reference).await? else {
            return refused("resource_not_found");
        };
        match order.approval_status().ok_or(GARBLED)? {
            ApprovalStatus::Approved => {}
            ApprovalStatus::Open => return refused("order_not_approved"),
            ApprovalStatus::Completed | ApprovalStatus::Voided => {
                return refused("order_already_completed");
            }
        }
        if order.amount() != Some(charge.amount) {
            return refused("amount_mismatch");
        }
        let ours = charge.order_id.to_string();
        if order.custom_id().is_some_and(|other| other != ours) {
            return refused("order_already_completed");
        }
        let path = format!("/purchase_units/@reference_id=='{UNIT}'/custom_id");
        match self.patch(key, &order.id, "add", &path, &ours).await? {
            Answer::Done(_) => Ok(Creation::Created(reference)),
            Answer::Refused(failure) => Ok(Creation::Refused(failure.reason()?)),
        }
    }

    /// Round trips: 1, or 2 if PayPal refuses.
    async fn confirm(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Confirmation, GatewayError> {
        let Some(id) = order_id(reference) else {
            return Ok(Confirmation::Declined(Reason::new("resource_not_found")));
        };
        let path = ["v2", "checkout", "orders", id, "authorize"];
        match self.client.post(&path, Some(key), &json!({})).await? {
            Answer::Done(made) => {
                confirmation(made.json::<Order>()?.status().ok_or(GARBLED)?, reference)
            }
            Answer::Refused(failure) => self.not_authorized(&failure, reference).await,
        }
    }

    async fn find(&self, reference: &Reference) -> Result<Option<Authorization>, GatewayError> {
        let Some(order) = self.order(reference).await? else { return Ok(None) };
        order.into_authorization().map(Some).ok_or(GARBLED)
    }

    /// PayPal cannot search for an order, and need not: an order that was created here reserves nothing before it is confirmed by its
    /// reference. If the create acted without an answer, [`PayPalApprovals::find`] says that the approval belongs to its order.
    async fn find_by_key(&self, _: Uuid, _: &str) -> Result<Option<Authorization>, GatewayError> {
        Ok(None)
    }

    /// Round trips: 2 if nothing was authorized, otherwise 3, or 4 if the void is refused.
    async fn cancel(&self, key: &str, reference: &Reference) -> Result<Cancellation, GatewayError> {
        let Some(id) = order_id(reference) else { return Ok(Cancellation::NotFound) };
        match self.patch(&format!("{key}.close"), id, "replace", "/intent", "CAPTURE").await? {
            Answer::Refused(failure) if failure.status == 404 => return Ok(Cancellation::NotFound),
            // It is authorized already, so it can be voided.
            Answer::Refused(failure) => drop(failure.reason()?),
            Answer::Done(_) => {}
        }
        let Some(order) = self.order(reference).await? else { return Ok(Cancellation::NotFound) };
        if order.status().ok_or(GARBLED)? == AuthorizationStatus::Authorized {
            let id = &order.payment().ok_or(GARBLED)?.id;
            let path = ["v2", "payments", "authorizations", id, "void"];
            match self.client.post(&path, Some(key), &json!({})).await? {
                Answer::Done(_) => return Ok(cancelled(reference, order.amount().ok_or(GARBLED)?)),
                // It was voided, captured or lapsed meanwhile.
                Answer::Refused(failure) => failure.reason()?,
            };
            let now = self.order(reference).await?.ok_or(GARBLED)?;
            return closed(&now, reference);
        }
        closed(&order, reference)
    }

    /// An order whose authorization PayPal has declined is not closed yet: a later confirm may succeed.
    async fn find_void(&self, reference: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        let Some(order) = self.order(reference).await? else {
            return Ok(Some(Cancellation::NotFound));
        };
        match order.status().ok_or(GARBLED)? {
            AuthorizationStatus::Cancelled | AuthorizationStatus::Captured { .. } => {
                closed(&order, reference).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Round trips: 2, or 3 if PayPal refuses.
    async fn capture(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Capture, GatewayError> {
        let refused = |why: &str| Ok(Capture::Refused(Reason::new(why)));
        let Some(order) = self.before(reference).await? else {
            return refused("resource_not_found");
        };
        if let Some(taken) = captured(&order)? {
            return Ok(taken);
        }
        let Some(payment) = order.payment() else { return refused("order_not_authorized") };
        let body = json!({ "amount": wire::amount(amount), "final_capture": true });
        let path = ["v2", "payments", "authorizations", &payment.id, "capture"];
        match self.client.post(&path, Some(key), &body).await? {
            Answer::Done(made) => made.json::<CaptureObject>()?.into_capture().ok_or(GARBLED)?,
            Answer::Refused(failure) => {
                let why = failure.reason()?;
                let now = self.order(reference).await?.ok_or(GARBLED)?;
                // It was captured meanwhile, under whatever key.
                Ok(captured(&now)?.unwrap_or(Capture::Refused(why)))
            }
        }
    }

    /// Round trips: 2.
    async fn refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        let Some(order) = self.before(reference).await? else {
            return Ok(Refund::Refused(Reason::new("resource_not_found")));
        };
        // PayPal forgets a request id and would then refund a second time, so the refund is looked for by our own reference first.
        if let Some(made) = order.refund_under(&request_id(key)) {
            return made.clone().into_refund().ok_or(GARBLED);
        }
        match order.capture() {
            Some(capture) => self.post_refund(key, capture, amount).await,
            None => Ok(Refund::Refused(Reason::new("order_not_captured"))),
        }
    }

    async fn find_refund(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Option<Refund>, GatewayError> {
        let Some(order) = self.order(reference).await? else { return Ok(None) };
        match order.refund_under(&request_id(key)) {
            Some(made) => made.clone().into_refund().map(Some).ok_or(GARBLED),
            None => Ok(None),
        }
    }

    /// An approval pays one order and belongs to no account.
    async fn open_customer(&self, _: &str, _: Uuid) -> Result<Creation, GatewayError> {
        Ok(Creation::Refused(Reason::new("not_supported")))
    }

    async fn attach(
        &self,
        _: &str,
        _: &MethodToken,
        _: &Reference,
    ) -> Result<Attachment, GatewayError> {
        Ok(Attachment::Refused(Reason::new("not_supported")))
    }

    /// Nothing is attached.
    async fn detach(&self, _: &str, _: &MethodToken) -> Result<(), GatewayError> {
        Ok(())
    }

    /// There are no accounts.
    async fn delete_customer(&self, _: &Reference) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn refunds(&self, reference: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        let Some(order) = self.order(reference).await? else { return Ok(Vec::new()) };
        order.into_refunds().into_iter().map(|made| made.into_made().ok_or(GARBLED)).collect()
    }
}

/// The capture that an order shows. An error if PayPal has not decided about it yet.
fn captured(order: &Order) -> Result<Option<Capture>, GatewayError> {
    match order.status().ok_or(GARBLED)? {
        AuthorizationStatus::Captured { captured, .. } => {
            Ok(Some(Capture::Captured { amount: captured }))
        }
        AuthorizationStatus::Processing => Err(GatewayError::Unknown(Trouble::InFlight)),
        AuthorizationStatus::Declined(why) => Ok(Some(Capture::Refused(why))),
        _ => Ok(None),
    }
}

fn closed(order: &Order, reference: &Reference) -> Result<Cancellation, GatewayError> {
    match order.status().ok_or(GARBLED)? {
        AuthorizationStatus::Cancelled | AuthorizationStatus::Declined(_) => {
            Ok(cancelled(reference, order.released().ok_or(GARBLED)?))
        }
        AuthorizationStatus::Captured { .. } => Ok(Cancellation::AlreadyCaptured),
        _ => Err(GatewayError::Unknown(Trouble::InFlight)),
    }
}

fn cancelled(reference: &Reference, released: Money) -> Cancellation {
    Cancellation::Cancelled { reference: reference.clone(), released }
}
