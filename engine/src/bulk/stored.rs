//! Values that a row holds as JSON, and that a newer build may have written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that is stored as JSON. A newer build may have written what this one has no type for; the JSON is then shown as it is, so that one row
/// keeps no list from being read.
///
/// ```
/// use stepwise_engine::{bulk::Stored, operate::Verb};
///
/// let stored: Stored<Verb> = serde_json::from_str(r#""retry""#)?;
/// assert_eq!(stored.known(), Some(&Verb::Retry));
///
/// let newer: Stored<Verb> = serde_json::from_str(r#"{"freeze": {"degrees": -4}}"#)?;
/// assert!(matches!(newer, Stored::Unknown(json) if json["freeze"]["degrees"] == -4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stored<T> {
    /// This build can read it.
    Known(T),
    /// A newer build wrote it. It is only shown.
    Unknown(Value),
}

impl<T> Stored<T> {
    /// The value, if this build can read it.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}
