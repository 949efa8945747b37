//! JSON schemas of the data of integration events, made from the types of their fields.
//!
//! The schemas are open: a later release may add a field, and partners ignore fields that they do not know.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{events::Sealed, money::Money};

/// The type of a field in JSON.
pub(super) trait Schema {
    /// Its schema.
    fn schema() -> Value;
}

impl Schema for Uuid {
    fn schema() -> Value {
        json!({ "type": "string", "format": "uuid" })
    }
}

impl Schema for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Schema for DateTime<Utc> {
    fn schema() -> Value {
        json!({ "type": "string", "format": "date-time" })
    }
}

impl Schema for i32 {
    fn schema() -> Value {
        json!({ "type": "integer" })
    }
}

impl Schema for Money {
    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "amount": { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" },
                "currency": { "type": "string", "pattern": "^[A-Z]{3}$" },
            },
            "required": ["amount", "currency"],
        })
    }
}

/// Partners get it in plain; the archive holds it sealed.
impl Schema for Sealed {
    fn schema() -> Value {
        json!({
            "anyOf": [
                String::schema(),
                {
                    "type": "object",
                    "properties": { "sealed": String::schema() },
                    "required": ["sealed"],
                },
            ],
        })
    }
}

/// The name of a field, and what makes the schema of its type.
type Field = (&'static str, fn() -> Value);

/// The schema of the data of one type. Data about a person who was erased is null.
pub(super) fn of_data(name: &str, fields: &[Field], is_about_a_person: bool) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| (camel_case(name), schema())).collect();
    let required: Vec<&String> = properties.keys().collect();
    let kind = if is_about_a_person { json!(["object", "null"]) } else { json!("object") };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": kind,
        "required": required,
        "properties": properties,
    })
}

/// The name of a field as it is written in JSON.
fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}
