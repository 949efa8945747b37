//! Completes the OpenAPI document that is generated from the code: an example of each body and answer, made of the same schemas, the
//! licence, and the explicit statement that an operation needs no token.

use serde_json::{Map, Value, json};

/// How deep an example nests.
const DEEPEST: usize = 8;

/// Completes this document.
pub(crate) fn complete(mut document: Value) -> Value {
    document["info"]["license"] = json!({
        "name": "Apache 2.0",
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
    });
    let mut schemas = document["components"]["schemas"].take();
    name_nullable_type(&mut schemas);
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let methods = paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for operation in methods {
        if operation["security"].is_null() {
            operation["security"] = json!([]);
        }
        if let Some(body) = operation.get_mut("requestBody") {
            add_examples(&schemas, body);
        }
        let answers = operation["responses"].as_object_mut().into_iter().flatten();
        for (_, answer) in answers.filter(|(status, _)| status.starts_with('2')) {
            add_examples(&schemas, answer);
        }
    }
    document["components"]["schemas"] = schemas;
    document
}

/// Names the type where a schema says `nullable` and refers to an object for the rest: without a type the word has no meaning.
fn name_nullable_type(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("nullable") == Some(&json!(true)) && !fields.contains_key("type") {
                fields.insert("type".to_owned(), json!("object"));
            }
            fields.values_mut().for_each(name_nullable_type);
        }
        Value::Array(parts) => parts.iter_mut().for_each(name_nullable_type),
        _ => {}
    }
}

/// Adds an example to each form of a body that has a schema of JSON and no example.
fn add_examples(schemas: &Value, body: &mut Value) {
    let forms = body.get_mut("content").and_then(Value::as_object_mut);
    for (kind, content) in forms.into_iter().flatten() {
        if kind == "application/json" && content.get("example").is_none() {
            content["example"] = example(schemas, "", &content["schema"], 0);
        }
    }
}

/// A value that fits the schema. `name` is the name of the field that has the value.
fn example(schemas: &Value, name: &str, schema: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(sample) = schema.get("example") {
        return sample.clone();
    }
    let referred = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next());
    if let Some(referred) = referred {
        return match referred {
            "Money" => json!({"amount": "49.99", "currency": "USD"}),
            _ => example(schemas, name, &schemas[referred], depth + 1),
        };
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().map(|part| example(schemas, name, part, depth + 1));
        let objects = parts.filter_map(|part| part.as_object().cloned());
        return Value::Object(objects.flatten().collect());
    }
    let choices = ["oneOf", "anyOf"].iter().find_map(|choice| schema[choice].as_array()?.first());
    if let Some(choice) = choices {
        return example(schemas, name, choice, depth + 1);
    }
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields
                .map(|(name, field)| (name.clone(), example(schemas, name, field, depth + 1)));
            Value::Object(fields.collect())
        }
        Some("array") => json!([example(schemas, name, &schema["items"], depth + 1)]),
        Some("integer") => schema["minimum"].as_f64().map_or(json!(1), |least| json!(least as i64)),
        Some("number") => json!(1),
        Some("boolean") => json!(true),
        Some("string") => json!(text(name, schema["format"].as_str())),
        _ => json!({}),
    }
}

/// A text as it may stand in the field of this name.
fn text(name: &str, format: Option<&str>) -> &'static str {
    match format {
        Some("uuid") => return "01976d2c-6b1e-7c3a-9d55-2f6a3c1e8b70",
        Some("date-time") => return "2026-03-14T15:09:26Z",
        _ => {}
    }
    match name {
        "amount" => "49.99",
        "currency" => "USD",
        "email" => "ada@example.org",
        "password" => "a lantern hums over wet slate",
        "firstName" => "Ada",
        "lastName" => "Lovelace",
        "recipientName" => "Ada Lovelace",
        "street" => "1 Analytical Way",
        "city" => "San Francisco",
        "state" => "CA",
        "postalCode" => "94103",
        "country" => "US",
        "token" => "pm_sandbox_ok",
        "brand" => "visa",
        "last4" => "4242",
        "name" => "Espresso cups",
        "description" => "Four cups of white porcelain.",
        "orderNumber" => "ORD-2026-0000000042",
        "trackingNumber" => "1Z999AA10123456784",
        "carrier" => "UPS",
        "reason" | "verbReason" => "changed my mind",
        "returnUrl" => "https://shop.example/thanks",
        "cancelUrl" => "https://shop.example/cart",
        "url" => "https://shop.example/approve",
        "verificationToken" | "guestToken" => "kf2nJ4u0r8cQm1Z6y3x9w5v7t0s2a4b6c8d0e2f4g6h",
        "nextCursor" => "c2VhbGVkIGJ5IHRoZSBzaG9w",
        _ => "text",
    }
}
