//! Children that a transition starts, how they end, and what a saga may not decide.

use serde::{Deserialize, Serialize};

use crate::{
    base::limits::Refused,
    record::commit::{Birth, Parent},
};

/// A child that a transition starts ([`crate::saga::To::children`]). Several children of one saga and subject need start keys.
pub struct Child(pub(crate) Box<dyn FnOnce(Parent) -> Result<Birth, Forbidden> + Send>);

/// How the children that a transition started have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Joined {
    /// The number that reached their end. Their undos are kept until the parent passes its pivot or completes.
    pub completed: u32,
    /// The number that took everything back.
    pub unwound: u32,
    /// The number that were given up by a person.
    pub abandoned: u32,
}

/// The saga decided something that its position does not allow: a bug in the saga.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Forbidden {
    #[error("a saga cannot unwind after its pivot")]
    UnwindAfterPivot,
    #[error("{0} starts by unwinding")]
    StartsByUnwinding(&'static str),
    #[error("a child cannot pass a pivot while its parent may still take it back")]
    PivotOfHeldChild,
    #[error("a child cannot be started: {0}")]
    Child(Refused),
    #[error("a saga cannot begin anew while something is left to be taken back")]
    AnewWithOpenUndos,
}
