//! The rooms of the crates: which folder of a crate may use which.
//!
//! A room uses only rooms that stand above it in its list, so there is no circle. A list is exactly what the code does: an import that is not
//! in it fails, and so does a line that no import needs. ARCHITECTURE.md shows the engine's list as a picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{root, sources};

/// The rooms of a crate, each with the rooms that it uses.
type Rooms = [(&'static str, &'static str)];

/// Each room of the engine, and the rooms that it uses.
const ENGINE: [(&str, &str); 15] = [
    ("base", ""),
    ("database", "base"),
    ("record", "base"),
    ("store", "base record"),
    ("saga", "base record"),
    ("messages", "base database saga"),
    ("instance", "base record saga"),
    ("inspect", "base record saga"),
    ("worker", "base database record store saga instance"),
    ("front", "base database record store saga instance inspect worker"),
    ("operate", "base record store saga instance worker"),
    ("bulk", "base record store instance inspect worker operate"),
    ("upkeep", "base database record store saga instance worker bulk"),
    ("run", "base database record store saga instance worker front operate upkeep"),
    ("testing", "base record store saga instance worker run"),
];

const ADAPTERS: [(&str, &str); 8] = [
    ("tls", ""),
    ("mail", "tls"),
    ("provider", "tls"),
    ("breaker", "provider"),
    ("gateway", "provider"),
    ("paypal", "gateway provider"),
    ("rabbitmq", "tls"),
    ("sandbox", "gateway paypal tls"),
];

const API: [(&str, &str); 8] = [
    ("readiness", ""),
    ("door", "readiness"),
    ("monitor", "door readiness"),
    ("resources", "door readiness"),
    ("document", ""),
    ("routes", "document door resources"),
    ("server", "door routes"),
    ("cli", "door monitor readiness routes server"),
];

const WORKFLOWS: [(&str, &str); 24] = [
    ("refusal", ""),
    ("text", "refusal"),
    ("privacy", "refusal"),
    ("money", ""),
    ("migrations", ""),
    ("purge", ""),
    ("cloud_event", "privacy"),
    ("payment", "money refusal text"),
    ("events", "money privacy"),
    ("integration", "events money"),
    ("shop", "events integration money payment privacy refusal"),
    ("category", "events refusal shop text"),
    ("inventory", "events refusal shop text"),
    ("customer", "events money payment privacy refusal shop text"),
    ("product", "events money refusal shop text"),
    ("cart", "customer events money refusal shop"),
    ("order", "cart customer events integration inventory money payment privacy refusal shop text"),
    ("erasure", "events order payment privacy refusal shop"),
    ("export", "cloud_event order privacy refusal shop"),
    (
        "sagas",
        "cart customer erasure events integration inventory money order payment privacy refusal shop",
    ),
    ("gateway_events", "order payment sagas shop"),
    ("reactions", "events integration sagas shop"),
    ("seed", "customer money privacy shop"),
    ("testing", "events migrations money payment privacy reactions sagas shop"),
];

type Imports = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn the_rooms_of_each_crate_use_each_other_in_one_direction_only() {
    let mut faults = Vec::new();
    for (src, rooms) in [
        ("engine/src/", &ENGINE[..]),
        ("workflows/src/", &WORKFLOWS),
        ("adapters/src/", &ADAPTERS),
        ("api/src/", &API),
    ] {
        against_the_order(src, rooms, &mut faults);
        let found = imports(src, &mut faults);
        not_as_listed(src, rooms, &found, &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn against_the_order(src: &str, rooms: &Rooms, faults: &mut Vec<String>) {
    for (place, (room, uses)) in rooms.iter().enumerate() {
        for used in uses.split_whitespace() {
            if !rooms[..place].iter().any(|(earlier, _)| *earlier == used) {
                faults.push(format!("{src}{room} uses {used}, which does not stand above it"));
            }
        }
    }
}

/// By room, the rooms that it uses, each with the first file that does.
fn imports(src: &str, faults: &mut Vec<String>) -> Imports {
    let mut found = Imports::new();
    for (name, text) in sources(&[".rs"]) {
        let Some(path) = name.strip_prefix(src) else { continue };
        if matches!(path, "lib.rs" | "main.rs") || is_test(path) {
            continue;
        }
        let room = path.trim_end_matches(".rs").split('/').next().unwrap_or_default();
        for used in rooms_used(path, &text) {
            let folder = root().join(src).join(&used);
            if !folder.is_dir() && !folder.with_extension("rs").is_file() {
                faults.push(format!("{name} uses crate::{used}: write the room that it stands in"));
            } else if used != room {
                let of_room = found.entry(room.to_owned()).or_default();
                of_room.entry(used).or_insert_with(|| name.clone());
            }
        }
    }
    found
}

fn not_as_listed(src: &str, rooms: &Rooms, found: &Imports, faults: &mut Vec<String>) {
    for (room, used) in found {
        for (used, name) in used {
            if !may_use(rooms, room, used) {
                faults.push(format!("{name} uses {used}, and {src}{room} must not"));
            }
        }
    }
    for (room, uses) in rooms {
        for used in uses.split_whitespace() {
            if !found.get(*room).is_some_and(|found| found.contains_key(used)) {
                faults.push(format!("{src}{room} does not use {used} any more: take it off"));
            }
        }
    }
}

#[test]
fn every_room_of_the_engine_begins_by_saying_what_it_is() {
    for (room, _) in ENGINE {
        let path = root().join(format!("engine/src/{room}/mod.rs"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.starts_with("//! "), "engine/src/{room}/mod.rs begins with no comment");
    }
}

/// `STEPWISE_UPDATE=1` draws it anew.
#[test]
fn the_picture_of_the_rooms_is_the_list() {
    let path = root().join("docs/ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let (begins, ends) = ("```mermaid\nflowchart TD\n", "```\n");
    let (before, rest) = text.split_once(begins).expect("it has a picture");
    let (drawn, after) = rest.split_once(ends).expect("the picture ends");
    let picture = picture();
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        std::fs::write(&path, [before, begins, &picture, ends, after].concat())
            .expect("the document can be written");
    } else {
        assert_eq!(drawn, picture, "draw it anew with STEPWISE_UPDATE=1");
    }
}

/// The arrows that do not follow from others.
fn picture() -> String {
    let mut picture = String::new();
    for (room, uses) in ENGINE.iter().rev() {
        let uses = uses.split_whitespace().collect::<Vec<_>>();
        for used in uses.iter().rev() {
            if !uses.iter().any(|other| other != used && reaches(other, used)) {
                let _ = writeln!(picture, "    {room} --> {used}");
            }
        }
    }
    picture
}

fn reaches(from: &str, to: &str) -> bool {
    let uses = ENGINE.iter().find(|(room, _)| *room == from).map_or("", |(_, uses)| uses);
    uses.split_whitespace().any(|used| used == to || reaches(used, to))
}

fn may_use(rooms: &Rooms, room: &str, used: &str) -> bool {
    let uses = rooms.iter().find(|(known, _)| *known == room).map_or("", |(_, uses)| uses);
    uses.split_whitespace().any(|one| one == used)
}

/// Tests of a room may use the test kit.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

/// The first part of each path that begins at the root of the crate, however it is written: `crate::a`, `crate::{a::.., b::..}`, `super::a`.
fn rooms_used(path: &str, text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join("\n");
    // How deep the file's module lies: `room/mod.rs` 1, `room/file.rs` 2.
    let depth = path.trim_end_matches("/mod.rs").split('/').count();
    let to_root = "super::".repeat(depth);
    let mut used = BTreeSet::new();
    for beginning in ["crate::", to_root.as_str()] {
        for (at, _) in code.match_indices(beginning) {
            let is_longer = code[..at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ':'));
            if !is_longer {
                used.extend(first_parts(&code[at + beginning.len()..]));
            }
        }
    }
    used
}

/// Of `a::b` the `a`; of `{a::{b, c}, d}` the `a` and the `d`.
fn first_parts(path: &str) -> Vec<String> {
    let word = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(tree) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut begins, mut parts) = (0, 0, Vec::new());
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                parts.push(word(&tree[begins..at]));
                begins = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[test]
fn imports_are_found_however_they_are_written() {
    let written = "
        use crate::{base::{id, json::{Json, shown}}, store, record::row::Row};
        // crate::operate is only mentioned
        fn f() { crate::front::g(); $crate::upkeep::h(); super::super::run::i(); super::j(); }";
    let found = rooms_used("worker/claim.rs", written);
    let found = found.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(found, ["base", "front", "record", "run", "store"]);
}
