//! The running shop compared with the catalogue of commands and events.
//!
//! The catalogue (`tests/fixtures/catalog.json`) drives: each of its commands, failure conditions, triggers, events and notifications must have its
//! story in one of the tables of this folder, and each story must belong to an entry. All stories run on a whole shop: real Postgres, the sandbox
//! gateway, a worker, and a RabbitMQ with a partner.

mod commands;
mod events;
pub(crate) mod failures;
mod messages;
mod page;
pub(crate) mod stage;
mod types;

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::Value;
use stepwise_workflows::{
    events::DomainEvent,
    reactions::of_event,
    shop::reaction::{Consumer, Reaction},
};
use tokio::time::timeout;

use self::{
    commands::Command,
    events::{Happened, Trigger},
    failures::Failure,
    messages::Due,
    stage::{Stage, names},
};
use crate::{house::send, shopper::Shopper};

/// Optional data of a command: a request without it is not refused.
const OPTIONAL: [(&str, &str); 5] = [
    ("addItemToCart", "variantId"),
    ("createCategory", "parentCategoryId"),
    ("updateProduct", "name"),
    ("updateProduct", "price"),
    ("updateProduct", "description"),
];

/// Data that a command takes beside the catalogue's: an id alone gives nobody a guest's cart.
const BESIDE: [(&str, &str); 1] = [("mergeGuestCart", "guestToken")];

/// How many stories run at the same time.
const AT_ONCE: usize = 6;

/// The time limit of one story.
const PATIENCE: Duration = Duration::from_secs(120);

fn catalogue() -> Value {
    serde_json::from_str(include_str!("../../../../tests/fixtures/catalog.json"))
        .expect("the fixture is JSON")
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// The names of fields.
fn fields(listed: &[Value]) -> BTreeSet<String> {
    listed.iter().map(|field| field["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn of_name<'v>(listed: &'v [Value], key: &str, name: &str) -> &'v Value {
    let found = listed.iter().find(|entry| entry[key] == name);
    found.unwrap_or_else(|| panic!("the catalogue has no {name}"))
}

/// A story's key, and why it failed; `None`: it did not.
type Verdict = (String, Option<String>);

/// Runs a story.
async fn judge(key: String, story: impl Future<Output = ()>) -> Verdict {
    let told = timeout(PATIENCE, AssertUnwindSafe(story).catch_unwind()).await;
    let failed = match told {
        Ok(Ok(())) => None,
        Ok(Err(panic)) => Some(words(&*panic)),
        Err(_) => Some("it took too long".to_owned()),
    };
    (key, failed)
}

/// The words of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Checks that no story has failed.
fn check(verdicts: &[Verdict]) {
    let failed = verdicts.iter().filter_map(|(key, why)| Some(format!("{key}: {}", why.as_ref()?)));
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Checks that the stories are those of the catalogue.
fn assert_same(stories: impl IntoIterator<Item = String>, wanted: BTreeSet<String>) {
    let mut told = BTreeSet::new();
    for key in stories {
        assert!(told.insert(key.clone()), "{key} has two stories");
    }
    let without: Vec<_> = wanted.difference(&told).collect();
    let unknown: Vec<_> = told.difference(&wanted).collect();
    assert!(
        without.is_empty() && unknown.is_empty(),
        "no story: {without:?}; no entry: {unknown:?}"
    );
}

async fn all(stories: Vec<impl Future<Output = Verdict>>) -> Vec<Verdict> {
    stream::iter(stories).buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test]
async fn every_command_takes_its_data_and_has_its_outcome() {
    let catalogue = catalogue();
    let wanted = list(&catalogue, "commands");
    let stories = [commands::OF_CUSTOMERS, commands::OF_ORDERS, commands::OF_PRODUCTS];
    let stories: Vec<&Command> = stories.into_iter().flatten().collect();
    assert_same(
        stories.iter().map(|story| story.name.to_owned()),
        wanted.iter().map(|command| text(command, "operationId").to_owned()).collect(),
    );
    let stage = Stage::open().await;
    let told = stories.iter().map(|story| {
        let required = fields(list(of_name(wanted, "operationId", story.name), "required_data"));
        let stage = &stage;
        judge(format!("command {}", story.name), async move {
            (story.provoke)(stage).await;
            takes_its_data(stage, story.name, &required).await;
        })
    });
    let verdicts = all(told.collect()).await;
    stage.house.close().await;
    check(&verdicts);
}

/// Checks that a command was accepted with exactly the required data, and is refused without any of it.
async fn takes_its_data(stage: &Stage, command: &str, required: &BTreeSet<String>) {
    let beside = |name: &str| BESIDE.contains(&(command, name));
    let accepted = stage.accepted(command);
    let whole = accepted.iter().find(|call| {
        names(&call.data).into_iter().filter(|name| !beside(name)).collect::<BTreeSet<_>>()
            == *required
    });
    let Some(call) = whole else { panic!("it was not called with {required:?} and nothing else") };
    // An erased customer has no token any more; a body that lacks something is refused to any customer.
    let stranger = Shopper::unverified(&stage.house).await;
    let is_gone = !call.by.is_empty()
        && send(stage.house.get("/v1/me").bearer_auth(&call.by)).await.status == 401;
    let by = if is_gone { &stranger.token } else { &call.by };
    for name in required {
        let optional = OPTIONAL.contains(&(command, name));
        if optional || stage.is_in_path(command, name) {
            continue;
        }
        let mut data = call.data.clone();
        data.as_object_mut().expect("an object").remove(name);
        let refused = stage.send(command, by, &data).await;
        assert_eq!(refused.problem(), (422, "missing_field".to_owned()), "without {name}");
        assert_eq!(refused.json()["errors"][0]["pointer"], format!("/{name}"));
    }
}

#[tokio::test]
async fn every_failure_condition_has_its_code_and_leaves_nothing_behind() {
    let catalogue = catalogue();
    let wanted: Vec<(String, &Value)> = list(&catalogue, "commands")
        .iter()
        .flat_map(|command| {
            let name = text(command, "operationId");
            let key = move |failure: &Value| format!("failure {name}: {}", text(failure, "code"));
            list(command, "failures").iter().map(move |failure| (key(failure), failure))
        })
        .collect();
    let stories = [failures::OF_CUSTOMERS, failures::OF_ORDERS, failures::OF_PRODUCTS];
    let stories: Vec<&Failure> = stories.into_iter().flatten().collect();
    let key = |story: &Failure| format!("failure {}: {}", story.command, story.code);
    assert_same(
        stories.iter().map(|story| key(story)),
        wanted.iter().map(|(key, _)| key.clone()).collect(),
    );
    let stage = Stage::open().await;
    let told = stories.iter().map(|story| {
        let entry = wanted.iter().find(|(wanted, _)| *wanted == key(story));
        let status = entry.expect("they were compared").1["status"].clone();
        judge(key(story), fails(&stage, story, status))
    });
    let verdicts = all(told.collect()).await;
    stage.house.close().await;
    check(&verdicts);
}

/// Checks status, code and place of a failure, and that a refusal at once has changed nothing.
async fn fails(stage: &Stage, story: &Failure, status: Value) {
    let answer = (story.provoke)(stage).await;
    let body = answer.json();
    let is = (&body["status"], &body["code"]);
    assert_eq!(is, (&status, &Value::from(story.code)), "{}", answer.text);
    assert_eq!(body["errors"][0]["pointer"].as_str().unwrap_or_default(), story.pointer);
    if !story.is_late {
        answer.problem();
        assert_eq!(stage.events_of_request(&answer).await, 0, "a refusal has led to events");
    }
}

/// The triggers of an event, each with its key.
fn triggers(event: &Value) -> Vec<String> {
    let name = text(event, "name");
    text(event, "trigger").split(" or ").map(|text| format!("event {name}: {text}")).collect()
}

#[tokio::test]
async fn every_trigger_leads_to_its_event_with_the_payload_of_the_catalogue() {
    let catalogue = catalogue();
    let wanted = list(&catalogue, "domain_events");
    let stories = [events::OF_CUSTOMERS, events::OF_ORDERS, events::OF_PRODUCTS];
    let stories: Vec<&Trigger> = stories.into_iter().flatten().collect();
    let key = |story: &Trigger| format!("event {}: {}", story.event, story.text);
    assert_same(stories.iter().map(|story| key(story)), wanted.iter().flat_map(triggers).collect());
    let stage = Stage::open().await;
    let told = stories.iter().map(|story| {
        let entry = of_name(wanted, "name", story.event);
        let stage = &stage;
        judge(key(story), async move { compare(entry, &(story.provoke)(stage).await) })
    });
    let verdicts = all(told.collect()).await;
    stage.house.close().await;
    check(&verdicts);
}

/// Compares a recorded event with its entry.
fn compare(entry: &Value, happened: &Happened) {
    let Happened { payload, aggregate, expected } = happened;
    assert_eq!(entry["aggregate"], aggregate.as_str());
    let listed = list(entry, "payload");
    assert_eq!(names(payload), fields(listed), "the fields of its payload");
    for field in listed {
        let (name, kind) = (text(field, "name"), text(field, "type"));
        let fits = types::fits(name, kind, &payload[name]);
        assert!(fits, "{name} is not {kind}: {}", payload[name]);
    }
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(payload[name], *value, "{name}");
    }
}

#[tokio::test]
async fn partners_receive_every_notification_with_the_payload_of_the_catalogue() {
    let catalogue = catalogue();
    let wanted = list(&catalogue, "integration_events");
    assert_same(
        messages::ALL.iter().map(|story| story.name.to_owned()),
        wanted.iter().map(|message| text(message, "name").to_owned()).collect(),
    );
    let stage = Stage::open().await;
    let told = messages::ALL.iter().map(|story| {
        let entry = of_name(wanted, "name", story.name);
        let stage = &stage;
        judge(format!("message {}", story.name), async move {
            received(stage, entry, (story.provoke)(stage).await).await;
        })
    });
    let verdicts = all(told.collect()).await;
    stage.house.close().await;
    check(&verdicts);
}

/// Waits for the message, and compares it with its entry and with its published schema.
async fn received(stage: &Stage, entry: &Value, due: Due) {
    let event = stage.message(text(entry, "routing_key"), due.subject).await;
    assert_eq!(event["type"], entry["cloudevent_type"], "{event}");
    let source = text(entry, "source").trim_end_matches(" Service").to_lowercase();
    assert_eq!(event["source"], format!("/stepwise/{source}"), "{event}");
    let listed = list(entry, "payload").iter().filter_map(Value::as_str).map(str::to_owned);
    assert_eq!(names(&event["data"]), listed.collect::<BTreeSet<_>>(), "{event}");
    for (name, value) in due.expected.as_object().expect("an object") {
        assert_eq!(event["data"][name], *value, "{name}");
    }
    let schema = format!("/schemas/{}", text(&event, "type"));
    let schema = send(stage.house.get(&schema)).await.is(200).json();
    for (name, field) in schema["properties"].as_object().expect("an object") {
        let fits = types::fits_schema(field, &event["data"][name]);
        assert!(fits, "{name} is not {field}: {event}");
    }
}

#[test]
fn every_consumer_of_the_catalogue_is_served() {
    let catalogue = catalogue();
    let mut verdicts = Vec::new();
    for event in DomainEvent::samples() {
        let entry = of_name(list(&catalogue, "domain_events"), "name", event.name());
        let wanted = text(entry, "consumers").trim_matches(['[', ']']).split(" Service");
        let wanted: Vec<&str> = wanted.map(str::trim).filter(|name| !name.is_empty()).collect();
        let ours = of_event(&event);
        for consumer in &wanted {
            let lines = ours.iter().filter(|(ours, _)| named(*ours) == *consumer);
            let why = missing(lines.map(|(_, reaction)| reaction).collect());
            verdicts.push((format!("consumer {}: {consumer}", event.name()), why));
        }
        for (consumer, _) in ours {
            let is_listed = wanted.contains(&&*named(consumer));
            assert!(is_listed, "the catalogue has no {consumer:?} of {}", event.name());
        }
    }
    check(&verdicts);
}

/// Why these lines do not serve a consumer: there is none, or it only says that nothing is done yet.
fn missing(lines: Vec<&Reaction>) -> Option<String> {
    match lines[..] {
        [] => Some("it has no line in reactions.rs".to_owned()),
        [Reaction::Nothing(why)] if why.ends_with(" yet") => Some((*why).to_owned()),
        _ => None,
    }
}

fn named(consumer: Consumer) -> String {
    format!("{consumer:?}")
}

#[test]
fn an_entry_without_a_story_a_story_without_an_entry_and_a_new_failure_are_found() {
    for stories in [&["a"][..], &["a", "b", "c"], &["a", "b", "b"]] {
        let stories = stories.iter().map(|story| (*story).to_owned());
        let wanted = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert!(catch_unwind(AssertUnwindSafe(|| assert_same(stories, wanted))).is_err());
    }
    let failed = [("entry a".to_owned(), Some("why".to_owned()))];
    assert!(catch_unwind(|| check(&failed)).is_err());
}
