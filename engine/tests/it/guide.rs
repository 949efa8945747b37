//! The guide "write your own saga" is the example `first_saga`, block by block, and nothing else; the example runs, and its tests are tests here.

use std::{collections::BTreeMap, path::Path};

use crate::examples::{run, tells};

#[expect(dead_code, reason = "the tests in it are run here, its program is run")]
#[path = "../../examples/first_saga/main.rs"]
mod first_saga;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of a page by what stands after the fence (language and file), those of one file joined as a reader would.
fn blocks(page: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_owned(), Vec::new())),
            (None, None) => {}
            (Some((_, lines)), None) => lines.push(line),
            (Some(_), Some(_)) => {
                let (info, lines) = open.take().expect("it is open");
                let block = found.entry(info).or_default();
                if !block.is_empty() {
                    block.push_str("\n\n");
                }
                block.push_str(&lines.join("\n"));
            }
        }
    }
    found
}

/// The files that a page shows otherwise than they are.
fn told_wrong(page: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/first_saga");
    let mut blocks = blocks(page);
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(folder).expect("the example is there") {
        let file = file.expect("it can be listed").file_name().into_string().expect("UTF-8");
        let code = text(&format!("engine/examples/first_saga/{file}"));
        let told = blocks.remove(&format!("rust src/{file}")).unwrap_or_default();
        if told.trim_end() != code.trim_end() {
            wrong.push(file);
        }
    }
    wrong.extend(blocks.into_keys().filter(|info| info.starts_with("rust")));
    wrong
}

#[test]
fn the_guide_shows_the_example_as_it_is_and_all_of_it() {
    let wrong = told_wrong(&text("docs/write-your-own-saga.md"));
    assert!(wrong.is_empty(), "docs/write-your-own-saga.md tells otherwise: {wrong:?}");
}

#[test]
fn a_changed_a_missing_and_an_invented_block_are_found() {
    let guide = text("docs/write-your-own-saga.md");
    let changed = guide.replacen("unwind(\"no seat is free\")", "unwind(\"no seat\")", 1);
    assert_eq!(told_wrong(&changed), ["saga.rs"]);
    let (before, rest) = guide.split_once("```rust src/main.rs").expect("a block");
    let (_, after) = rest.split_once("\n```\n").expect("its end");
    assert_eq!(told_wrong(&format!("{before}{after}")), ["main.rs"]);
    let invented = format!("{guide}\n```rust\nfn main() {{}}\n```\n");
    assert_eq!(told_wrong(&invented), ["rust"]);
}

#[test]
fn the_guide_asks_for_the_versions_that_the_engine_is_built_with() {
    let workspace = text("Cargo.toml");
    let guide = text("docs/write-your-own-saga.md");
    let blocks = blocks(&guide);
    let version =
        |line: &str| Some(line.split_once("version = \"")?.1.split('"').next()?.to_owned());
    let asked = blocks["toml Cargo.toml"]
        .lines()
        .filter_map(|line| Some((line.split(' ').next()?, version(line)?)));
    let asked = asked.collect::<Vec<_>>();
    assert!(asked.len() >= 4, "{asked:?}");
    for (name, wants) in asked {
        let ours = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        assert_eq!(ours.and_then(version), Some(wants), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_of_the_guide_prints_what_the_guide_says() {
    let printed = run("first_saga").await;
    if printed.contains("Applied") {
        // The host was slower than the bank.
        return tells(&printed, &["it is completed; the bank has 2500 cents"]);
    }
    let guide = text("docs/write-your-own-saga.md");
    let said = blocks(&guide)["text"].clone();
    let parts = said.split(['…', '\n']).map(str::trim_end).filter(|part| !part.is_empty());
    let parts = parts.collect::<Vec<_>>();
    assert!(parts.len() >= 8, "{parts:?}");
    tells(&printed, &parts);
}
