//! Compares the OpenAPI document with the catalogue of commands, and with its committed copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;

/// The operations that deliberately need no token.
const FOR_ANYONE: [&str; 16] = [
    "registerCustomer",
    "verifyCustomerEmail",
    "resendVerification",
    "requestPasswordReset",
    "resetPassword",
    "logIn",
    "createGuestCart",
    "listProducts",
    "getProduct",
    "listCategories",
    "receiveGatewayWebhook",
    "receivePayPalWebhook",
    "getEventSchema",
    "getProblem",
    "health",
    "ready",
];

fn at_root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn document() -> Value {
    serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON")
}

fn catalogue() -> Value {
    let text = fs::read_to_string(at_root("tests/fixtures/catalog.json")).expect("the fixture");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

/// All operations, by id.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
    paths
        .flat_map(|methods| methods.as_object().into_iter().flat_map(|m| m.values()))
        .map(|op| (op["operationId"].as_str().unwrap_or_default().to_owned(), op.clone()))
        .collect()
}

fn names<'v>(list: impl IntoIterator<Item = &'v Value>) -> BTreeSet<String> {
    list.into_iter().filter_map(|v| v["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_command_takes_exactly_the_fields_the_catalogue_names() {
    let (document, catalogue) = (document(), catalogue());
    let mut seen = 0;
    for (id, operation) in operations(&document) {
        let commands = catalogue["commands"].as_array().expect("commands");
        let Some(command) = commands.iter().find(|c| c["operationId"] == id.as_str()) else {
            continue;
        };
        seen += 1;
        let mut wanted = names(command["required_data"].as_array().expect("fields"));
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut taken = names(parameters.filter(|p| p["in"] == "path"));
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        if let Some(name) = body.as_str().and_then(|r| r.rsplit('/').next()) {
            let properties = &document["components"]["schemas"][name]["properties"];
            taken.extend(properties.as_object().into_iter().flat_map(|p| p.keys().cloned()));
        }
        // If a product has variants, each variant has its own stock.
        if id.ends_with("Inventory") || id == "setInventoryQuantity" {
            taken.remove("variantId");
            wanted.remove("variantId");
        }
        // An id alone gives nobody a guest's cart.
        if id == "mergeGuestCart" {
            assert!(taken.remove("guestToken"), "{taken:?}");
        }
        assert_eq!(taken, wanted, "{id}");
    }
    assert!(seen > 0, "the document has none of the catalogue's commands");
}

/// The codes that an operation's answer of a status may have.
fn codes(operation: &Value, status: &str) -> BTreeSet<String> {
    let schema = &operation["responses"][status]["content"]["application/problem+json"]["schema"];
    let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
    codes.into_iter().flatten().filter_map(|code| code.as_str().map(str::to_owned)).collect()
}

#[test]
fn a_command_lists_each_failure_of_the_catalogue_under_its_status() {
    let (document, catalogue) = (document(), catalogue());
    let mut seen = 0;
    for (id, operation) in operations(&document) {
        let commands = catalogue["commands"].as_array().expect("commands");
        let Some(command) = commands.iter().find(|c| c["operationId"] == id.as_str()) else {
            continue;
        };
        for failure in command["failures"].as_array().expect("failures") {
            seen += 1;
            let code = failure["code"].as_str().expect("a code");
            let listed = codes(&operation, &failure["status"].to_string());
            assert!(listed.contains(code), "{id}: {failure} is not among {listed:?}");
        }
    }
    assert!(seen > 20, "only {seen} failures were compared");
}

#[test]
fn a_listed_failure_has_an_example_and_a_code_has_the_same_status_everywhere() {
    let mut status_of = BTreeMap::new();
    for (id, operation) in operations(&document()) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let listed = codes(&operation, status);
            if listed.is_empty() {
                continue;
            }
            let example = &response["content"]["application/problem+json"]["schema"]["example"];
            assert_eq!(example["status"].to_string(), *status, "{id}");
            assert!(listed.contains(example["code"].as_str().unwrap_or_default()), "{id}");
            assert!(example["detail"].as_str().is_some_and(|text| !text.contains('{')), "{id}");
            for code in listed {
                let known = status_of.entry(code.clone()).or_insert_with(|| status.clone());
                assert_eq!(known, status, "{id}: {code}");
            }
        }
    }
    assert!(status_of.len() > 20, "{status_of:?}");
}

#[test]
fn every_operation_has_an_id_a_summary_a_caller_and_the_problem_answer() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (id, operation) in operations(&document) {
        assert!(!id.is_empty(), "{operation}");
        assert!(ids.insert(id.clone()), "{id} twice");
        assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{id}");
        let needed = operation["security"].as_array().into_iter().flatten();
        let declared = needed.clone().next().is_some()
            && needed.clone().all(|one| one.as_object().is_some_and(|one| !one.is_empty()));
        assert_eq!(declared, !FOR_ANYONE.contains(&id.as_str()), "{id}: who may call it?");
        let problem = &operation["responses"]["default"]["content"];
        assert!(problem["application/problem+json"].is_object(), "{id}");
    }
}

/// The operations on money and stock.
const NEED_A_KEY: [&str; 9] = [
    "placeOrder",
    "cancelOrder",
    "shipOrder",
    "authorizePayment",
    "refundPayment",
    "initiatePayPal",
    "adjustInventory",
    "reserveInventory",
    "releaseInventory",
];

#[test]
fn headers_stand_under_the_names_they_are_sent_by_and_money_and_stock_need_a_key() {
    for (id, operation) in operations(&document()) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let headers: Vec<&Value> = parameters.filter(|p| p["in"] == "header").collect();
        for header in &headers {
            let name = header["name"].as_str().unwrap_or_default();
            let known = ["Idempotency-Key", "If-Match", "Prefer", "Last-Event-ID"];
            assert!(known.contains(&name), "{id}: {name}");
        }
        let key = headers.iter().find(|header| header["name"] == "Idempotency-Key");
        let needed = key.is_some_and(|key| key["required"] == true);
        assert_eq!(needed, NEED_A_KEY.contains(&id.as_str()), "{id}");
    }
}

/// The words of a field in the document.
fn words(document: &Value, schema: &str, field: &str) -> BTreeSet<String> {
    let schemas = &document["components"]["schemas"];
    let mut field = &schemas[schema]["properties"][field];
    if let Some(name) = field["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        field = &schemas[name];
    }
    let words = field["enum"].as_array().into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The words that a constraint of the database allows.
fn stored(constraint: &str) -> BTreeSet<String> {
    let schema = fs::read_to_string(at_root("migrations/schema.sql")).expect("the schema");
    let line = schema.lines().find(|line| line.contains(&format!("CONSTRAINT {constraint} CHECK")));
    let allowed =
        line.unwrap_or_else(|| panic!("{constraint}")).split_once(" = ANY ").expect("a list").1;
    let plain = allowed.replace("::text[]", "").replace("::text", "").replace("ARRAY", "");
    let words = plain.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_status_has_in_the_document_the_words_that_the_database_may_store() {
    let document = document();
    for (schema, field, constraint) in [
        ("Order", "status", "an_order_status_is_known"),
        ("OrderPayment", "status", "a_payment_state_is_known"),
        ("Payment", "status", "a_payment_state_is_known"),
        ("PaymentTransaction", "kind", "a_move_of_money_is_known"),
        ("PaymentTransaction", "state", "a_transaction_state_is_known"),
        ("PaymentMethod", "kind", "a_method_kind_is_known"),
        ("PaymentMethod", "status", "an_approval_state_is_known"),
        ("Product", "status", "a_product_status_is_known"),
        ("StockChange", "change", "an_inventory_change_is_known"),
        ("Saga", "status", "the_status_is_known"),
        ("SagaDetails", "status", "the_status_is_known"),
        ("Effect", "status", "the_effect_status_is_known"),
    ] {
        assert_eq!(words(&document, schema, field), stored(constraint), "{schema}.{field}");
    }
    for (schema, listed) in document["components"]["schemas"].as_object().expect("schemas") {
        let properties = listed["properties"].as_object().into_iter().flatten();
        for (field, property) in properties {
            if field == "status" && property["type"] != "integer" {
                assert!(!words(&document, schema, field).is_empty(), "{schema}.status is any text");
            }
        }
    }
}

#[test]
fn a_body_has_no_other_fields_than_the_document_names() {
    let document = document();
    let mut seen = 0;
    for (id, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        if let Some(name) = body.as_str().and_then(|r| r.rsplit('/').next()) {
            seen += 1;
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{id}: {name}");
        }
    }
    assert!(seen > 20, "only {seen} bodies");
    assert_eq!(document["components"]["schemas"]["Money"]["additionalProperties"], false);
    assert!(!document.to_string().contains(r#""type":"never""#));
}

#[test]
fn a_parameter_is_required_only_if_a_request_without_it_is_refused() {
    let document = document();
    for (id, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|p| p["in"] == "query") {
            assert_eq!(parameter["required"], false, "{id}: {}", parameter["name"]);
        }
    }
    assert_eq!(document["servers"][0]["url"], "/");
}

#[test]
fn the_committed_document_is_the_one_the_program_serves() {
    let path = at_root("docs/openapi.json");
    let served = stepwise::routes::document() + "\n";
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        fs::write(&path, &served).expect("docs/ is writable");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == served,
        "docs/openapi.json is out of date: run the test with STEPWISE_UPDATE=1 and commit it"
    );
}

/// Whether the example has what the schema says, as far as this page needs it.
fn fits(schemas: &Value, schema: &Value, example: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next()) {
        return fits(schemas, &schemas[name], example);
    }
    let required = schema["required"].as_array().into_iter().flatten();
    let has_all = required.filter_map(Value::as_str).all(|name| !example[name].is_null());
    let fields = schema["properties"].as_object().into_iter().flatten();
    let all_fit = fields
        .filter(|(name, _)| example.get(name.as_str()).is_some())
        .all(|(name, field)| fits(schemas, field, &example[name.as_str()]));
    let is_word = schema["enum"].as_array().is_none_or(|words| words.contains(example));
    let is_typed = match schema["type"].as_str() {
        Some("object") => example.is_object(),
        Some("array") => example.is_array(),
        Some("integer") => example.is_i64() || example.is_u64(),
        Some("boolean") => example.is_boolean(),
        Some("string") => example.is_string(),
        _ => true,
    };
    has_all && all_fit && is_word && is_typed
}

#[test]
fn every_json_body_and_answer_has_an_example_that_fits_its_schema() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let mut found = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let answers = operation["responses"].as_object().expect("responses");
            let answers = answers.iter().filter(|(status, _)| status.starts_with('2'));
            let bodies = answers.map(|(_, answer)| answer).chain([&operation["requestBody"]]);
            for body in bodies {
                let content = &body["content"]["application/json"];
                if content.is_null() {
                    continue;
                }
                let example = &content["example"];
                assert!(!example.is_null(), "{method} {path} has no example");
                let is_right = fits(schemas, &content["schema"], example);
                assert!(is_right, "{method} {path}: {example}");
                found += 1;
            }
        }
    }
    assert!(found > 60, "only {found} examples");
}
