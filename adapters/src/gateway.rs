//! The payment gateway over the Stripe API: PaymentIntents with manual capture, and refunds.
//!
//! Each call is one form-encoded request, with the engine's key as `Idempotency-Key` and a fixed `Stripe-Version`. The
//! client retries nothing: the engine decides whether to repeat a call or to look up its outcome. For that the client
//! classifies failures.
//! - Certainly without effect: a connection that was never made, 401, 403, 429, a 409 because the object is locked, a 503
//!   with `Retry-After`, and a 4xx that says that the request itself is wrong (an unknown parameter, a key that was used
//!   with other parameters).
//! - Of unknown outcome: a time-out, a connection lost after sending, any other 5xx, 424, an answer that cannot be parsed,
//!   and a 409 because an earlier request with the same key is still running.
//! - Other 4xx are the gateway's decision and become values.
//!
//! Stripe stores the answer of each key for a day, a 500 included. So a stored 5xx says nothing about this attempt, and the
//! request is sent again under a key derived from the first. Nothing acts twice by that: an authorization is confirmed, captured
//! and voided once by its own status, and a refund is looked for by our key in its metadata before it is made. That
//! look-up also protects a refund that is repeated when Stripe has forgotten its key.
//!
//! The order's id and the engine's key are in the metadata, and [`PaymentGateway::find_by_key`] searches for
//! them. Stripe's search may lag behind by a minute, so a "not found" is not final.
//!
//! Deliberately absent: the rest of the API. Webhooks are in [`webhook`].

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use stepwise_workflows::money::Money;
use stepwise_workflows::payment::gateway::{
    Attachment, Authorization, AuthorizationStatus, Cancellation, Capture, Charge, Confirmation,
    Creation, GatewayError, MadeRefund, MethodToken, PaymentGateway, Reason, Reference, Refund,
    Trouble,
};
use uuid::Uuid;

pub use self::wire::takes_every_amount;
use self::wire::{Failure, Intent, List, RefundObject};
pub(crate) use self::wire::{from_units, to_units};
use crate::provider::{self, GARBLED, unasked};

mod wallet;
pub mod webhook;
mod wire;

#[cfg(test)]
mod tests;

/// The maximum number of pages of refunds that are read for one authorization, 100 refunds each.
const REFUND_PAGES: usize = 10;

/// The version of Stripe's API that this client speaks, whatever the account's default is.
pub const API_VERSION: &str = "2025-08-27.basil";

/// The maximum number of keys under which a request is sent while each has a stored server error.
const KEYS: u32 = 4;

/// The gateway's address, the key for it, and the time-outs.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The base address: `https://api.stripe.com`, or the sandbox's address.
    pub base_url: Url,
    /// The secret API key.
    pub api_key: SecretString,
    /// The address to which customers return after an approval. By default the shop's, at its default port.
    pub return_url: Url,
    /// The time-out of a whole call. 5 s by default.
    pub timeout: Duration,
    /// The time-out for connecting. 1 s by default.
    pub connect_timeout: Duration,
}

impl GatewayConfig {
    /// The configuration for `base_url` with the default time-outs.
    #[must_use]
    pub fn new(base_url: Url, api_key: SecretString) -> Self {
        Self {
            base_url,
            api_key,
            return_url: Url::parse("http://127.0.0.1:8080/").expect("a constant address"),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// The client. Clones share its connections.
#[derive(Debug, Clone)]
pub struct StripeGateway {
    client: Client,
    base_url: Url,
    api_key: SecretString,
    return_url: Url,
}

/// An answer of the gateway, before each operation interprets it.
enum Answer<T> {
    Done(T),
    Refused(Box<Failure>),
}

/// The result of sending a request.
enum Sent<T> {
    Answer(Answer<T>),
    /// A server error that the gateway has stored for this key, with its status.
    Stored(u16),
}

type Form<'a> = [(&'a str, &'a str)];

const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl StripeGateway {
    /// Creates the client. Does not connect yet.
    pub fn new(config: GatewayConfig) -> Result<Self, reqwest::Error> {
        let client = provider::client(&config.base_url, config.connect_timeout, config.timeout)?;
        let GatewayConfig { base_url, api_key, return_url, .. } = config;
        Ok(Self { client, base_url, api_key, return_url })
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        key: &str,
        form: &Form<'_>,
    ) -> Result<Answer<T>, GatewayError> {
        let mut stored = 500;
        for n in 1..=KEYS {
            let key = if n == 1 { key.to_owned() } else { format!("{key}.{n}") };
            let key = header::HeaderValue::from_str(&key)
                .map_err(|_| GatewayError::NotDone(Trouble::Misconfigured(400)))?;
            let request = self.request(Method::POST, path, &[]).header(IDEMPOTENCY_KEY, key);
            match self.send(request.form(form)).await? {
                Sent::Stored(status) => stored = status,
                Sent::Answer(answer) => return Ok(answer),
            }
        }
        Err(GatewayError::Unknown(Trouble::ServerError(stored)))
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Form<'_>,
    ) -> Result<Option<T>, GatewayError> {
        match self.send(self.request(Method::GET, path, query)).await? {
            Sent::Answer(Answer::Done(object)) => Ok(Some(object)),
            Sent::Answer(Answer::Refused(failure)) if failure.status == 404 => Ok(None),
            Sent::Answer(Answer::Refused(failure)) => {
                Err(GatewayError::NotDone(Trouble::Misconfigured(failure.status)))
            }
            Sent::Stored(status) => Err(GatewayError::Unknown(Trouble::ServerError(status))),
        }
    }

    fn request(&self, method: Method, path: &[&str], query: &Form<'_>) -> reqwest::RequestBuilder {
        let mut url = provider::address(&self.base_url, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.client
            .request(method, url)
            .bearer_auth(self.api_key.expose_secret())
            .header("stripe-version", API_VERSION)
    }

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Sent<T>, GatewayError> {
        let response = provider::send(request).await?;
        if let Some(failure) = response.failure() {
            return Err(failure);
        }
        let (status, body) = (response.status, &response.body);
        let is_stored = response.headers.get("idempotent-replayed").is_some_and(|is| is == "true");
        match status {
            status if status.is_success() => {
                response.json().map(|object| Sent::Answer(Answer::Done(object)))
            }
            StatusCode::CONFLICT => match Failure::read(status.as_u16(), body) {
                Some(failure) if failure.is_lock() => {
                    Err(GatewayError::NotDone(Trouble::Unavailable(status.as_u16())))
                }
                _ => Err(GatewayError::Unknown(Trouble::InFlight)),
            },
            StatusCode::FAILED_DEPENDENCY => {
                Err(GatewayError::Unknown(Trouble::ServerError(status.as_u16())))
            }
            status if status.is_client_error() => Failure::read(status.as_u16(), body)
                .map(|failure| Sent::Answer(Answer::Refused(Box::new(failure))))
                .ok_or(GatewayError::Unknown(Trouble::Garbled)),
            status if is_stored => Ok(Sent::Stored(status.as_u16())),
            status => Err(GatewayError::Unknown(Trouble::ServerError(status.as_u16()))),
        }
    }

    /// Reads the authorization with its charge, which shows the captured, released and refunded amounts.
    async fn intent(&self, reference: &Reference) -> Result<Option<Intent>, GatewayError> {
        let path = ["v1", "payment_intents", &reference.0];
        self.get(&path, &[("expand[]", "latest_charge")]).await
    }

    /// The authorization as it is, if the refusal says that its status does not allow what was asked for.
    async fn as_it_is(
        &self,
        failure: &mut Failure,
        reference: &Reference,
    ) -> Result<Option<Intent>, GatewayError> {
        match failure.take_intent() {
            Some(intent) => Ok(Some(intent)),
            None if failure.is_about_status() => self.intent(reference).await,
            None => Ok(None),
        }
    }

    /// Reads all refunds of an authorization, page by page.
    async fn list_refunds(&self, reference: &Reference) -> Result<Vec<RefundObject>, GatewayError> {
        let mut all: Vec<RefundObject> = Vec::new();
        for _ in 0..REFUND_PAGES {
            let last = all.last().map(|refund| refund.id.clone());
            let mut query = vec![("payment_intent", reference.0.as_str()), ("limit", "100")];
            query.extend(last.as_deref().map(|id| ("starting_after", id)));
            let page = self.get::<List<RefundObject>>(&["v1", "refunds"], &query).await?;
            let Some(List { data, has_more }) = page else { return Ok(all) };
            let ends = !has_more || data.is_empty();
            all.extend(data);
            if ends {
                return Ok(all);
            }
        }
        Err(GARBLED)
    }

    async fn post_refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        let Some(units) = to_units(amount) else {
            return Ok(Refund::Refused(unsupported_amount()));
        };
        let units = units.to_string();
        let form =
            [("payment_intent", reference.0.as_str()), ("amount", &units), ("metadata[key]", key)];
        match self.post::<RefundObject>(&["v1", "refunds"], key, &form).await? {
            Answer::Done(refund) => refund.into_refund().ok_or(GARBLED),
            Answer::Refused(failure) => Ok(Refund::Refused(failure.reason()?)),
        }
    }
}

#[async_trait]
impl PaymentGateway for StripeGateway {
    async fn create(&self, key: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        let Some(units) = to_units(charge.amount) else {
            return Ok(Creation::Refused(unsupported_amount()));
        };
        let units = units.to_string();
        let currency = charge.amount.currency().code().to_ascii_lowercase();
        let order_id = charge.order_id.to_string();
        let mut form = vec![
            ("amount", units.as_str()),
            ("currency", &currency),
            ("payment_method", &charge.method.0),
            ("payment_method_types[]", "card"),
            ("capture_method", "manual"),
            ("metadata[orderId]", &order_id),
            ("metadata[key]", key),
        ];
        form.extend(charge.customer.as_ref().map(|customer| ("customer", customer.0.as_str())));
        match self.post::<Intent>(&["v1", "payment_intents"], key, &form).await? {
            Answer::Done(intent) => Ok(Creation::Created(Reference(intent.id))),
            Answer::Refused(failure) => Ok(Creation::Refused(failure.reason()?)),
        }
    }

    async fn confirm(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Confirmation, GatewayError> {
        let path = ["v1", "payment_intents", &reference.0, "confirm"];
        let form = [("return_url", self.return_url.as_str())];
        let intent = match self.post::<Intent>(&path, key, &form).await? {
            Answer::Done(intent) => intent,
            Answer::Refused(failure) if failure.is_card_error() => {
                return Ok(wire::declined(failure.decline()));
            }
            Answer::Refused(mut failure) => match self.as_it_is(&mut failure, reference).await? {
                // It was confirmed, cancelled or captured before: its status is the answer.
                Some(intent) => intent,
                None => return Ok(Confirmation::Declined(failure.reason()?)),
            },
        };
        let reference = Reference(intent.id.clone());
        match intent.status().ok_or(GARBLED)? {
            AuthorizationStatus::Authorized | AuthorizationStatus::Captured { .. } => {
                Ok(Confirmation::Confirmed(reference))
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

    async fn find(&self, reference: &Reference) -> Result<Option<Authorization>, GatewayError> {
        let Some(intent) = self.intent(reference).await? else { return Ok(None) };
        intent.into_authorization().map(Some).ok_or(GARBLED)
    }

    async fn find_by_key(
        &self,
        order_id: Uuid,
        key: &str,
    ) -> Result<Option<Authorization>, GatewayError> {
        let key = key.replace('\\', "\\\\").replace('\'', "\\'");
        let query = format!("metadata['orderId']:'{order_id}' AND metadata['key']:'{key}'");
        let path = ["v1", "payment_intents", "search"];
        let form = [("query", query.as_str()), ("limit", "1")];
        let found = self.get::<List<Intent>>(&path, &form).await?;
        match found.and_then(|list| list.data.into_iter().next()) {
            // The copy in the search index may be old, so read the intent itself.
            Some(intent) => self.find(&Reference(intent.id)).await,
            None => Ok(None),
        }
    }

    async fn cancel(&self, key: &str, reference: &Reference) -> Result<Cancellation, GatewayError> {
        let path = ["v1", "payment_intents", &reference.0, "cancel"];
        let form = [("expand[]", "latest_charge")];
        let intent = match self.post::<Intent>(&path, key, &form).await? {
            Answer::Done(intent) => intent,
            Answer::Refused(failure) if failure.status == 404 => {
                return Ok(Cancellation::NotFound);
            }
            // It was cancelled or captured before.
            Answer::Refused(failure) => {
                failure.reason()?;
                match self.intent(reference).await? {
                    Some(intent) => intent,
                    None => return Ok(Cancellation::NotFound),
                }
            }
        };
        intent.into_cancellation()?.ok_or(GatewayError::Unknown(Trouble::InFlight))
    }

    async fn find_void(&self, reference: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        match self.intent(reference).await? {
            Some(intent) => intent.into_cancellation(),
            None => Ok(Some(Cancellation::NotFound)),
        }
    }

    async fn capture(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Capture, GatewayError> {
        let Some(units) = to_units(amount) else {
            return Ok(Capture::Refused(unsupported_amount()));
        };
        let units = units.to_string();
        let path = ["v1", "payment_intents", &reference.0, "capture"];
        let intent = match self
            .post::<Intent>(&path, key, &[("amount_to_capture", units.as_str())])
            .await?
        {
            Answer::Done(intent) => intent,
            Answer::Refused(mut failure) => match self.as_it_is(&mut failure, reference).await? {
                // It was captured before, under whatever key.
                Some(intent) if intent.is_captured() => intent,
                _ => return Ok(Capture::Refused(failure.reason()?)),
            },
        };
        let amount = intent.received().ok_or(GARBLED)?;
        Ok(Capture::Captured { amount })
    }

    async fn refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        // Stripe forgets a key after a day and would then refund a second time, so it is asked by our own reference first.
        match self.find_refund(key, reference).await {
            Ok(Some(made)) => Ok(made),
            Ok(None) => self.post_refund(key, reference, amount).await,
            Err(error) => Err(unasked(error)),
        }
    }

    async fn find_refund(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Option<Refund>, GatewayError> {
        let made = self.list_refunds(reference).await?;
        match made.into_iter().find(|refund| refund.key() == Some(key)) {
            Some(refund) => refund.into_refund().map(Some).ok_or(GARBLED),
            None => Ok(None),
        }
    }

    async fn open_customer(&self, key: &str, customer_id: Uuid) -> Result<Creation, GatewayError> {
        self.customer(key, customer_id).await
    }

    async fn attach(
        &self,
        key: &str,
        method: &MethodToken,
        customer: &Reference,
    ) -> Result<Attachment, GatewayError> {
        self.attach_to(key, method, customer).await
    }

    async fn detach(&self, key: &str, method: &MethodToken) -> Result<(), GatewayError> {
        self.detach_it(key, method).await
    }

    async fn delete_customer(&self, customer: &Reference) -> Result<(), GatewayError> {
        self.delete(customer).await
    }

    async fn refunds(&self, reference: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        let made = self.list_refunds(reference).await?;
        made.into_iter().map(|refund| refund.into_made().ok_or(GARBLED)).collect()
    }
}

/// The reason why an amount is not sent: Stripe does not take it ([`to_units`]).
fn unsupported_amount() -> Reason {
    Reason::new("amount_not_supported")
}

impl Failure {
    /// The reason of a refusal. An error if the refusal concerns this client's configuration, not the payment.
    fn reason(&self) -> Result<Reason, GatewayError> {
        if self.is_about_us() {
            return Err(GatewayError::NotDone(Trouble::Misconfigured(self.status)));
        }
        Ok(self.decline())
    }

    /// The error for a refusal that no operation of this client expects.
    fn misunderstood<T>(&self) -> Result<T, GatewayError> {
        Err(GatewayError::NotDone(Trouble::Misconfigured(self.status)))
    }
}
