//! The bodies of requests, checked as strictly as PayPal does: a name that the endpoint does not know is an error.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use stepwise_workflows::money::{Currency, Money};
use url::Url;

/// The maximum length of a request id, the same as PayPal's for orders.
const REQUEST_ID_CHARS: usize = 108;
/// The maximum length of a custom id, the same as PayPal's.
const CUSTOM_ID_CHARS: usize = 127;

/// The currencies with two decimals in which PayPal takes payments.
const CURRENCIES: &str =
    "AUD BRL CAD CNY CZK DKK EUR HKD ILS MYR MXN NZD NOK PHP PLN GBP SGD SEK CHF THB USD";
/// The currencies that have no decimals at PayPal.
const WHOLE: [&str; 3] = ["HUF", "JPY", "TWD"];

/// An error about a request, or a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong {
    status: StatusCode,
    name: &'static str,
    issue: &'static str,
}

impl Wrong {
    /// The request does not have the form that the endpoint expects.
    pub(super) fn malformed(issue: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, name: "INVALID_REQUEST", issue }
    }

    /// The request is well-formed and cannot be done.
    pub(super) fn refused(issue: &'static str) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, name: "UNPROCESSABLE_ENTITY", issue }
    }

    pub(super) fn missing() -> Self {
        let (status, name) = (StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND");
        Self { status, name, issue: "INVALID_RESOURCE_ID" }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        error(self.status, self.name, self.issue)
    }
}

/// An error response in PayPal's format.
pub(super) fn error(status: StatusCode, name: &str, issue: &str) -> Response {
    let body = json!({
        "name": name,
        "message": "The requested action could not be performed.",
        "debug_id": "sandbox",
        "details": [{ "issue": issue, "description": "See the issue." }],
        "links": [],
    });
    (status, Json(body)).into_response()
}

/// The request id; empty if there is none.
pub(super) fn request_id(headers: &HeaderMap) -> Result<&str, Wrong> {
    let id = headers.get(crate::paypal::REQUEST_ID).map_or(Ok(""), |value| value.to_str());
    id.ok()
        .filter(|id| id.len() <= REQUEST_ID_CHARS)
        .ok_or(Wrong::malformed("INVALID_STRING_LENGTH"))
}

/// Reads a body, in which every name must be known.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|_| Wrong::malformed("MALFORMED_REQUEST_JSON"))
}

/// A body without content: `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AmountBody {
    currency_code: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBody {
    intent: String,
    purchase_units: Vec<UnitBody>,
    payment_source: SourceBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitBody {
    reference_id: Option<String>,
    amount: AmountBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceBody {
    paypal: PayPalBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayPalBody {
    experience_context: ContextBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextBody {
    return_url: String,
    cancel_url: String,
    user_action: Option<String>,
    shipping_preference: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PatchBody(Vec<PatchOp>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchOp {
    op: String,
    path: String,
    value: Option<String>,
}

/// A change of an order that the sandbox knows.
pub(super) enum Patch {
    /// The shop's order.
    CustomId(String),
    /// The intent `CAPTURE`, after which the order cannot be authorized.
    Capture,
}

/// The addresses to which a customer returns from the approval page.
#[derive(Debug, Clone)]
pub(in super::super) struct Returns {
    /// After an approval.
    pub(in super::super) approved: String,
    /// Without one.
    pub(in super::super) cancelled: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptureBody {
    pub(super) amount: Option<AmountBody>,
    #[serde(default)]
    pub(super) final_capture: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundBody {
    pub(super) amount: Option<AmountBody>,
    pub(super) custom_id: Option<String>,
}

impl AmountBody {
    pub(super) fn money(&self) -> Result<Money, Wrong> {
        let code = &*self.currency_code;
        let has_decimals = CURRENCIES.split(' ').any(|known| known == code);
        if !has_decimals && !WHOLE.contains(&code) {
            return Err(Wrong::refused("CURRENCY_NOT_SUPPORTED"));
        }
        let is_number = self.value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let value = Decimal::from_str_exact(&self.value).ok().filter(|_| is_number);
        let value = value.ok_or(Wrong::malformed("INVALID_PARAMETER_SYNTAX"))?;
        if value.is_zero() {
            return Err(Wrong::refused("CANNOT_BE_ZERO_OR_NEGATIVE"));
        }
        match value.scale() {
            1.. if !has_decimals => return Err(Wrong::refused("DECIMALS_NOT_SUPPORTED")),
            3.. => return Err(Wrong::refused("DECIMAL_PRECISION")),
            _ => {}
        }
        let currency: Currency =
            code.parse().map_err(|_| Wrong::malformed("INVALID_PARAMETER_VALUE"))?;
        Money::new(value, currency).map_err(|_| Wrong::refused("MAX_VALUE_EXCEEDED"))
    }
}

impl OpenBody {
    /// The amount, and the addresses to which the customer returns.
    pub(super) fn checked(self) -> Result<(Money, Returns), Wrong> {
        let value = Wrong::malformed("INVALID_PARAMETER_VALUE");
        if self.intent != "AUTHORIZE" {
            return Err(value);
        }
        let [unit] = &self.purchase_units[..] else {
            return Err(Wrong::refused("MULTIPLE_PURCHASE_UNITS_NOT_SUPPORTED"));
        };
        if unit.reference_id.as_deref().is_some_and(|id| id != "default") {
            return Err(value);
        }
        let ContextBody { return_url, cancel_url, user_action, shipping_preference } =
            self.payment_source.paypal.experience_context;
        let one_of = |given: Option<String>, known: &[&str]| {
            given.is_none_or(|given| known.contains(&&*given))
        };
        if !one_of(user_action, &["CONTINUE", "PAY_NOW"])
            || !one_of(
                shipping_preference,
                &["GET_FROM_FILE", "NO_SHIPPING", "SET_PROVIDED_ADDRESS"],
            )
        {
            return Err(value);
        }
        let is_web = |url: &str| {
            url.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        if !is_web(&return_url) || !is_web(&cancel_url) {
            return Err(Wrong::malformed("INVALID_PARAMETER_SYNTAX"));
        }
        Ok((unit.amount.money()?, Returns { approved: return_url, cancelled: cancel_url }))
    }
}

impl PatchBody {
    pub(super) fn checked(self) -> Result<Patch, Wrong> {
        let Ok([PatchOp { op, path, value }]) = <[PatchOp; 1]>::try_from(self.0) else {
            return Err(Wrong::malformed("INVALID_PARAMETER_VALUE"));
        };
        let value = value.ok_or(Wrong::refused("PATCH_VALUE_REQUIRED"))?;
        match (&*op, &*path) {
            ("add" | "replace", "/purchase_units/@reference_id=='default'/custom_id") => {
                let fits = value.len() <= CUSTOM_ID_CHARS && !value.contains(char::is_control);
                let wrong = Wrong::malformed("INVALID_STRING_LENGTH");
                fits.then_some(Patch::CustomId(value)).ok_or(wrong)
            }
            ("replace", "/intent") if value == "CAPTURE" => Ok(Patch::Capture),
            ("replace", "/intent") => Err(Wrong::malformed("INVALID_PARAMETER_VALUE")),
            _ => Err(Wrong::refused("NOT_PATCHABLE")),
        }
    }
}
