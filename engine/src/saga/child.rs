//! Children that a transition starts, how they end, and what a saga may not decide.

use serde::{Deserialize, Serialize};

use crate::{
    base::limits::Refused,
    record::commit::{NewInstance, Parent},
};

/// A child that a transition starts ([`crate::saga::To::children`]). Several children of one saga and subject need start keys.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
///
/// /// A group of guests gets a seat each; all of them, or none.
/// fn seats<Group: Saga<State = u32>>(guests: &[u32]) -> Next<Group> {
///     // One subject, so each child needs a start key.
///     let seat = |guest: &u32| Child::of::<Seat>(Start::new("group 4", *guest).key(guest.to_string()));
///     to(guests.len() as u32).children(guests.iter().map(seat).collect())
/// }
/// ```
pub struct Child(pub(crate) Box<dyn FnOnce(Parent) -> Result<NewInstance, Forbidden> + Send>);

/// How the children that a transition started have ended.
///
/// ```
/// use stepwise_engine::Joined;
///
/// #[derive(Debug, PartialEq)]
/// enum Event { AllSeated, SomeWithout(u32) }
///
/// /// As a group's `Saga::joined` may say it.
/// fn joined(ends: &Joined) -> Option<Event> {
///     let without = ends.unwound + ends.abandoned;
///     Some(if without == 0 { Event::AllSeated } else { Event::SomeWithout(without) })
/// }
///
/// let ends = Joined { completed: 3, unwound: 1, abandoned: 0 };
/// assert_eq!(joined(&ends), Some(Event::SomeWithout(1)));
/// ```
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
    PivotOfBoundChild,
    #[error("a child cannot be started: {0}")]
    Child(Refused),
    #[error("a saga cannot begin anew while something is left to be taken back")]
    AnewWithOpenUndos,
}
