use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::*;

fn catalogue() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/catalog.json"))
        .expect("the catalogue is JSON")
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| camel + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn every_event_of_the_catalogue_has_exactly_its_fields_with_its_types() {
    let catalogue = catalogue();
    let listed = catalogue["domain_events"].as_array().expect("a list");
    assert_eq!(DomainEvent::ALL.len(), listed.len());
    for wanted in listed {
        let name = wanted["name"].as_str().expect("a name");
        let (_, aggregate, fields) = DomainEvent::ALL
            .iter()
            .find(|(candidate, ..)| *candidate == name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(wanted["aggregate"], *aggregate, "{name}");
        let payload = wanted["payload"].as_array().expect("a list");
        let names: BTreeSet<_> =
            payload.iter().map(|field| field["name"].as_str().expect("a name")).collect();
        let ours: Vec<_> = fields.iter().map(|(field, _)| camel(field)).collect();
        assert_eq!(ours.iter().map(String::as_str).collect::<BTreeSet<_>>(), names, "{name}");
        for field in payload {
            let (field, written) = (&field["name"], field["type"].as_str().expect("a type"));
            let (_, ours) = fields
                .iter()
                .find(|(candidate, _)| camel(candidate) == *field)
                .expect("names were compared above");
            let fits: &[&str] = match written {
                "UUID" => &["Uuid", "Option<Uuid>"],
                "DateTime" => &["Time"],
                "Money" => &["Money"],
                "integer" => &["i32"],
                "string" => &["String", "&'static str", "Sealed"],
                "Email" | "Address" => &["Sealed"],
                "array" => &["Vec<LineItem>", "Vec<MergedItem>"],
                "object" => &["BTreeMap<&'static str, Change>"],
                other => panic!("{name}: the catalogue has a new type {other}"),
            };
            assert!(fits.contains(ours), "{name}.{field}: {ours} is not {written}");
        }
    }
}

#[test]
fn a_payload_is_written_in_the_catalogues_names_and_absent_fields_are_null() {
    let id = Uuid::now_v7();
    let event = DomainEvent::ItemRemovedFromCart {
        cart_id: id,
        product_id: id,
        variant_id: None,
        removed_at: DateTime::UNIX_EPOCH,
    };
    assert_eq!(
        event.payload(),
        serde_json::json!({
            "cartId": id, "productId": id, "variantId": null, "removedAt": "1970-01-01T00:00:00Z",
        })
    );
    assert_eq!(event.aggregate(), (Aggregate::Cart, id));
    assert_eq!(event.name(), "ItemRemovedFromCart");
}

#[test]
fn a_sealed_value_opens_only_for_its_customer_and_field() {
    let (key, customer) = (CustomerKey::random(), Uuid::now_v7());
    let sealed = Sealed::new(&key, customer, "email", &"ada@example.org");
    assert!(!serde_json::to_string(&sealed).expect("JSON").contains("ada"));
    assert_eq!(sealed.open::<String>(&key, customer, "email").as_deref(), Some("ada@example.org"));
    assert_eq!(sealed.open::<String>(&key, customer, "street"), None);
    assert_eq!(sealed.open::<String>(&key, Uuid::now_v7(), "email"), None);
    assert_eq!(sealed.open::<String>(&CustomerKey::random(), customer, "email"), None);
}
