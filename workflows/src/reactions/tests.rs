use serde_json::Value;

use super::*;

#[test]
fn every_consumer_of_the_catalogue_has_its_line_for_every_event() {
    let catalogue: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/catalog.json"))
            .expect("the catalogue is JSON");
    let listed = catalogue["domain_events"].as_array().expect("a list");
    let samples = DomainEvent::samples();
    assert_eq!(samples.len(), listed.len());
    for event in samples {
        let wanted = listed.iter().find(|one| one["name"] == event.name()).expect("it is listed");
        let wanted = wanted["consumers"].as_str().expect("a text").replace(" Service", "");
        let wanted: Vec<&str> = wanted.trim_matches(['[', ']']).split(' ').collect();
        let mut ours: Vec<String> =
            of_event(&event).iter().map(|(consumer, _)| format!("{consumer:?}")).collect();
        // A consumer may have several reactions, one line each.
        ours.dedup();
        assert_eq!(ours, wanted, "{}", event.name());
    }
}
