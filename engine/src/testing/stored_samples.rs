//! The data that exploring a saga finds stored, as a golden file shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use serde_json::Value;

use super::samples::Samples;
use crate::{
    base::json::shown as json,
    instance::{Instance, Pending, unwind::OpenUndo},
    saga::{Done, upcast::Part},
};

/// Samples by the kind of data; each value once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StoredSamples(BTreeMap<Part, BTreeSet<String>>);

impl StoredSamples {
    pub(super) fn add(&mut self, part: Part, value: &impl Serialize) {
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
    pub(super) fn missing_in(&self, file: &str) -> Vec<String> {
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
    pub(super) fn text(&self, name: &str, version: u16) -> String {
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

/// As what the samples of a section may be read. The files of earlier releases have sections for tx steps and activities, which may be steps or
/// recorded undos, and list signals among the events.
pub(super) fn parts(section: &str) -> Option<&'static [Part]> {
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
