//! Why an instance unwinds without having decided it.

use std::{convert::Infallible, fmt::Debug};

/// Why an instance unwinds without having decided it.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use serde::{Deserialize, Serialize};
/// use stepwise_engine::CalledOff;
///
/// /// Why a placement unwinds, as the shop wants to tell its customer.
/// #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
/// enum Reason {
///     SoldOut,
///     BankIsAway,
///     Cancelled(String),
/// }
///
/// impl From<CalledOff<Step>> for Reason {
///     fn from(why: CalledOff<Step>) -> Self {
///         match why {
///             CalledOff::GaveUp(Step::Charge) => Self::BankIsAway,
///             CalledOff::Cancelled(why) => Self::Cancelled(why),
///             other => Self::Cancelled(String::from(other)),
///         }
///     }
/// }
///
/// assert_eq!(Reason::from(CalledOff::GaveUp(Step::Charge)), Reason::BankIsAway);
/// assert_eq!(Reason::from(CalledOff::Deadline), Reason::Cancelled("its deadline passed".to_owned()));
/// ```
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
