//! What is stored must be read back as the same.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    base::json::{Json, json, shown},
    instance::{Instance, Pending, unwind::OpenUndo},
    saga::Saga,
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

/// What of an instance's row could not be stored, or not be read again: each part with the reason.
pub(super) fn unreadable<S: Saga>(instance: &Instance<S>) -> Vec<(&'static str, String)> {
    let parts = [
        ("state", reads_back(&instance.state)),
        ("pending step", reads_back(&instance.pending)),
        ("open undos", reads_back(&instance.undos)),
        ("reason", instance.reason.as_ref().map_or(Ok(()), reads_back)),
    ];
    parts.into_iter().filter_map(|(part, read)| Some((part, read.err()?))).collect()
}

/// # Errors
/// Why it is not what was written.
pub(super) fn reads_back<T: Serialize + DeserializeOwned>(value: &T) -> Result<(), String> {
    let written = json(value);
    let text = written.text().map_err(|why| why.to_string())?;
    let read: T = serde_json::from_str(text)
        .map_err(|error| format!("it is stored as {text}, which cannot be read: {error}"))?;
    let again = json(&read);
    let again = again.text().map_err(|why| why.to_string())?;
    if in_order(text) == in_order(again) {
        Ok(())
    } else {
        Err(format!("it is stored as {text} and read as {again}"))
    }
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
