use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::json;

use super::*;

struct Keys(HashMap<Uuid, Option<CustomerKey>>);

#[async_trait]
impl KeyStore for Keys {
    async fn create_many(&self, _: &[Uuid]) -> Result<Vec<CustomerKey>, KeyStoreError> {
        Err(KeyStoreError::Destroyed)
    }

    async fn get(&self, customer_id: Uuid) -> Result<Option<CustomerKey>, KeyStoreError> {
        self.0.get(&customer_id).cloned().ok_or(KeyStoreError::Missing(customer_id))
    }

    async fn destroy(&self, _: Uuid) -> Result<bool, KeyStoreError> {
        Err(KeyStoreError::Destroyed)
    }
}

fn outgoing(data: Value, sealed_for: Option<Uuid>) -> Outgoing {
    Outgoing {
        shard: 7,
        subject: "0199a000-0000-7000-8000-000000000001".into(),
        sequence: 3,
        type_sequence: Some(1),
        message_id: Uuid::from_u128(0x0199_a000_0000_7000_8000_0000_0000_0002),
        kind: "shop.order.cancelled.v1".into(),
        routing_key: "shop.order.cancelled.v1".into(),
        source: "/stepwise/order".into(),
        data: data.to_string(),
        sealed_for,
        correlation: Some("saga-1".into()),
        causation: None,
        traceparent: None,
        happened_at: DateTime::from_timestamp(1_767_225_600, 5_000_000).expect("in range"),
    }
}

#[tokio::test]
async fn an_event_has_the_attributes_partners_rely_on() {
    let envelopes = Envelopes::new(Arc::new(Keys(HashMap::new())), "http://shop.test/");
    let event = envelopes.wrap(&outgoing(json!({ "trackingNumber": null }), None)).await;
    let shown = serde_json::to_value(event.expect("nothing is sealed")).expect("JSON");
    assert_eq!(
        shown,
        json!({
            "specversion": "1.0",
            "id": "0199a000-0000-7000-8000-000000000002",
            "source": "/stepwise/order",
            "type": "shop.order.cancelled.v1",
            "subject": "0199a000-0000-7000-8000-000000000001",
            "time": "2026-01-01T00:00:00.005000Z",
            "datacontenttype": "application/json",
            "dataschema": "http://shop.test/schemas/shop.order.cancelled.v1",
            "sequence": "0000000003",
            "sequencetype": "Integer",
            "typesequence": "0000000001",
            "correlationid": "saga-1",
            "data": { "trackingNumber": null },
        })
    );
}

#[tokio::test]
async fn personal_fields_are_opened_and_vanish_with_the_key() {
    let (person, key) = (Uuid::now_v7(), CustomerKey::random());
    let sealed = privacy::seal(&key, person, "reason", br#""changed my mind""#);
    let message = outgoing(json!({ "reason": { "sealed": sealed }, "orderId": "1" }), Some(person));
    let envelopes =
        Envelopes::new(Arc::new(Keys(HashMap::from([(person, Some(key))]))), "http://shop.test/");
    let event = envelopes.wrap(&message).await.expect("the key is there");
    assert_eq!(event.data, json!({ "reason": "changed my mind", "orderId": "1" }));
    assert!(!event.erased);

    let forgotten =
        Envelopes::new(Arc::new(Keys(HashMap::from([(person, None)]))), "http://shop.test/");
    let shown = serde_json::to_value(forgotten.wrap(&message).await.expect("no key, no data"));
    let shown = shown.expect("JSON");
    assert_eq!((&shown["data"], &shown["erased"]), (&Value::Null, &Value::Bool(true)));
    assert_eq!(
        (&shown["id"], &shown["sequence"]),
        (&json!(message.message_id), &json!("0000000003"))
    );
}

#[tokio::test]
async fn a_person_whose_key_this_store_never_held_is_not_published_as_erased() {
    let message = outgoing(json!({ "orderId": "1" }), Some(Uuid::now_v7()));
    let elsewhere = Envelopes::new(Arc::new(Keys(HashMap::new())), "http://shop.test/");
    let refused = elsewhere.wrap(&message).await.expect_err("nobody has erased them");
    assert!(matches!(refused, EnvelopeError::Keys(KeyStoreError::Missing(_))), "{refused}");
}

#[tokio::test]
async fn a_value_moved_to_another_field_or_person_is_not_shown() {
    let (person, key) = (Uuid::now_v7(), CustomerKey::random());
    let sealed = privacy::seal(&key, person, "reason", br#""private""#);
    let moved = outgoing(json!({ "orderNumber": { "sealed": sealed } }), Some(person));
    let envelopes =
        Envelopes::new(Arc::new(Keys(HashMap::from([(person, Some(key))]))), "http://shop.test/");
    let refused = envelopes.wrap(&moved).await.expect_err("bound to another field");
    assert!(matches!(refused, EnvelopeError::Sealed { field } if field == "orderNumber"));
}
