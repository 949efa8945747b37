//! The values that no field takes, by the schema of the field.

use serde_json::{Value, json};

/// The place of a lone surrogate in a body, which serde_json cannot write.
const LONE: &str = "a lone surrogate";

/// A wrong value of a field, and the name of the case.
pub(super) struct Wrong {
    pub(super) case: &'static str,
    pub(super) value: Value,
}

fn wrong(case: &'static str, value: Value) -> Wrong {
    Wrong { case, value }
}

/// The schema itself, where this is a reference to it.
pub(super) fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let parts = schema["allOf"].as_array().and_then(|parts| parts.first());
    let schema = parts.unwrap_or(schema);
    match schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        Some(name) => &document["components"]["schemas"][name],
        None => schema,
    }
}

/// A value of the right type for a field of this schema.
pub(super) fn right(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("integer"), _) => json!(1),
        (Some("string"), Some("uuid")) => json!(uuid::Uuid::now_v7()),
        (Some("string"), _) => json!("some text"),
        (Some("boolean"), _) => json!(true),
        _ => json!({"amount": "1.00", "currency": "USD"}),
    }
}

/// Everything that is wrong for a field of this schema.
pub(super) fn of(document: &Value, schema: &Value, is_required: bool) -> Vec<Wrong> {
    let schema = resolved(document, schema);
    let mut values = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("integer"), _) => numbers(),
        (Some("string"), Some("uuid")) => ids(),
        (Some("string"), _) => texts(),
        (Some("boolean"), _) => vec![wrong("a text", json!("true")), wrong("a number", json!(1))],
        (Some("object"), _) => amounts(),
        other => panic!("there are no wrong values of {other:?}: {schema}"),
    };
    values.push(wrong("a list", json!([])));
    if is_required {
        values.push(wrong("null", Value::Null));
    }
    values
}

fn numbers() -> Vec<Wrong> {
    vec![
        wrong("0", json!(0)),
        wrong("-1", json!(-1)),
        wrong("2^31", json!(1_u64 << 31)),
        wrong("-2^31-1", json!(-(1_i64 << 31) - 1)),
        wrong("2^63", json!(1_u64 << 63)),
        wrong("1.5", json!(1.5)),
        wrong("a text", json!("2")),
        wrong("an object", json!({})),
    ]
}

fn ids() -> Vec<Wrong> {
    vec![
        wrong("no id", json!("no-id")),
        wrong("an empty text", json!("")),
        wrong("a longer id", json!("0197a0a0-0000-7000-8000-0000000000000")),
        wrong("NUL", json!("0197a0a0-0000-7000-8000-00000000000\u{0}")),
        wrong("a number", json!(2)),
    ]
}

fn texts() -> Vec<Wrong> {
    vec![
        wrong("a number", json!(2)),
        wrong("an empty text", json!("")),
        wrong("10,000 characters", json!("x".repeat(10_000))),
        wrong("NUL", json!("a\u{0}b")),
        wrong("right to left", json!("a\u{202e}b")),
        wrong("a lone surrogate", json!(LONE)),
    ]
}

fn amounts() -> Vec<Wrong> {
    let money = |amount: Value, currency: Value| json!({"amount": amount, "currency": currency});
    vec![
        wrong("too many digits", money(json!("1.001"), json!("USD"))),
        wrong("an exponent", money(json!("1e3"), json!("USD"))),
        wrong("a negative amount", money(json!("-1.00"), json!("USD"))),
        wrong("nothing", money(json!("0.00"), json!("USD"))),
        wrong("no number", money(json!("NaN"), json!("USD"))),
        wrong("an empty amount", money(json!(""), json!("USD"))),
        wrong("more than fits", money(json!("9".repeat(20)), json!("USD"))),
        wrong("a long amount", money(json!("1".repeat(10_000)), json!("USD"))),
        wrong("other digits", money(json!("\u{661}.00"), json!("USD"))),
        wrong("a number", money(json!(1), json!("USD"))),
        wrong("another currency", money(json!("1.00"), json!("EUR"))),
        wrong("no currency", money(json!("1.00"), json!("???"))),
        wrong("a small currency", money(json!("1.00"), json!("usd"))),
        wrong("a currency missing", json!({"amount": "1.00"})),
        wrong("a field too many", json!({"amount": "1.00", "currency": "USD", "cents": 1})),
        wrong("a plain text", json!("1.00")),
    ]
}

/// The text of a body with its lone surrogate.
pub(super) fn written(body: &Value) -> String {
    body.to_string().replace(LONE, "\\ud800")
}

/// Ids for a path that lead nowhere.
pub(super) fn of_path() -> Vec<String> {
    let fixed = ["1", "no-id", "%00", "%2e%2e%2f", "%ff", "%F0%9F%A6%80", "a'b\"c--", "-1"];
    let mut ids: Vec<String> = fixed.into_iter().map(str::to_owned).collect();
    ids.push("9".repeat(5_000));
    ids.push("0197a0a0-0000-7000-8000-0000000000000".to_owned());
    ids.push(uuid::Uuid::now_v7().to_string());
    ids
}
