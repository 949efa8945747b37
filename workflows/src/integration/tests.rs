use std::collections::BTreeSet;

use super::*;
use crate::{money::Currency, privacy::CustomerKey};

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Events that the shop adds to the catalogue's.
const ADDED: [&str; 1] = ["CustomerErasedNotification"];

#[test]
fn every_notification_has_exactly_the_catalogues_payload_and_routing_key() {
    let catalogue: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/catalog.json"))
            .expect("the catalogue is JSON");
    let listed = catalogue["integration_events"].as_array().expect("a list");
    let ours = Notification::ALL.iter().filter(|(name, _)| !ADDED.contains(name));
    for (name, kind) in ours {
        let wanted = listed.iter().find(|event| event["name"] == *name).expect("it is listed");
        let fields: BTreeSet<_> = wanted["payload"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let schema = Notification::schema(kind).expect("it has a schema");
        assert_eq!(keys(&schema["properties"]), fields, "{name}");
        assert_eq!(schema["title"], *name);
        assert_eq!(wanted["routing_key"], *kind, "{name}");
        assert_eq!(wanted["cloudevent_type"], *kind, "{name}");
    }
    assert_eq!(Notification::schema("shop.order.placed.v2"), None);
}

#[test]
fn a_schema_lets_a_later_release_add_a_field() {
    for (name, kind) in Notification::ALL {
        let schema = Notification::schema(kind).expect("it has a schema").to_string();
        assert!(!schema.contains("additionalProperties"), "{name}: {schema}");
    }
}

#[test]
fn a_payload_has_the_fields_of_its_schema_and_says_for_whom_it_is_sealed() {
    let (order_id, customer_id) = (Uuid::now_v7(), Uuid::now_v7());
    let cancelled = Notification::OrderCancelled {
        order_id,
        order_number: "ORD-20260101-ABCDEF".into(),
        customer_id,
        reason: Sealed::new(&CustomerKey::random(), customer_id, "reason", &"changed my mind"),
        refund_amount: Money::zero(Currency::USD),
    };
    let schema = Notification::schema(cancelled.kind()).expect("it has one");
    assert_eq!(keys(&cancelled.payload()), keys(&schema["properties"]));
    assert_eq!(schema["type"], serde_json::json!(["object", "null"]), "null after erasure");
    let forms = &schema["properties"]["reason"]["anyOf"];
    assert_eq!(forms[0]["type"], "string", "partners get it in plain");
    assert_eq!(forms[1]["required"], serde_json::json!(["sealed"]), "the archive holds it sealed");
    let sealed = cancelled.payload()["reason"].clone();
    assert_eq!(keys(&sealed), keys(&forms[1]["properties"]), "{sealed}");
    assert_eq!(cancelled.sealed_for(), Some(customer_id));
    assert_eq!(cancelled.subject(), Subject::Order(order_id));
    let failed = Notification::PaymentFailed {
        order_id,
        customer_id,
        amount: Money::zero(Currency::USD),
        failure_reason: "insufficient_funds".into(),
    };
    assert_eq!(failed.sealed_for(), None);
    assert_eq!(failed.source(), "/stepwise/payment");
    assert_eq!(Notification::schema(failed.kind()).expect("it has one")["type"], "object");
}

#[test]
fn the_news_of_a_registration_is_about_the_customer_and_sealed() {
    let (customer_id, key) = (Uuid::now_v7(), CustomerKey::random());
    let registered = Notification::CustomerRegistered {
        customer_id,
        email: Sealed::new(&key, customer_id, "email", &"ada@example.org"),
        first_name: Sealed::new(&key, customer_id, "firstName", &"Ada"),
    };
    assert_eq!(registered.subject(), Subject::Customer(customer_id));
    assert_eq!(registered.sealed_for(), Some(customer_id));
    let payload = registered.payload();
    let schema = Notification::schema(registered.kind()).expect("it has one");
    assert_eq!(keys(&payload), keys(&schema["properties"]));
    assert!(!payload.to_string().contains("ada@"), "{payload}");
}
