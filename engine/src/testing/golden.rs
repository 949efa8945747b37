//! Golden files: what each version of a saga has stored, so that no later one forgets how to read it.

use std::{collections::BTreeMap, path::Path};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{explore::explore, samples::Samples, stored_samples::parts};
use crate::{
    instance::upcast::{self, Misfit},
    saga::{CallerStep, Saga, upcast::Part},
};

/// Compares what exploring finds stored by this version with the committed file `v<VERSION>.json` in `folder`, and proves that the samples of this
/// and of every earlier version can still be read ([`Saga::upcast`]). Run the test with `UPDATE_GOLDEN=1` to write this version's file.
///
/// # Panics
/// When a committed sample cannot be read any more, when the file of a version is missing, or when this version stores something that its file does
/// not show.
#[track_caller]
pub fn golden<S: Samples>(folder: impl AsRef<Path>) {
    let folder = folder.as_ref();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut stored = explore::<S>().stored;
    for signal in S::signals() {
        stored.add(Part::Signal, &signal);
    }
    let text = stored.text(S::NAME, S::VERSION);
    for version in 1..=S::VERSION {
        let file = folder.join(format!("v{version}.json"));
        let committed = match std::fs::read_to_string(&file) {
            Ok(committed) => committed,
            Err(_) if update && version == S::VERSION => continue,
            Err(error) => panic!("{}: {error}; write it with UPDATE_GOLDEN=1", file.display()),
        };
        let faults = unreadable::<S>(version, &committed);
        assert!(
            faults.is_empty(),
            "{} cannot read what {} shows of version {version}:\n- {}\nRaise its VERSION and write the upcast (a file that was never \
             deployed may be deleted instead)",
            S::NAME,
            file.display(),
            faults.join("\n- ")
        );
        let missing =
            if version == S::VERSION { stored.missing_in(&committed) } else { Vec::new() };
        assert!(
            update || missing.is_empty(),
            "version {version} of {} stores what {} does not show:\n- {}\nWrite it anew with UPDATE_GOLDEN=1:\n{text}",
            S::NAME,
            file.display(),
            missing.join("\n- ")
        );
    }
    if update {
        let file = folder.join(format!("v{}.json", S::VERSION));
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, text));
        written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

/// Each sample of a file that this saga cannot read, with the reason.
fn unreadable<S: Saga>(version: u16, file: &str) -> Vec<String> {
    let file: BTreeMap<String, Value> = match serde_json::from_str(file) {
        Ok(file) => file,
        Err(error) => return vec![format!("the file is no golden file: {error}")],
    };
    let mut faults = Vec::new();
    for (section, samples) in file {
        let Some(parts) = parts(&section) else { continue };
        for sample in samples.as_array().into_iter().flatten() {
            let mut misfits = parts.iter().map(|part| reads::<S>(version, *part, sample.clone()));
            let read = misfits.try_fold(None, |first, read| match read {
                Ok(()) => Err(()),
                Err(misfit) => Ok(first.or(Some(misfit))),
            });
            if let Ok(Some(misfit)) = read {
                faults.push(format!("{section} {sample}: {misfit}"));
            }
        }
    }
    faults
}

fn reads<S: Saga>(from: u16, part: Part, sample: Value) -> Result<(), Misfit> {
    let now = upcast::up::<S>(from, part, sample)?.to_string();
    fn reads<T: DeserializeOwned>(json: &str) -> Result<(), Misfit> {
        upcast::read::<T>("sample", json).map(|_| ())
    }
    match part {
        Part::State => reads::<S::State>(&now),
        Part::Step => reads::<S::Step>(&now),
        Part::CallerStep => reads::<CallerStep<S>>(&now),
        Part::Event => reads::<S::Event>(&now),
        Part::Signal => reads::<S::Signal>(&now),
        Part::Reason => reads::<S::Reason>(&now),
    }
}
