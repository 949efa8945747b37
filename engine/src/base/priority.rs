//! The classes in which due instances are claimed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The class of an instance: workers claim a higher class first when many instances are due. No instance starves: instances of a higher class
/// overtake it only if they are due at most [`Priority::HEAD_START`] later.
///
/// ```
/// use stepwise_engine::{Priority, Start};
///
/// let refund = Start::new("order 7", 7).priority(Priority::High);
/// assert!(refund.priority != Priority::default());
/// assert_eq!(refund.priority.as_str(), "high");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before the others.
    High,
    /// The default.
    #[default]
    Normal,
    /// After the others.
    Low,
}

impl Priority {
    /// How much later an instance of the next higher class may be due and still go first.
    pub const HEAD_START: Duration = Duration::from_secs(60);

    pub(crate) fn as_i16(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// The word on the command line and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The inverse of [`Priority::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::High, Self::Normal, Self::Low].into_iter().find(|one| one.as_str() == text)
    }
}

impl TryFrom<i16> for Priority {
    type Error = String;

    fn try_from(number: i16) -> Result<Self, String> {
        [Self::High, Self::Normal, Self::Low]
            .into_iter()
            .find(|one| one.as_i16() == number)
            .ok_or_else(|| format!("unknown priority {number}"))
    }
}
