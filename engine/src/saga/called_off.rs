//! Why an instance unwinds without having decided it.

use std::{convert::Infallible, fmt::Debug};

/// Why an instance unwinds without having decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalledOff<T> {
    /// This step, a call, could not be done within its terms.
    GaveUp(T),
    /// Its deadline passed.
    Deadline,
    /// The parent unwinds.
    ByParent,
    /// Somebody cancelled it ([`crate::Engine::cancel`]), for the reason given.
    Cancelled(String),
}

impl<T: Debug> CalledOff<T> {
    /// For the journal.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::GaveUp(step) => format!("{step:?} could not be done"),
            Self::Deadline => "its deadline passed".to_owned(),
            Self::ByParent => "its parent unwinds".to_owned(),
            Self::Cancelled(why) => format!("cancelled: {why}"),
        }
    }
}

impl<T: Debug> From<CalledOff<T>> for String {
    fn from(why: CalledOff<T>) -> Self {
        why.text()
    }
}

impl CalledOff<Infallible> {
    /// The same for a saga with these steps.
    pub(crate) fn of<T>(self) -> CalledOff<T> {
        match self {
            Self::GaveUp(never) => match never {},
            Self::Deadline => CalledOff::Deadline,
            Self::ByParent => CalledOff::ByParent,
            Self::Cancelled(why) => CalledOff::Cancelled(why),
        }
    }
}
