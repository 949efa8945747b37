//! What a reader may rely on in every source file.

mod examples;
mod faults;
mod rooms;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Longer functions, each with the reason why it is one thing.
const LONG: [(&str, &str); 3] = [
    ("of_event", "one page has a line for every event"),
    (
        "a_batch_with_a_fenced_a_locked_and_a_poisonous_member_writes_the_others_at_once",
        "one story in one transaction",
    ),
    (
        "five_hundred_instances_end_exactly_once_while_backends_are_terminated_20_times_a_second",
        "one story",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files git knows, with their text.
fn sources(endings: &[&str]) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .expect("git lists its files");
    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    let wanted = names.lines().filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
    let found: Vec<_> = wanted
        .filter_map(|name| {
            Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?))
        })
        .collect();
    assert!(found.len() > 3, "no sources found");
    found
}

#[test]
fn no_file_is_over_500_lines_and_no_function_over_70() {
    let mut long = Vec::new();
    for (name, text) in sources(&[".rs"]) {
        if text.lines().count() > 500 {
            long.push(format!("{name} has {} lines", text.lines().count()));
        }
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if let Some((from, depth, function)) = &begun {
                if indent == *depth && line.trim() == "}" {
                    let lines = number - from + 1;
                    if lines > 70 && !LONG.iter().any(|(known, _)| known == function) {
                        long.push(format!("{name}: {function} has {lines} lines"));
                    }
                    begun = None;
                } else if indent == *depth && line.trim_end().ends_with(';') {
                    // A signature without a body.
                    begun = None;
                }
            } else if let Some(function) = function_begun(line) {
                begun = Some((number, indent, function));
            }
        }
    }
    assert!(long.is_empty(), "split these, or list them with a reason:\n{}", long.join("\n"));
}

/// The name of the function whose body begins on this line.
fn function_begun(line: &str) -> Option<String> {
    let opens = line.trim_end();
    if !(opens.ends_with('{') || opens.ends_with('(')) || opens.trim_start().starts_with("//") {
        return None;
    }
    let (before, rest) = line.split_once("fn ")?;
    let is_start = before
        .split_whitespace()
        .all(|word| word.starts_with("pub") || matches!(word, "async" | "const" | "in"));
    is_start.then(|| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let marks = [concat!("#[ig", "nore"), concat!("todo", "!("), concat!("unimple", "mented!(")];
    let found: Vec<String> = sources(&[".rs"])
        .into_iter()
        .flat_map(|(name, text)| {
            let hits = text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
            hits.map(|line| format!("{name}: {}", line.trim())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Every connection has limits to what it waits for, because there is one place that opens them.
#[test]
fn no_connection_to_the_database_is_opened_without_limits() {
    let opens = [
        "PgPoolOptions",
        "PgPool::connect",
        "PgConnection::connect",
        "PgListener",
        "ConnectOptions::connect",
    ];
    let may = |name: &str| {
        let tests = ["/tests/", "tests.rs", "engine/src/testing/", "engine/examples/"];
        name.starts_with("tests/")
            || tests.iter().any(|part| name.contains(part))
            || name.starts_with("engine/src/database/")
            // Looks whether a server that it has started answers, within 2 s.
            || name == "adapters/src/postgres/server.rs"
    };
    let found: Vec<String> = sources(&[".rs"])
        .into_iter()
        .filter(|(name, _)| !may(name))
        .flat_map(|(name, text)| {
            let hits = text.lines().filter(|line| opens.iter().any(|word| line.contains(word)));
            hits.map(|line| format!("{name}: {}", line.trim())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "open these by engine::database:\n{}", found.join("\n"));
}

/// The test kit, and the switch that leaves the fence out, come with the engine's feature `testing`. `cargo build -p stepwise` and the plain
/// `cargo run` build without it.
#[test]
fn a_production_build_has_neither_the_test_kit_nor_a_switch_of_the_fence() {
    assert!(has_test_kit(&["--package", "stepwise-tests"]), "the tests have it");
    for asked in [&["--package", "stepwise"][..], &[]] {
        assert!(!has_test_kit(asked), "a production build has it: cargo build {asked:?}");
    }
}

/// Does a build of what cargo is asked for have the engine's feature `testing`?
fn has_test_kit(asked: &[&str]) -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let listed = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--edges", "normal,build,features"])
        .args(asked)
        .current_dir(root())
        .output()
        .expect("cargo lists features");
    let tree = String::from_utf8(listed.stdout).expect("UTF-8");
    assert!(
        tree.contains("stepwise-engine feature"),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    tree.contains("stepwise-engine feature \"testing\"")
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for (name, text) in sources(&[".md"]) {
        let folder = root().join(&name).parent().expect("a file lies in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") {
                continue;
            }
            let page = if path.is_empty() { root().join(&name) } else { folder.join(path) };
            let leads = heading.is_empty()
                || std::fs::read_to_string(&page).is_ok_and(|page| has_heading(&page, heading));
            if !page.exists() || !leads {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Has the page a heading that a link names so? Lower case, blanks are hyphens, other signs are left out.
fn has_heading(page: &str, link: &str) -> bool {
    let named = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect::<String>()
    };
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.into_iter().any(|line| named(line.trim_start_matches('#')) == link)
}

/// A path of one machine, or the host of a package registry: what only works where it was written.
#[test]
fn no_file_names_a_path_of_one_machine_or_a_registry_of_packages() {
    let home = ["/work", "/root"];
    let scratch = "/tmp/";
    let hosts = ["crates.io", "docs.rs", "npmjs", "pypi.org", "rubygems.org", "proxy.golang.org"];
    // What names them for a reason.
    let known = [
        ("Cargo.lock", "crates.io", "where cargo found what it locked"),
        ("tests/tidy/main.rs", "", "this list"),
        (
            "docs/adr/0007-an-open-handle-for-postgres.md",
            home[1],
            "the folder that others cannot enter",
        ),
    ];
    let mut found = Vec::new();
    for (name, text) in sources(&[""]) {
        let is_test = name.contains("tests");
        let is_known = |word: &str| {
            known.iter().any(|(file, what, _)| *file == name && (what.is_empty() || *what == word))
        };
        for (number, line) in text.lines().enumerate() {
            let paths = home.iter().filter(|path| is_path(line, path));
            let scratch = [scratch].into_iter().filter(|_| !is_test && line.contains(scratch));
            let hosts = hosts.iter().filter(|host| line.contains(*host));
            let words = paths.copied().chain(scratch).chain(hosts.copied());
            found.extend(
                words
                    .filter(|word| !is_known(word))
                    .map(|word| format!("{name}:{}: {word}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Does the line name this folder of the root, or something in it?
fn is_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        let is_word =
            |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '}' | '$' | ')');
        !before.is_some_and(is_word)
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_')
    })
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let mut missing = Vec::new();
    for page in ["README.md", "docs/guarantees.md", "docs/hostile-input.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect("the page is there");
        let folder = root().join(page).parent().expect("a file lies in a folder").to_owned();
        let tables = text.split("| promise | proof |\n|---|---|\n").skip(1);
        let rows = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')));
        let rows: Vec<&str> = rows.collect();
        assert!(rows.len() > 10, "the tables of {page} were not read");
        missing.extend(rows.iter().flat_map(|row| unproven(row, &folder)));
    }
    assert!(missing.is_empty(), "link each promise as [function](file):\n{}", missing.join("\n"));
}

/// What is wrong with the proof of a promise on a page in this folder.
fn unproven(row: &str, folder: &Path) -> Vec<String> {
    let (promise, proof) = row[1..].rsplit_once(" | ").expect("two columns");
    let links: Vec<_> = proof.split('[').skip(1).filter_map(|link| link.split_once("](")).collect();
    if links.is_empty() {
        return vec![format!("no test: {promise}")];
    }
    let unproven = links.into_iter().filter_map(|(function, rest)| {
        let file = rest.split(')').next().unwrap_or_default();
        let source = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        (!is_test(&source, function)).then(|| format!("{file} has no test {function}: {promise}"))
    });
    unproven.collect()
}

/// Has the file a test of this name?
fn is_test(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let begun = |line: &str| line.contains(&format!("fn {function}("));
    lines.iter().position(|line| begun(line)).is_some_and(|at| {
        let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        above.into_iter().any(|line| line.contains("test"))
    })
}
