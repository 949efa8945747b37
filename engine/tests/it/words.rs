//! The compiler's errors for a wrong table: the macros are compiled alone, with one wrong row each, and their words compared.

use std::{io::Write as _, process::Command};

/// The output of `rustc` for these macros and this program.
fn said_of(program: &str) -> String {
    let folder = std::env::temp_dir().join(format!("stepwise-words-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room for a file");
    let name = format!(
        "{:x}.rs",
        program.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte))
    );
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).expect("there is room for a file");
    let macros = include_str!("../../src/saga/macros.rs").replacen("//!", "//", 1);
    writeln!(file, "{macros}\n{program}").expect("there is room for a file");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let ran = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-o", "/dev/null"])
        .arg(&path)
        .output()
        .expect("who builds tests has a compiler");
    assert!(!ran.status.success(), "it compiles: {program}");
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[track_caller]
fn says(program: &str, words: &str) {
    let said = said_of(program);
    assert!(said.contains(words), "{words:?} is not said of {program}:\n{said}");
}

fn row(row: &str) -> String {
    format!("steps! {{ pub enum Step done by Desks -> Event, undone for String {{ {row} }} }}")
}

#[test]
fn a_step_without_a_decided_way_back_is_named_with_what_can_be_said() {
    for without in [
        "Buy => tx(buy),",
        "Buy => tx_together(buy),",
        "Buy => call(buy).repeatable(),",
        "Buy => tx(buy).undo_txx(sell),",
    ] {
        says(
            &row(without),
            "step `Buy`: say how it is taken back, last in its row: `.undo_tx(method)`, `.undo_call(method)`, `.no_undo()` or `.pivot()`",
        );
    }
}

#[test]
fn a_call_whose_unknown_outcome_nobody_settles_is_named_with_what_can_be_said() {
    says(
        &row("Charge => call(charge).undo_call(refund),"),
        "step `Charge`: say how an unknown outcome is settled: `.probe(method)` asks the provider, `.repeatable()` calls again under the same \
         key; then how the step is taken back",
    );
}

#[test]
fn a_row_that_does_not_say_what_does_the_step_is_named() {
    says(
        &row("Buy => run(buy).no_undo(),"),
        "step `Buy`: begin with `tx(method)` (in the transaction), `tx_together(method)` (in a transaction that instances share) or \
         `call(method)` (outside)",
    );
}

#[test]
fn a_step_of_the_caller_without_a_way_back_is_named() {
    says(
        "steps! { pub enum Step done by Desks -> Event, undone for String { } pub enum CallerStep done by the caller { Reserve => tx(reserve), } }",
        "step `Reserve` of the caller: say how it is taken back: `undo_tx(method)`, `undo_call(method)`, `no_undo()` or `pivot()`",
    );
}

#[test]
fn a_signal_that_is_neither_kept_nor_refused_is_named() {
    says(
        "signals! { pub enum Signal as Event { Nod => maybe } }",
        "signal `Nod`: when it comes before the state that takes it, `keep` it or `refuse` it",
    );
}
