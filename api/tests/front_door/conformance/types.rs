//! The types of the catalogue, as JSON.

use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

/// Fields that are null where there is nothing to name.
const NULLABLE: [&str; 2] = ["variantId", "parentCategoryId"];

/// Whether a value is of this type of the catalogue.
pub(super) fn fits(name: &str, kind: &str, value: &Value) -> bool {
    let is_text = value.as_str().is_some_and(|text| !text.is_empty());
    match kind {
        "UUID" if value.is_null() => NULLABLE.contains(&name),
        "UUID" => is_uuid(value),
        "Email" => value.as_str().is_some_and(|text| text.contains('@')),
        "string" => is_text,
        "integer" => value.is_i64(),
        "DateTime" => value
            .as_str()
            .is_some_and(|text| text.ends_with('Z') && DateTime::parse_from_rfc3339(text).is_ok()),
        "Money" => is_money(value),
        "Address" => {
            has(value, &["city", "country", "postalCode", "recipientName", "state", "street"])
        }
        "array" => is_list(name, value),
        "object" => value.as_object().is_some_and(|changes| {
            !changes.is_empty() && changes.values().all(|change| has(change, &["new", "old"]))
        }),
        other => panic!("the catalogue has a new type {other}"),
    }
}

/// Whether a value fits one field of a JSON schema of a notification.
pub(super) fn fits_schema(schema: &Value, value: &Value) -> bool {
    // A personal field has two forms: plain, as partners get it, and sealed, as the archive holds it.
    if let Some(forms) = schema["anyOf"].as_array() {
        return fits_schema(&forms[0], value);
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("uuid")) => is_uuid(value),
        (Some("string"), _) => value.as_str().is_some_and(|text| !text.is_empty()),
        (Some("integer"), _) => value.is_i64(),
        (Some("object"), _) => is_money(value),
        other => panic!("a schema has a new type {other:?}"),
    }
}

fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<Uuid>().is_ok())
}

/// An amount with exactly the digits of the shop's currency.
fn is_money(value: &Value) -> bool {
    let amount = value["amount"].as_str().and_then(|amount| amount.split_once('.'));
    let has_cents = amount.is_some_and(|(whole, cents)| {
        let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        digits(whole) && digits(cents) && cents.len() == 2
    });
    has(value, &["amount", "currency"]) && has_cents && value["currency"] == "USD"
}

/// Whether it is an object with exactly these fields, which are sorted.
fn has(value: &Value, fields: &[&str]) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.keys().map(String::as_str).eq(fields.iter().copied()))
}

/// A list with at least one element of its form.
fn is_list(name: &str, value: &Value) -> bool {
    let fields: &[&str] = match name {
        "lineItems" => &["lineTotal", "name", "productId", "quantity", "unitPrice", "variantId"],
        "mergedItems" => &["capped", "productId", "quantity", "variantId"],
        other => panic!("the catalogue has a new list {other}"),
    };
    let items = value.as_array();
    items.is_some_and(|items| !items.is_empty() && items.iter().all(|item| has(item, fields)))
}

#[test]
fn a_value_of_another_type_does_not_fit() {
    let money = |amount: &str| serde_json::json!({"amount": amount, "currency": "USD"});
    assert!(fits("price", "Money", &money("9.99")));
    for amount in ["9.9", "9.999", "9", "-1.00", ""] {
        assert!(!fits("price", "Money", &money(amount)), "{amount}");
    }
    for (name, kind, value) in [
        ("orderId", "UUID", Value::Null),
        ("quantity", "integer", Value::from("1")),
        ("createdAt", "DateTime", Value::from("2026-01-01T00:00:00+01:00")),
        ("lineItems", "array", Value::Array(Vec::new())),
        ("reason", "string", Value::from("")),
    ] {
        assert!(!fits(name, kind, &value), "{name}");
    }
    assert!(fits("variantId", "UUID", &Value::Null));
}
