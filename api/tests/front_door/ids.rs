//! One rule names the ids in answers: a resource's own id is `id`, the id of another thing is `<thing>Id`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// References that carry another name in the contract: a saga's parent, and the caller who changed a stock.
const OTHER_REFERENCES: [&str; 2] = ["parent", "actor"];

fn document() -> Value {
    serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON")
}

/// Adds the names of all schemas to which `value` refers, directly or through other schemas.
fn collect_schemas(document: &Value, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => {
            values.iter().for_each(|value| collect_schemas(document, value, names));
        }
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str)
                && let Some(name) = name.strip_prefix("#/components/schemas/")
                && names.insert(name.to_owned())
            {
                collect_schemas(document, &document["components"]["schemas"][name], names);
            }
            fields.values().for_each(|value| collect_schemas(document, value, names));
        }
        _ => {}
    }
}

fn properties(document: &Value, schema: &str) -> Map<String, Value> {
    let properties = &document["components"]["schemas"][schema]["properties"];
    properties.as_object().cloned().unwrap_or_default()
}

/// The faults of one schema's properties. `PaymentMethod` has no `paymentMethodId` or `methodId`, and an id ends in `Id`.
fn faults(schema: &str, properties: &Map<String, Value>) -> Vec<String> {
    let schema_name = schema.to_lowercase();
    let mut faults = Vec::new();
    for (name, property) in properties {
        let is_id = property["format"] == "uuid";
        let thing = name.strip_suffix("Id").map(str::to_lowercase);
        match thing {
            Some(thing) if schema_name.ends_with(&thing) => {
                faults.push(format!("{schema}.{name}: its own id is called id"));
            }
            None if is_id && name != "id" && !OTHER_REFERENCES.contains(&name.as_str()) => {
                faults.push(format!("{schema}.{name}: the id of another thing ends in Id"));
            }
            _ => {}
        }
    }
    faults
}

#[test]
fn an_answer_calls_its_own_id_id_and_each_other_id_by_the_thing() {
    let document = document();
    let mut answered = BTreeSet::new();
    let mut ids = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            for (status, answer) in operation["responses"].as_object().expect("responses") {
                if !status.starts_with('2') {
                    continue;
                }
                collect_schemas(&document, answer, &mut answered);
                // The answer at a resource's own address has the id that the address ends in.
                let schema = &answer["content"]["application/json"]["schema"]["$ref"];
                let Some(schema) = schema.as_str().and_then(|name| name.rsplit('/').next()) else {
                    continue;
                };
                if method == "get" && path.ends_with("Id}") {
                    ids += 1;
                    assert!(properties(&document, schema).contains_key("id"), "{path}: {schema}");
                }
            }
        }
    }
    assert!(ids > 5, "only {ids} addresses of resources were compared");
    assert!(answered.len() > 30, "{answered:?}");
    let wrong: Vec<_> =
        answered.iter().flat_map(|schema| faults(schema, &properties(&document, schema))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_second_name_for_a_resource_s_own_id_is_a_fault() {
    let uuid = serde_json::json!({ "type": "string", "format": "uuid" });
    for (schema, name, wrong) in [
        ("PaymentMethod", "paymentMethodId", true),
        ("ShippingAddress", "addressId", true),
        ("Cart", "cartId", true),
        ("Cart", "product", true),
        ("Cart", "id", false),
        ("Cart", "customerId", false),
    ] {
        let properties = Map::from_iter([(name.to_owned(), uuid.clone())]);
        assert_eq!(!faults(schema, &properties).is_empty(), wrong, "{schema}.{name}");
    }
}
