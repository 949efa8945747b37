//! Checks that stored data is read back as the same.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    base::json::{Json, json, shown},
    instance::{Instance, Pending, unwind::OpenUndo},
    saga::{Done, Payload, Saga},
};

impl<S: Saga> Instance<S> {
    /// The pending step and the open undos without the numbers of their commits: what may happen next depends on them.
    pub(super) fn shape(&self) -> (String, String) {
        let pending = match &self.pending {
            Pending::Nothing => String::new(),
            Pending::Run { step, .. } | Pending::Call { step, .. } => shown(step),
            Pending::Timer { event, .. } | Pending::Event { event, .. } => shown(event),
            Pending::Children { .. } => "children".to_owned(),
        };
        let undos = Json::list(self.undos.iter().map(OpenUndo::shown));
        (pending, undos.text().map_or_else(|why| why.to_string(), str::to_owned))
    }
}

/// The parts of an instance's row that could not be stored, or not be read again, each with the reason.
pub(super) fn unreadable<S: Saga>(instance: &Instance<S>) -> Vec<(&'static str, String)> {
    let pending = match &instance.pending {
        Pending::Run { step, .. } | Pending::Call { step, .. } => reads_back(step),
        Pending::Timer { event, .. } | Pending::Event { event, .. } => reads_back(event),
        Pending::Nothing | Pending::Children { .. } => Ok(()),
    };
    let undos = instance.undos.iter().try_for_each(|open| match open.done() {
        Some(Done::Step(step)) => reads_back(step),
        Some(Done::Caller(step)) => reads_back(step),
        None => Ok(()),
    });
    let parts = [
        ("state", reads_back(&instance.state)),
        ("pending step", pending.and_then(|()| json_reads_back(&instance.pending).map(|_| ()))),
        ("open undos", undos.and_then(|()| json_reads_back(&instance.undos).map(|_| ()))),
        ("reason", instance.reason.as_ref().map_or(Ok(()), reads_back)),
    ];
    parts.into_iter().filter_map(|(part, read)| Some((part, read.err()?))).collect()
}

/// A value as it is written and read again is the one that it was: in JSON, and as `Debug` shows it. Only the latter knows of a field that is
/// left out when it is written.
///
/// # Errors
/// The difference.
pub(super) fn reads_back<T: Payload>(value: &T) -> Result<(), String> {
    let (text, read) = json_reads_back(value)?;
    let (was, is) = (format!("{value:?}"), format!("{read:?}"));
    if words(&was) == words(&is) {
        Ok(())
    } else {
        Err(format!("{was} is stored as {text} and read as {is}"))
    }
}

/// # Errors
/// Why its JSON is not what was written.
fn json_reads_back<T: Serialize + DeserializeOwned>(value: &T) -> Result<(String, T), String> {
    let written = json(value);
    let text = written.text().map_err(|why| why.to_string())?;
    let read: T = serde_json::from_str(text)
        .map_err(|error| format!("it is stored as {text}, which cannot be read: {error}"))?;
    let again = json(&read);
    let again = again.text().map_err(|why| why.to_string())?;
    if in_order(text) == in_order(again) {
        Ok((text.to_owned(), read))
    } else {
        Err(format!("it is stored as {text} and read as {again}"))
    }
}

/// The words of a text, in the same order whatever the order in which a set was shown.
fn words(shown: &str) -> Vec<&str> {
    let mut words = shown.split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>();
    words.sort_unstable();
    words
}

/// The same whatever the order in which a set was written.
fn in_order(text: &str) -> Value {
    fn sort(value: &mut Value) {
        match value {
            Value::Array(values) => {
                values.iter_mut().for_each(sort);
                values.sort_by_cached_key(Value::to_string);
            }
            Value::Object(fields) => fields.values_mut().for_each(sort),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap_or_default();
    sort(&mut value);
    value
}
