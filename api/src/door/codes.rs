//! The meaning of each code of a problem, for the page to which the problem's `type` leads.
//!
//! The meaning of a refusal is its declaration. Codes that no command declares, because any operation may answer with them, have their meaning here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use stepwise_workflows::refusal::{Declared, Kind};

/// The refusals that the operations declare, by code. Filled when the routes are made.
static DECLARED: Mutex<BTreeMap<&'static str, Declared>> = Mutex::new(BTreeMap::new());

/// The meaning of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// One sentence: what it means.
    pub means: String,
    /// One sentence: what to do.
    pub advice: &'static str,
}

/// The meaning of a code. `None` if no problem of this server has the code.
pub fn meaning(code: &str) -> Option<Meaning> {
    if let Some((_, means, advice)) = ANYWHERE.iter().find(|(known, ..)| *known == code) {
        return Some(Meaning { means: (*means).to_owned(), advice });
    }
    let declared = *declared().get(code)?;
    let means = sentence(&without_placeholders(declared.sentence.trim()));
    Some(Meaning { means, advice: advice(declared.kind) })
}

/// The code of a search, list or export whose turn has not come in time ([`super::Door::turn_to_read`]).
pub(super) const READS_BUSY: &str = "reads_busy";

/// The codes with this status that any operation may answer with, beside those that its command declares.
pub(super) fn general(status: u16) -> &'static [&'static str] {
    match status {
        403 => &["forbidden"],
        404 => &["not_found"],
        409 => &["operation_abandoned", "request_in_flight"],
        422 => &[
            "card_number_not_accepted",
            "duplicate_key",
            "idempotency_key_reused",
            "invalid_character",
            "invalid_data",
            "invalid_format",
            "invalid_value",
            "missing_field",
            "out_of_range",
            "too_deep",
            "too_long",
            "too_many_values",
            "too_short",
            "unknown_field",
            "wrong_type",
        ],
        503 => &[
            "busy",
            "database_unavailable",
            "key_store_unavailable",
            READS_BUSY,
            "took_too_long",
            "try_again",
        ],
        _ => &[],
    }
}

/// Keeps the declarations of an operation's refusals.
pub(super) fn declare(refusals: Vec<Declared>) {
    let mut known = declared();
    for refusal in refusals {
        known.entry(refusal.code).or_insert(refusal);
    }
}

fn declared() -> MutexGuard<'static, BTreeMap<&'static str, Declared>> {
    DECLARED.lock().expect("nothing panics while holding it")
}

/// `only {available} are available` as `only … are available`.
pub(super) fn without_placeholders(sentence: &str) -> String {
    let mut parts = sentence.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// `the cart is empty` as `The cart is empty.`
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let dot = if text.ends_with('.') { "" } else { "." };
    first + chars.as_str() + dot
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthenticated => "Check what you have sent to prove who you are.",
        Kind::PaymentRequired => "Use another payment method, or ask the bank.",
        Kind::Forbidden => "Do first what the sentence names; then send the request again.",
        Kind::NotFound => "Check the id, and that it belongs to this caller.",
        Kind::Conflict => "Read the resource again, and decide by its present state.",
        Kind::Changed => "Read the resource again, and send the request with its new ETag.",
        Kind::Unprocessable => "Correct the request; `errors` names the wrong fields.",
        Kind::GatewayFailed => "Nothing has changed in the shop; try again later, or ask the shop.",
        Kind::Unavailable => AGAIN,
    }
}

const AGAIN: &str =
    "Send the same request again, with the same Idempotency-Key, after the time in Retry-After.";
const TOKEN: &str = "Send Authorization: Bearer with a valid token; log in to get one.";
const FIELD: &str = "Correct the field that `errors` names, and send the request again.";
const BODY: &str = "Correct the body, and send the request again.";
const KEY: &str = "Send a new key for a new request, and the same key for a repetition.";
const DOCUMENT: &str = "See /docs for the addresses, methods and parameters.";
const OPERATOR: &str = "Ask the shop, and give the id of the operation.";

/// Code, meaning and advice of the problems that any operation may answer with.
const ANYWHERE: &[(&str, &str, &str)] = &[
    ("bad_request", "The request cannot be understood.", DOCUMENT),
    ("busy", "Another request has locked the same data.", AGAIN),
    ("card_number_not_accepted", "The text contains a card number, which is never stored.", FIELD),
    ("database_unavailable", "The database is unavailable at the moment.", AGAIN),
    ("duplicate_key", "An object in the body has the same key twice.", BODY),
    (
        "forbidden",
        "The operation is not for this kind of caller, or its key lacks a scope.",
        "Use a token of a caller whom the operation serves.",
    ),
    ("gateway_unavailable", "The payment gateway cannot be asked at the moment.", AGAIN),
    (
        "idempotency_key_required",
        "The operation moves money or stock and needs the header Idempotency-Key.",
        KEY,
    ),
    ("idempotency_key_reused", "The Idempotency-Key was used before, for another request.", KEY),
    ("incomplete_body", "The request body ended too early.", "Send the request again."),
    (
        "internal_error",
        "Something unexpected happened, which was logged under the requestId.",
        "Report the requestId to the shop.",
    ),
    (
        "invalid_character",
        "The request contains the character NUL (U+0000), which is not allowed.",
        "Leave it out.",
    ),
    ("invalid_cursor", "The cursor does not belong to this list.", "Start again without a cursor."),
    ("invalid_data", "The request body is not acceptable.", BODY),
    (
        "invalid_format",
        "A field does not have the format of its kind, such as a UUID or a time.",
        FIELD,
    ),
    ("invalid_idempotency_key", "The Idempotency-Key is not 1 to 255 printable characters.", KEY),
    (
        "invalid_parameter",
        "A parameter in the address or in a header cannot be understood.",
        DOCUMENT,
    ),
    (
        "invalid_position",
        "The position of the event stream cannot be understood.",
        "Send the id of the last event that you received.",
    ),
    ("invalid_value", "A field has a value that is not one of those it may have.", FIELD),
    ("key_store_unavailable", "The key store is unavailable at the moment.", AGAIN),
    ("malformed_json", "The request body is not JSON in UTF-8.", BODY),
    (
        "method_not_allowed",
        "The address does not know this method.",
        "Use a method that the header Allow lists.",
    ),
    ("missing_field", "A required field is missing.", FIELD),
    ("not_found", "There is nothing at this address.", DOCUMENT),
    ("operation_abandoned", "An operator has ended the operation.", OPERATOR),
    ("operation_failed", "The operation was undone.", OPERATOR),
    (
        "operation_not_found",
        "There is no such operation, or it belongs to another customer.",
        "Check the id, and that it belongs to this caller.",
    ),
    ("out_of_range", "A number is larger or smaller than it may be.", FIELD),
    ("passwords_busy", "Too many customers log in at this moment.", AGAIN),
    ("payload_too_large", "The request body is larger than 256 kB.", "Send less at a time."),
    ("payment_in_progress", "A move of this payment is under way.", AGAIN),
    ("paypal_not_offered", "This shop takes no payments by PayPal.", "Use another payment method."),
    (
        "position_forgotten",
        "The events at this position of the stream are no longer stored.",
        "Begin again with `from=oldest`.",
    ),
    (
        "precondition_failed",
        "The resource has changed since it was read.",
        "Read the resource again, and send the request with its new ETag.",
    ),
    ("problem_not_found", "No problem has this code.", DOCUMENT),
    ("rate_limited", "There were too many requests.", "Wait for the time in Retry-After."),
    (READS_BUSY, "Too many lists and searches run at this moment.", AGAIN),
    ("request_in_flight", "The first request with this Idempotency-Key is still running.", AGAIN),
    (
        "request_timeout",
        "The request took longer than 10 seconds to arrive.",
        "Send the request again.",
    ),
    ("saga_not_found", "There is no such saga.", "Check the id."),
    ("schema_not_found", "There is no such type of event.", "Check the type."),
    (
        "signature_expired",
        "The webhook was signed too long ago, or in the future.",
        "Check the clock of the sender.",
    ),
    (
        "signature_invalid",
        "The webhook's signature does not match.",
        "Check the secret that both sides use.",
    ),
    ("signature_missing", "The webhook's signature is missing or malformed.", "Sign the webhook."),
    ("stopping", "The process is about to stop.", AGAIN),
    ("token_expired", "The token has expired.", "Get a new one: log in, or ask for another mail."),
    (
        "token_in_query",
        "A token stood in the address, where logs keep it.",
        "Replace the token, and send the new one as Authorization: Bearer.",
    ),
    ("token_invalid", "The token is unknown or was revoked.", TOKEN),
    ("token_missing", "The operation needs a token.", TOKEN),
    ("too_deep", "The body is nested deeper than 32 levels.", BODY),
    ("too_long", "A text is longer than it may be.", FIELD),
    ("too_many_parked_events", "Too many events of the gateway wait for an operator.", AGAIN),
    ("too_many_streams", "The caller has too many event streams open.", "Close a stream first."),
    ("too_many_values", "The body has more than 10,000 values.", BODY),
    ("too_short", "A text is shorter than it may be.", FIELD),
    ("took_too_long", "The request took too long and was given up.", AGAIN),
    ("try_again", "The request conflicted with another one.", AGAIN),
    ("unknown_field", "The body has a field that the operation does not know.", FIELD),
    ("unknown_parameter", "The address has no such query parameter.", DOCUMENT),
    (
        "unsupported_media_type",
        "The body is not sent as application/json, in UTF-8 and uncompressed.",
        "Send the header Content-Type: application/json.",
    ),
    ("wrong_type", "A field has a value of another type.", FIELD),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_stand_once_each_in_their_order() {
        assert!(ANYWHERE.is_sorted_by(|(a, ..), (b, ..)| a < b));
    }

    #[test]
    fn each_general_code_has_a_meaning() {
        let general = (400..600).flat_map(general).collect::<Vec<_>>();
        assert!(general.len() > 10);
        for code in general {
            assert!(ANYWHERE.iter().any(|(known, ..)| known == code), "{code}");
        }
    }

    #[test]
    fn a_declared_sentence_becomes_a_sentence() {
        assert_eq!(sentence("the cart is empty"), "The cart is empty.");
        assert_eq!(sentence("There is no such customer."), "There is no such customer.");
    }
}
