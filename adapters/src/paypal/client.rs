//! Requests to PayPal: the access token, the request id, and what an answer means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stepwise_workflows::payment::gateway::{GatewayError, Trouble};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::wire::Failure;
use crate::provider::{self, GARBLED, Response, unasked};

/// The header of the idempotency key.
pub(crate) const REQUEST_ID: &str = "paypal-request-id";
/// The maximum length of a request id, which is PayPal's for orders.
const REQUEST_ID_CHARS: usize = 108;
/// How long before its end a token is renewed, at most.
const EARLY: Duration = Duration::from_secs(60);

/// PayPal's address, the credentials for it, and the time-outs.
#[derive(Debug, Clone)]
pub struct PayPalConfig {
    /// The base address: `https://api-m.paypal.com`, or the sandbox's address.
    pub base_url: Url,
    /// The client id of the REST app.
    pub client_id: String,
    /// The secret of the REST app.
    pub client_secret: SecretString,
    /// PayPal's id of the webhook whose events are received.
    pub webhook_id: String,
    /// The time-out of a whole request, and of waiting for an access token. 5 s by default.
    pub timeout: Duration,
    /// The time-out for connecting. 1 s by default.
    pub connect_timeout: Duration,
}

impl PayPalConfig {
    /// The configuration for `base_url` with the default time-outs.
    #[must_use]
    pub fn new(base_url: Url, client_id: &str, client_secret: SecretString) -> Self {
        Self {
            base_url,
            client_id: client_id.to_owned(),
            client_secret,
            webhook_id: String::new(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// Sends requests with the current access token. Clones share the token.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    pub(super) config: Arc<PayPalConfig>,
    token: Arc<Mutex<Option<Token>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// An access token.
#[derive(Clone)]
struct Token {
    text: SecretString,
    /// When to renew it.
    until: Instant,
    /// Differs from the number of every earlier token.
    number: u64,
}

/// An answer of PayPal, before each operation interprets it.
pub(super) enum Answer {
    Done(Response),
    Refused(Failure),
}

/// A request, without the access token.
struct Request<'a> {
    method: Method,
    path: &'a [&'a str],
    key: Option<&'a str>,
    body: Option<String>,
}

impl Client {
    pub(super) fn new(config: PayPalConfig) -> Result<Self, reqwest::Error> {
        let http = provider::client(&config.base_url, config.connect_timeout, config.timeout)?;
        Ok(Self { http, config: Arc::new(config), token: Arc::default() })
    }

    /// Reads an object. `None`: PayPal does not know it.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Option<T>, GatewayError> {
        let request = Request { method: Method::GET, path, key: None, body: None };
        match self.send(&request).await? {
            Answer::Done(found) => found.json().map(Some),
            Answer::Refused(failure) if failure.status == 404 => Ok(None),
            Answer::Refused(failure) => {
                Err(GatewayError::NotDone(Trouble::Misconfigured(failure.status)))
            }
        }
    }

    pub(super) async fn post(
        &self,
        path: &[&str],
        key: Option<&str>,
        body: &Value,
    ) -> Result<Answer, GatewayError> {
        self.post_text(path, key, body.to_string()).await
    }

    /// Posts a text that is JSON already.
    pub(super) async fn post_text(
        &self,
        path: &[&str],
        key: Option<&str>,
        body: String,
    ) -> Result<Answer, GatewayError> {
        self.send(&Request { method: Method::POST, path, key, body: Some(body) }).await
    }

    pub(super) async fn patch(
        &self,
        path: &[&str],
        key: &str,
        body: &Value,
    ) -> Result<Answer, GatewayError> {
        let (key, body) = (Some(key), Some(body.to_string()));
        self.send(&Request { method: Method::PATCH, path, key, body }).await
    }

    /// Sends a request. A refused token is renewed once: PayPal has done nothing with it.
    async fn send(&self, request: &Request<'_>) -> Result<Answer, GatewayError> {
        let token = self.token(None).await?;
        let response = self.send_with(&token, request).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return answer(response);
        }
        let token = self.token(Some(token.number)).await?;
        answer(self.send_with(&token, request).await?)
    }

    async fn send_with(
        &self,
        token: &Token,
        request: &Request<'_>,
    ) -> Result<Response, GatewayError> {
        let url = provider::address(&self.config.base_url, request.path);
        let mut sending = self
            .http
            .request(request.method.clone(), url)
            .bearer_auth(token.text.expose_secret())
            .header("prefer", "return=representation");
        if let Some(key) = request.key {
            sending = sending.header(REQUEST_ID, request_id(key));
        }
        if let Some(body) = &request.body {
            sending = sending.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        provider::send(sending).await
    }

    /// The current token, renewed if it ends soon or is the one that was `refused`. One request for a token runs at a time, and the
    /// callers that wait get its result.
    async fn token(&self, refused: Option<u64>) -> Result<Token, GatewayError> {
        let current = async {
            let mut held = self.token.lock().await;
            let number = match &*held {
                Some(token) if token.until > Instant::now() && refused != Some(token.number) => {
                    return Ok(token.clone());
                }
                earlier => earlier.as_ref().map_or(1, |earlier| earlier.number + 1),
            };
            let token = self.new_token(number).await.map_err(unasked)?;
            Ok(held.insert(token).clone())
        };
        let late = GatewayError::NotDone(Trouble::TimedOut);
        timeout(self.config.timeout, current).await.unwrap_or(Err(late))
    }

    async fn new_token(&self, number: u64) -> Result<Token, GatewayError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: u64,
        }
        let asking = self
            .http
            .post(provider::address(&self.config.base_url, &["v1", "oauth2", "token"]))
            .basic_auth(&self.config.client_id, Some(self.config.client_secret.expose_secret()))
            .form(&[("grant_type", "client_credentials")]);
        let response = provider::send(asking).await?;
        match response.status {
            status if status.is_success() => {
                let Granted { access_token, expires_in } = response.json()?;
                let lives = Duration::from_secs(expires_in.min(365 * 24 * 3600));
                let until = Instant::now() + renewed_after(lives);
                Ok(Token { text: access_token.into(), until, number })
            }
            status if status.is_server_error() => {
                Err(GatewayError::NotDone(Trouble::ServerError(status.as_u16())))
            }
            status => {
                let wrong = GatewayError::NotDone(Trouble::Misconfigured(status.as_u16()));
                Err(response.failure().unwrap_or(wrong))
            }
        }
    }
}

fn answer(response: Response) -> Result<Answer, GatewayError> {
    if let Some(failure) = response.failure() {
        return Err(failure);
    }
    let status = response.status.as_u16();
    match response.status {
        good if good.is_success() => Ok(Answer::Done(response)),
        // A request with the same id is still running, or something else holds the object.
        StatusCode::CONFLICT => Err(GatewayError::Unknown(Trouble::InFlight)),
        bad if bad.is_client_error() => {
            Failure::read(status, &response.body).map(Answer::Refused).ok_or(GARBLED)
        }
        _ => Err(GatewayError::Unknown(Trouble::ServerError(status))),
    }
}

/// The request id of a key: the key itself, or its hash if it is too long for PayPal.
pub(super) fn request_id(key: &str) -> String {
    let fits = key.len() <= REQUEST_ID_CHARS && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { key.to_owned() } else { hex::encode(Sha256::digest(key)) }
}

/// How long a token is used that lives so long.
pub(super) fn renewed_after(lives: Duration) -> Duration {
    lives - EARLY.min(lives / 4)
}
