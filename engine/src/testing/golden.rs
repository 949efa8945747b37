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
    instance::{Instance, Pending},
    json::shown as json,
    saga::{Saga, Step},
    unwind::WayBack,
    upcast::{self, Misfit, Part},
};

/// Samples by the kind of data; each value once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored(BTreeMap<Part, BTreeSet<String>>);

impl Stored {
    fn add(&mut self, part: Part, value: &impl Serialize) {
        self.0.entry(part).or_default().insert(json(value));
    }

    /// What the row of an instance holds.
    pub(super) fn see<S: Samples>(&mut self, instance: &Instance<S>) {
        self.add(Part::State, &instance.state);
        if let Some(reason) = &instance.reason {
            self.add(Part::Reason, reason);
        }
        match &instance.pending {
            Pending::Run { step, .. } => self.step(&Step::<S>::Tx(step.clone())),
            Pending::Call { activity, .. } => self.step(&Step::<S>::Activity(activity.clone())),
            Pending::Timer { event, .. } | Pending::Event { event, .. } => {
                self.add(Part::Event, event)
            }
            Pending::Nothing | Pending::Children { .. } => {}
        }
        for undo in &instance.undos {
            match &undo.by {
                WayBack::Tx(step) => self.step(&Step::<S>::Tx(step.clone())),
                WayBack::Activity(activity) => self.step(&Step::<S>::Activity(activity.clone())),
                WayBack::Children | WayBack::Person => {}
            }
        }
    }

    fn step<S: Samples>(&mut self, step: &Step<S>) {
        match step {
            Step::Tx(step) => self.add(Part::Tx, step),
            Step::Activity(activity) => self.add(Part::Activity, activity),
        }
        for outcome in S::outcomes(step) {
            self.add(Part::Event, &outcome.event);
        }
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
        stored.add(Part::Event, &signal);
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
        assert!(
            update || version < S::VERSION || committed == text,
            "version {version} of {} stores something else than {} shows. If all of the file can still be read, write it anew with \
             UPDATE_GOLDEN=1:\n{text}",
            S::NAME,
            file.display()
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
    let parts = [Part::State, Part::Tx, Part::Activity, Part::Event, Part::Reason];
    let samples = parts.into_iter().flat_map(|part| {
        let of_part = file.get(&part.to_string()).and_then(Value::as_array);
        of_part.into_iter().flatten().map(move |sample| (part, sample))
    });
    let mut faults = Vec::new();
    for (part, sample) in samples {
        if let Err(misfit) = reads::<S>(version, part, sample.clone()) {
            faults.push(format!("{part} {sample}: {misfit}"));
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
        Part::Tx => reads::<S::Tx>(&now),
        Part::Activity => reads::<S::Activity>(&now),
        Part::Event => reads::<S::Event>(&now),
        Part::Reason => reads::<S::Reason>(&now),
    }
}
