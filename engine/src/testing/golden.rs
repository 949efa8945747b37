//! Golden files: what each version of a saga has stored, so that no later one forgets how to read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{explore::explore, samples::Samples};
use crate::{
    base::json::shown as json,
    instance::{
        Instance, Pending,
        unwind::OpenUndo,
        upcast::{self, Misfit},
    },
    saga::{CallerStep, Done, Saga, upcast::Part},
};

/// Samples by the kind of data; each value once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored(BTreeMap<Part, BTreeSet<String>>);

impl Stored {
    fn add(&mut self, part: Part, value: &impl Serialize) {
        self.0.entry(part).or_default().insert(json(value));
    }

    /// The data that rows of instances hold.
    pub(super) fn see<S: Samples>(&mut self, instance: &Instance<S>) {
        self.add(Part::State, &instance.state);
        if let Some(reason) = &instance.reason {
            self.add(Part::Reason, reason);
        }
        match &instance.pending {
            Pending::Run { step, .. } | Pending::Call { step, .. } => self.step::<S>(step),
            Pending::Timer { event, .. } | Pending::Event { event, .. } => {
                self.add(Part::Event, event)
            }
            Pending::Nothing | Pending::Children { .. } => {}
        }
        for done in instance.undos.iter().filter_map(OpenUndo::done) {
            match done {
                Done::Step(step) => self.step::<S>(step),
                Done::Caller(step) => self.add(Part::CallerStep, step),
            }
        }
    }

    fn step<S: Samples>(&mut self, step: &S::Step) {
        self.add(Part::Step, step);
        for outcome in S::outcomes(step) {
            self.add(Part::Event, &outcome.event);
        }
    }

    /// The samples that a committed file does not show.
    fn missing_in(&self, file: &str) -> Vec<String> {
        let file: BTreeMap<String, Value> = serde_json::from_str(file).unwrap_or_default();
        let shows = |part: &Part, sample: &str| {
            let sample = serde_json::from_str::<Value>(sample).unwrap_or_default();
            let mut sections = file
                .iter()
                .filter(|(name, _)| parts(name).is_some_and(|parts| parts.contains(part)));
            sections.any(|(_, shown)| shown.as_array().is_some_and(|all| all.contains(&sample)))
        };
        let samples = self.0.iter().flat_map(|(part, all)| all.iter().map(move |one| (part, one)));
        let missing = samples.filter(|(part, sample)| !shows(part, sample));
        missing.map(|(part, sample)| format!("{part} {sample}")).collect()
    }

    /// One sample a line: a changed one is a changed line.
    fn text(&self, name: &str, version: u16) -> String {
        let mut text = format!("{{\n  \"saga\": \"{name}\",\n  \"version\": {version}");
        for (part, samples) in &self.0 {
            let _ = write!(text, ",\n  \"{part}\": [\n    ");
            let lines = samples.iter().map(String::as_str).collect::<Vec<_>>();
            text.push_str(&lines.join(",\n    "));
            text.push_str("\n  ]");
        }
        text.push_str("\n}\n");
        text
    }
}

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

/// As what the samples of a section may be read. The files of earlier releases have sections for tx steps and activities, which may be steps or
/// recorded undos, and list signals among the events.
fn parts(section: &str) -> Option<&'static [Part]> {
    Some(match section {
        "state" => &[Part::State],
        "step" => &[Part::Step],
        "caller's step" => &[Part::CallerStep],
        "tx step" | "activity" => &[Part::Step, Part::CallerStep],
        "event" => &[Part::Event, Part::Signal],
        "signal" => &[Part::Signal],
        "reason" => &[Part::Reason],
        _ => return None,
    })
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
