//! The matrix of faults in docs/faults.md is what the tests declare.
//!
//! A test that proves what a fault does says so in its doc comment:
//!
//! ```text
//! /// Fault: gateway: it answers 502 for some seconds
//! /// Customer: the order is pending
//! /// Operator: `/readyz` says that the gateway is away; one line in the log
//! /// Within: 5 s
//! /// Ends: by itself, within 10 s of the gateway's return
//! ```
//!
//! A value may go on over further lines. The matrix cannot name a test that is not there, because it is written
//! from the tests.

use std::fmt::Write as _;

use super::{is_test, root, sources};

/// What can fail, in the order of the page. A fault begins with one of these words.
const PARTS: [(&str, &str); 7] = [
    ("gateway", "The payment gateway"),
    ("broker", "The broker and its partners' queues"),
    ("database", "The database"),
    ("door", "The front door"),
    ("process", "Our own processes"),
    ("saga", "Sagas, their rows and what people decide about them"),
    ("outside", "Keys, mail and what else lies outside"),
];

const KEYS: [&str; 5] = ["Fault", "Customer", "Operator", "Within", "Ends"];
const PAGE: &str = "docs/faults.md";
const BEGIN: &str = "<!-- The matrix: written by `STEPWISE_UPDATE=1 cargo nextest run -p stepwise-tests matrix` -->\n";
const END: &str = "<!-- The end of the matrix -->\n";

/// A row of the matrix: the values of [`KEYS`], and the test that proves them.
struct Row {
    values: [String; 5],
    file: String,
    test: String,
}

/// The faults that a source file declares, or what is wrong with a declaration.
fn declared(file: &str, source: &str) -> Result<Vec<Row>, String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut rows = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let begins = doc(lines[at]).is_some_and(|text| text.starts_with("Fault: "));
        if !begins {
            at += 1;
            continue;
        }
        let comment: Vec<&str> = lines[at..].iter().map_while(|line| doc(line)).collect();
        at += comment.len();
        let values =
            values(&comment).map_err(|wrong| format!("{file}: {wrong}: {}", comment[0]))?;
        let test = lines[at..].iter().find_map(|line| {
            let (_, rest) = line.split_once("fn ")?;
            rest.split_once('(').map(|(name, _)| name.to_owned())
        });
        let test = test
            .filter(|test| is_test(source, test))
            .ok_or_else(|| format!("{file}: no test follows: {}", comment[0]))?;
        rows.push(Row { values, file: file.to_owned(), test });
    }
    Ok(rows)
}

/// The text of a line of a doc comment.
fn doc(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("///").map(str::trim)
}

/// The value of each key, in the order of [`KEYS`]; each is there once.
fn values(comment: &[&str]) -> Result<[String; 5], String> {
    let mut values: [String; 5] = Default::default();
    let mut current = 0;
    for line in comment {
        let key = KEYS
            .iter()
            .position(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(": ")));
        let text = match key {
            Some(key) if !values[key].is_empty() => {
                return Err(format!("`{}` stands there twice", KEYS[key]));
            }
            Some(key) => {
                current = key;
                &line[KEYS[key].len() + 2..]
            }
            None => line,
        };
        let space = if values[current].is_empty() { "" } else { " " };
        values[current] = format!("{}{space}{}", values[current], text.trim());
    }
    if let Some(missing) = KEYS.iter().zip(&values).find(|(_, value)| value.trim().is_empty()) {
        return Err(format!("`{}` is missing", missing.0));
    }
    let part = values[0].split_once(": ").map(|(part, _)| part);
    if !PARTS.iter().any(|(known, _)| part == Some(*known)) {
        let known: Vec<&str> = PARTS.iter().map(|(known, _)| *known).collect();
        return Err(format!("a fault begins with one of {}", known.join(": , ")));
    }
    Ok(values)
}

/// The text between the marks.
fn matrix(mut rows: Vec<Row>) -> String {
    rows.sort_by(|a, b| (&a.values[0], &a.test).cmp(&(&b.values[0], &b.test)));
    let mut text = String::new();
    for (part, title) in PARTS {
        let begins = format!("{part}: ");
        let of_part: Vec<&Row> =
            rows.iter().filter(|row| row.values[0].starts_with(&begins)).collect();
        if of_part.is_empty() {
            continue;
        }
        writeln!(text, "\n### {title}\n").expect("a string takes everything");
        text.push_str(
            "| fault | a customer sees | an operator sees | within | how it ends | proof |\n",
        );
        text.push_str("|---|---|---|---|---|---|\n");
        for Row { values: [fault, customer, operator, within, ends], file, test } in of_part {
            let fault = &fault[begins.len()..];
            let cells = [fault, customer, operator, within, ends].map(|it| it.replace('|', "\\|"));
            writeln!(text, "| {} | [{}](../{file}) |", cells.join(" | "), test.replace('_', " "))
                .expect("a string takes everything");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_matrix_of_faults_is_what_the_tests_declare() {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    let files = sources(&[".rs"]).into_iter().filter(|(file, _)| file != "tests/tidy/faults.rs");
    for (file, source) in files {
        match declared(&file, &source) {
            Ok(found) => rows.extend(found),
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "complete these declarations:\n{}", wrong.join("\n"));
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the matrix begins");
    let (committed, after) = rest.split_once(END).expect("the page says where the matrix ends");
    let current = matrix(rows);
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        std::fs::write(&path, [before, BEGIN, &current, END, after].concat()).expect("written");
        return;
    }
    assert!(
        committed == current,
        "the matrix in {PAGE} is out of date: run this test with STEPWISE_UPDATE=1"
    );
}

#[test]
fn a_declaration_without_a_key_or_a_test_is_refused() {
    let whole = "/// A test.\n///\n/// Fault: door: it is\n/// shut\n/// Customer: a|b\n/// Operator: c\n/// Within: d\n/// Ends: e\n";
    let test = "#[test]\nfn it_opens() {\n";
    let good = declared("a.rs", &format!("{whole}{test}")).expect("it is whole");
    assert_eq!(good[0].values, ["door: it is shut", "a|b", "c", "d", "e"]);
    let text = matrix(good);
    let row = "| it is shut | a\\|b | c | d | e | [it opens](../a.rs) |";
    assert!(text.contains(row), "{text}");
    for (broken, why) in [
        (whole.replace("/// Within: d\n", "") + test, "`Within` is missing"),
        (whole.replace("door: ", "") + test, "begins with one of"),
        (whole.to_owned() + "/// Ends: f\n" + test, "twice"),
        (whole.to_owned() + "fn it_opens() {\n", "no test follows"),
        (whole.to_owned(), "no test follows"),
    ] {
        let refused = declared("a.rs", &broken).err().expect("it is refused");
        assert!(refused.contains(why), "{refused}");
    }
}
