//! Every saga has a folder, a line in the list, a page with its diagram, and golden files.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::{SAGAS, gate};

/// A path in the project, from the folder of this crate.
fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The names of a folder's entries, without their endings.
fn names(folder: &str, wanted: impl Fn(&fs::DirEntry) -> bool) -> BTreeSet<String> {
    let entries = fs::read_dir(path(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let entries = entries.map(|entry| entry.expect("it can be listed")).filter(wanted);
    let stems = entries.map(|entry| entry.path().file_stem().map(|stem| stem.to_owned()));
    stems.map(|stem| stem.expect("a name").to_string_lossy().replace('_', "-")).collect()
}

fn is_folder(entry: &fs::DirEntry) -> bool {
    entry.path().is_dir()
}

#[test]
fn the_list_has_every_saga_that_has_a_folder_a_page_or_golden_files() {
    let listed: BTreeSet<_> = SAGAS.iter().map(|saga| saga.name().to_owned()).collect();
    assert_eq!(listed.len(), SAGAS.len(), "two sagas have the same name");
    assert_eq!(listed, names("src/sagas", is_folder), "the list and the folders beside it");
    assert_eq!(listed, names("../docs/sagas", |_| true), "the list and the pages");
    assert_eq!(listed, names("golden", is_folder), "the list and the golden files");
    assert_eq!(gate().kinds(), SAGAS.len(), "the gate knows them all");
}

#[test]
fn exploring_finds_every_way_of_every_saga_sound_and_draws_them() {
    for saga in SAGAS {
        let (name, map) = (saga.name(), saga.explore());
        assert!(map.faults.is_empty(), "{name} is not sound:\n- {}", map.faults.join("\n- "));
        map.assert_drawn_in(path(&format!("../docs/sagas/{name}.md")));
    }
}

#[test]
fn what_any_version_of_any_saga_has_stored_can_still_be_read() {
    for saga in SAGAS {
        saga.golden(&path(&format!("golden/{}", saga.name())).to_string_lossy());
    }
}
