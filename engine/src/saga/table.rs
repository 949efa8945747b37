//! The pure half of the table of a saga's steps, which the engine records and [`crate::testing::explore`] looks at. The half that does the
//! steps is [`crate::DoneBy`]. [`crate::steps!`] writes both; nobody implements them by hand.

use std::fmt::Debug;

use crate::saga::{Payload, terms::Terms};
use serde::{Deserialize, Serialize};

/// The place where a step is done.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Kind, StepTable};
///
/// assert_eq!(Step::Hold(7).kind(), Kind::Tx);
/// assert_eq!(Step::Charge.kind(), Kind::Call);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the transition's own transaction.
    Tx,
    /// Outside any transaction, by a call.
    Call,
}

/// How a step is taken back, with the name of the method that does it.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{StepTable, WayBack};
///
/// assert_eq!(Step::Hold(7).way_back(), WayBack::InTx("release"));
/// assert_eq!(Step::Charge.way_back(), WayBack::ByCall("refund"));
/// assert_eq!(Step::Admit.way_back(), WayBack::Pivot);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// By this method, in a transaction.
    InTx(&'static str),
    /// By this method, outside any transaction.
    ByCall(&'static str),
    /// Nothing is to be taken back.
    Nothing,
    /// The saga only goes forward after this step.
    Pivot,
}

/// The steps of a saga, made by [`crate::steps!`]: what its table says about each.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{StepTable, amount};
///
/// /// Does the step move money?
/// fn moves_money(step: &impl StepTable) -> bool {
///     step.terms().effect.is_some_and(|effect| effect.amount.is_some())
/// }
/// assert!(moves_money(&Step::Charge) && !moves_money(&Step::Admit));
/// assert!(Step::Charge.has_probe(), "the bank is asked about an unknown outcome");
/// ```
pub trait StepTable: Payload {
    /// The events that the steps return.
    type Event: Payload;
    /// Why they are taken back.
    type Reason: Payload;
    /// The steps that a caller does in the transaction that starts an instance ([`crate::saga::To::caller_did`]).
    type CallerStep: Payload;

    /// Is it a tx step or a call?
    fn kind(&self) -> Kind;

    /// Is it a tx step that instances do together?
    fn runs_together(&self) -> bool;

    /// Does a probe settle its unknown outcome? Otherwise the call is repeated under its key.
    fn has_probe(&self) -> bool;

    /// How it is taken back.
    fn way_back(&self) -> WayBack;

    /// The terms of a call.
    fn terms(&self) -> Terms;

    /// The terms of its undo, if that is a call.
    fn undo_terms(&self) -> Terms;

    /// How what the caller did is taken back.
    fn caller_way_back(step: &Self::CallerStep) -> WayBack;

    /// The terms of that undo, if it is a call.
    fn caller_undo_terms(step: &Self::CallerStep) -> Terms;
}

/// A step that an undo takes back.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Done, Rest};
///
/// /// As `Saga::on_failed_undo` may say it: a refund that fails keeps the seat from nobody.
/// fn on_failed_undo(done: &Done<Step>) -> Rest {
///     match done {
///         Done::Step(Step::Charge) => Rest::GoesOn,
///         Done::Step(_) | Done::Caller(_) => Rest::Waits,
///     }
/// }
/// assert_eq!(on_failed_undo(&Done::Step(Step::Charge)), Rest::GoesOn);
/// ```
#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Done<T: StepTable> {
    /// The engine did it.
    Step(T),
    /// The caller did it, in the transaction that started the instance ([`crate::saga::To::caller_did`]).
    Caller(T::CallerStep),
}

impl<T: StepTable> Done<T> {
    /// How it is taken back.
    pub fn way_back(&self) -> WayBack {
        match self {
            Self::Step(step) => step.way_back(),
            Self::Caller(step) => T::caller_way_back(step),
        }
    }

    pub(crate) fn undo_terms(&self) -> Terms {
        match self {
            Self::Step(step) => step.undo_terms(),
            Self::Caller(step) => T::caller_undo_terms(step),
        }
    }

    /// The method that takes it back; empty if none does.
    pub(crate) fn undo_name(&self) -> &'static str {
        match self.way_back() {
            WayBack::InTx(name) | WayBack::ByCall(name) => name,
            WayBack::Nothing | WayBack::Pivot => "",
        }
    }
}

/// The behaviour of the other undos when one cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// They wait until a person has dealt with it.
    Waits,
    /// They are done; the failed one is set aside, and needs a person in the end.
    GoesOn,
}

/// The code that the macros of this crate write into other crates.
#[doc(hidden)]
pub mod parts {
    pub use sqlx::PgConnection;

    use crate::saga::steps::{Cause, Outcome, Probe, StepError, Undone};

    /// The only event of a method that does a step for all instances at once, and was given one.
    ///
    /// # Errors
    /// The method answered another number of events.
    pub fn only<E>(events: Vec<E>) -> Result<E, StepError> {
        let [event] = <[E; 1]>::try_from(events).map_err(|events| not_one_each(1, events.len()))?;
        Ok(event)
    }

    pub(crate) fn not_one_each(instances: usize, events: usize) -> StepError {
        StepError::Broken(format!(
            "a step that is done together answered {events} events for {instances} instances"
        ))
    }

    // The answer of the dispatch for a step of another kind. The engine asks the table first, so it never comes here.

    /// # Errors
    /// Always.
    pub fn not_in_tx<T>() -> Result<T, StepError> {
        Err(StepError::Broken("its table does not do this in a transaction".to_owned()))
    }

    #[must_use]
    pub fn not_a_call<E>() -> Outcome<E> {
        Outcome::NotDone(Cause::new("its table does not do this by a call"))
    }

    #[must_use]
    pub fn has_no_probe<E>() -> Probe<E> {
        Probe::Unknown(Cause::new("its table names no probe for this step"))
    }

    #[must_use]
    pub fn not_undone_by_call() -> Undone {
        Undone::Impossible(Cause::new("its table does not take this back by a call"))
    }
}
