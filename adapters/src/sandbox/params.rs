//! The parameters of requests, checked as strictly as Stripe does: a name that the endpoint does not know is an error.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::http::HeaderMap;
use rust_decimal::Decimal;
use stepwise_workflows::money::{Currency, InvalidMoney, Money};
use url::form_urlencoded;

use super::Gateway;
use crate::gateway::{from_units, to_units};

/// The maximum length of an idempotency key, the same as Stripe's.
const KEY_BYTES: usize = 255;
const ORDER_ID_BYTES: usize = 64;
/// The maximum lengths of a name and a value in the metadata, the same as Stripe's.
const METADATA_CHARS: (usize, usize) = (40, 500);
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Form fields or query parameters.
pub(super) type Fields = HashMap<String, String>;

/// An error about a parameter, with its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) &'static str);

/// Form fields and query parameters. If a name is given twice, the last value counts.
pub(super) fn form(body: &[u8]) -> Fields {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Form fields and query parameters, all of which must be in `known`. `metadata` stands for all entries of the metadata.
pub(super) fn only(body: &[u8], known: &[&str]) -> Result<Fields, Wrong> {
    let fields = form(body);
    for (name, value) in &fields {
        let entry = name.strip_prefix("metadata[").and_then(|rest| rest.strip_suffix(']'));
        match entry {
            Some(entry) if known.contains(&"metadata") => {
                let (names, values) = METADATA_CHARS;
                if entry.chars().count() > names || value.chars().count() > values {
                    return Err(Wrong("metadata_invalid"));
                }
            }
            _ if known.contains(&name.as_str()) => {}
            _ => return Err(Wrong("parameter_unknown")),
        }
    }
    if fields.get("expand[]").is_some_and(|what| what != "latest_charge") {
        return Err(Wrong("parameter_unknown"));
    }
    Ok(fields)
}

/// The idempotency key; empty if there is none. The metadata may repeat it, and cannot have another one.
pub(super) fn key<'a>(headers: &'a HeaderMap, fields: &Fields) -> Result<&'a str, Wrong> {
    let key = headers.get(IDEMPOTENCY_KEY).map_or(Ok(""), |value| value.to_str());
    let key =
        key.ok().filter(|key| key.len() <= KEY_BYTES).ok_or(Wrong("idempotency_key_invalid"))?;
    match fields.get("metadata[key]") {
        Some(repeated) if repeated != key => Err(Wrong("metadata_invalid")),
        _ => Ok(key),
    }
}

/// The order's id in the metadata; empty if there is none.
pub(super) fn order_id(fields: &Fields) -> Result<&str, Wrong> {
    let id = fields.get("metadata[orderId]").map(String::as_str).unwrap_or_default();
    let fits = id.len() <= ORDER_ID_BYTES && !id.contains(char::is_control);
    fits.then_some(id).ok_or(Wrong("metadata_invalid"))
}

/// The amount to authorize.
pub(super) fn money(fields: &Fields) -> Result<Money, Wrong> {
    let minor = minor(fields, "amount").ok_or(Wrong("parameter_invalid_integer"))?;
    let currency = currency(fields).ok_or(Wrong("currency_invalid"))?;
    positive(minor, currency)
}

/// A part of the authorization's amount. `None` for all of it.
pub(super) fn part(
    gateway: &Gateway,
    reference: &str,
    fields: &Fields,
    name: &str,
) -> Result<Option<Money>, Wrong> {
    if !fields.contains_key(name) {
        return Ok(None);
    }
    let minor = minor(fields, name).ok_or(Wrong("parameter_invalid_integer"))?;
    let state = gateway.state();
    // If the authorization is unknown, its currency does not matter: the request is refused.
    let currency = state.book.intent(reference).map_or(Currency::USD, |i| i.amount.currency());
    positive(minor, currency).map(Some)
}

/// A value that must be one of these, if it is given.
pub(super) fn one_of(fields: &Fields, name: &str, values: &[&str]) -> Result<(), Wrong> {
    match fields.get(name) {
        Some(value) if !values.contains(&value.as_str()) => Err(Wrong("parameter_invalid_string")),
        _ => Ok(()),
    }
}

/// An absolute address, if it is given.
pub(super) fn address(fields: &Fields, name: &str) -> Result<(), Wrong> {
    match fields.get(name).map(|text| text.parse::<url::Url>()) {
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") => Ok(()),
        Some(_) => Err(Wrong("url_invalid")),
        None => Ok(()),
    }
}

/// The maximum length of a page: 10, or what is asked for, up to 100.
pub(super) fn limit(fields: &Fields) -> Result<usize, Wrong> {
    let Some(text) = fields.get("limit") else { return Ok(10) };
    let limit = digits(text).and_then(|limit| usize::try_from(limit).ok());
    limit.filter(|limit| (1..=100).contains(limit)).ok_or(Wrong("parameter_invalid_integer"))
}

pub(super) fn expands(fields: &Fields) -> bool {
    fields.contains_key("expand[]")
}

/// A hash of the address and all parameters: a repeated request has the same.
pub(super) fn fingerprint(path: &str, fields: &Fields) -> u64 {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (path, sorted).hash(&mut hasher);
    hasher.finish()
}

fn minor(fields: &Fields, name: &str) -> Option<i64> {
    digits(fields.get(name)?)
}

/// Digits and nothing else: no sign, no space, no decimal point.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A known currency in lower case.
fn currency(fields: &Fields) -> Option<Currency> {
    let code = fields.get("currency")?;
    let is_known = CURRENCIES.split_ascii_whitespace().any(|known| known == code);
    is_known.then(|| code.to_ascii_uppercase().parse().ok()).flatten()
}

/// The currencies in which Stripe takes payments.
const CURRENCIES: &str = "\
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny cop \
    crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod jpy \
    kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok \
    npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top \
    try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw";

fn positive(minor: i64, currency: Currency) -> Result<Money, Wrong> {
    let money = from_units(minor, currency).map_err(|why| match why {
        InvalidMoney::TooManyDigits => Wrong("parameter_invalid_integer"),
        _ => Wrong("amount_too_large"),
    })?;
    let is_taken = money.amount() > Decimal::ZERO && to_units(money) == Some(minor);
    is_taken.then_some(money).ok_or(Wrong("parameter_invalid_integer"))
}
