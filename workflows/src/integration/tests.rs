use std::collections::BTreeSet;

use super::*;
use crate::{money::Currency, privacy::CustomerKey};

/// One of each, with the catalogue's name.
fn samples() -> Vec<(&'static str, Notification)> {
    let (id, money) = (Uuid::now_v7(), Money::zero(Currency::USD));
    let reason = Sealed::new(&CustomerKey::random(), id, "reason", &"changed my mind");
    vec![
        (
            "OrderPlacedNotification",
            Notification::OrderPlaced(OrderPlacedNotification {
                order_id: id,
                order_number: "ORD-20260101-ABCDEF".into(),
                customer_id: id,
                total_amount: money,
                item_count: 1,
            }),
        ),
        (
            "OrderCancelledNotification",
            Notification::OrderCancelled(OrderCancelledNotification {
                order_id: id,
                order_number: "ORD-20260101-ABCDEF".into(),
                customer_id: id,
                reason,
                refund_amount: money,
            }),
        ),
        (
            "PaymentFailedNotification",
            Notification::PaymentFailed(PaymentFailedNotification {
                order_id: id,
                customer_id: id,
                amount: money,
                failure_reason: "insufficient_funds".into(),
            }),
        ),
        (
            "RefundProcessedNotification",
            Notification::RefundProcessed(RefundProcessedNotification {
                order_id: id,
                customer_id: id,
                refund_amount: money,
                refund_id: "re_1".into(),
            }),
        ),
    ]
}

#[test]
fn every_notification_has_exactly_the_catalogues_payload_and_routing_key() {
    let catalogue: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/catalog.json"))
            .expect("the catalogue is JSON");
    let listed = catalogue["integration_events"].as_array().expect("a list");
    for (name, notification) in samples() {
        let wanted = listed.iter().find(|event| event["name"] == name).expect("it is listed");
        let fields: BTreeSet<_> = wanted["payload"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let payload = notification.payload();
        let ours: BTreeSet<_> =
            payload.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(ours, fields, "{name}");
        assert_eq!(wanted["routing_key"], notification.kind(), "{name}");
        assert_eq!(wanted["cloudevent_type"], notification.kind(), "{name}");
    }
}
