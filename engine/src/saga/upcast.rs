//! Stored data of earlier versions: what a saga is asked to bring up, and why it cannot.

use std::fmt;

/// A kind of stored data. Steps stand in what is pending and in open undos, events in armed timers.
///
/// ```
/// use serde_json::{Value, json};
/// use stepwise_engine::{Part, UpcastError};
///
/// /// As `Saga::upcast` of version 2, which calls a guest by a number, may say it.
/// fn upcast(from: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
///     match (from, part, &json["Hold"]) {
///         (1, Part::Step, Value::String(guest)) => {
///             let number = guest.parse::<u32>().map_err(|_| UpcastError::Unfit(guest.clone()))?;
///             Ok(json!({ "Hold": number }))
///         }
///         (1, ..) => Ok(json),
///         _ => Err(UpcastError::Missing { from, part }),
///     }
/// }
/// assert_eq!(upcast(1, Part::Step, json!({ "Hold": "7" })), Ok(json!({ "Hold": 7 })));
/// assert!(upcast(1, Part::Step, json!({ "Hold": "ann" })).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// [`Saga::State`](crate::Saga::State).
    State,
    /// [`Saga::Step`](crate::Saga::Step): a pending step, or one that an open undo takes back.
    Step,
    /// A step of the caller ([`crate::saga::To::caller_did`]), in an open undo. Also an undo that was recorded by a release whose rows named the
    /// undo and not the step that it takes back: such an undo is a row of the caller's block of the table.
    CallerStep,
    /// [`Saga::Event`](crate::Saga::Event).
    Event,
    /// [`Saga::Signal`](crate::Saga::Signal): a signal that is kept.
    Signal,
    /// [`Saga::Reason`](crate::Saga::Reason).
    Reason,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "state",
            Self::Step => "step",
            Self::CallerStep => "caller's step",
            Self::Event => "event",
            Self::Signal => "signal",
            Self::Reason => "reason",
        })
    }
}

/// Why stored data could not be brought up one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// The saga has no way from that version.
    #[error("upcast from {from} to {} is missing for {part}", from + 1)]
    Missing {
        /// The version that stored it.
        from: u16,
        /// The part that was stored.
        part: Part,
    },
    /// The saga has one, but not for this value.
    #[error("{0}")]
    Unfit(String),
}
