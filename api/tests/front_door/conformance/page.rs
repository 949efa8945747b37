//! The page with a row for each entry of the catalogue: its place and its proof.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{catalogue, list, stage::operations, text};

const PAGE: &str = "docs/catalogue.md";

const HEAD: &str = "# The catalogue, entry by entry

The commands, domain events and integration events of the [catalogue](../tests/fixtures/catalog.json), each with its place in the program and the test
that proves it on a running shop. A test writes this page; `STEPWISE_UPDATE=1 cargo nextest run -p stepwise catalogue` runs it.
";

/// The tests that prove commands, failure conditions, triggers with their consumers, and notifications.
const PROOFS: [&str; 5] = [
    "every_command_takes_its_data_and_has_its_outcome",
    "every_failure_condition_has_its_code_and_leaves_nothing_behind",
    "every_trigger_leads_to_its_event_with_the_payload_of_the_catalogue",
    "every_consumer_of_the_catalogue_is_served",
    "partners_receive_every_notification_with_the_payload_of_the_catalogue",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Links to the proofs of these numbers.
fn proofs(numbers: &[usize]) -> String {
    let link = |number: &usize| {
        let name = PROOFS[*number].replace('_', " ");
        format!("[{name}](../api/tests/front_door/conformance/mod.rs)")
    };
    numbers.iter().map(link).collect::<Vec<_>>().join("; ")
}

/// The files below this folder, sorted.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Links to the files of the shop that make a value of this kind: `DomainEvent::OrderPlaced {`.
fn made_in(kinds: &[&str], name: &str) -> String {
    let below = root().join("workflows/src");
    let mut found = Vec::new();
    files(&below, &mut found);
    let links = found.iter().filter_map(|path| {
        let short = path.strip_prefix(&below).expect("it is below").display().to_string();
        let is_test = short.contains("tests") || short.starts_with("events/");
        let source = fs::read_to_string(path).ok()?;
        let makes = kinds.iter().any(|kind| source.contains(&format!("{kind}::{name} {{")));
        (makes && !is_test).then(|| format!("[{short}](../workflows/src/{short})"))
    });
    let links: Vec<String> = links.collect();
    if links.is_empty() { "—".to_owned() } else { links.join(", ") }
}

fn page() -> String {
    let catalogue = catalogue();
    let document: Value =
        serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON");
    let operations = operations(&document);
    let mut page = HEAD.to_owned();
    let mut table = |title: &str, columns: &str, rows: Vec<String>| {
        let rule = "|---".repeat(columns.matches('|').count() - 1);
        write!(page, "\n## {title}\n\n{columns}\n{rule}|\n{}\n", rows.join("\n"))
            .expect("a string takes everything");
    };
    let commands = list(&catalogue, "commands").iter().map(|command| {
        let (name, id) = (text(command, "name"), text(command, "operationId"));
        let place = operations.get(id).map_or_else(
            || "—".to_owned(),
            |operation| format!("`{} {}`", operation.method, operation.path),
        );
        let codes = list(command, "failures")
            .iter()
            .map(|failure| format!("{} `{}`", failure["status"], text(failure, "code")));
        let codes = codes.collect::<Vec<_>>().join(", ");
        format!("| {name} | {place} | {codes} | {} |", proofs(&[0, 1]))
    });
    let columns = "| command | operation | failure conditions | proof |";
    table("Commands", columns, commands.collect());
    let events = list(&catalogue, "domain_events").iter().map(|event| {
        let name = text(event, "name");
        let place = made_in(&["DomainEvent"], name);
        format!("| {name} | {} | {place} | {} |", text(event, "trigger"), proofs(&[2, 3]))
    });
    let columns = "| event | trigger | recorded in | proof |";
    table("Domain events", columns, events.collect());
    let messages = list(&catalogue, "integration_events").iter().map(|message| {
        let (name, key) = (text(message, "name"), text(message, "routing_key"));
        let place = made_in(&["Message", "Notification"], name.trim_end_matches("Notification"));
        format!("| {name} | `{key}` | {place} | {} |", proofs(&[4]))
    });
    let columns = "| notification | routing key | published by | proof |";
    table("Integration events", columns, messages.collect());
    page
}

#[test]
fn the_page_of_the_catalogue_is_what_the_tests_prove() {
    let (path, current) = (root().join(PAGE), page());
    let rows = current.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    assert_eq!(rows.count(), 61 + 3, "one row for each entry, and three heads");
    let source = include_str!("mod.rs");
    for proof in PROOFS {
        assert!(source.contains(&format!("fn {proof}()")), "there is no test {proof}");
    }
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        fs::write(&path, &current).expect("docs/ is writable");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == current, "{PAGE} is out of date: run this test with STEPWISE_UPDATE=1");
}
