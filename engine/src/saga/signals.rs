//! Signals: the events that a caller may send to an instance. [`crate::signals!`] writes a saga's own type of it.

use serde::{Deserialize, Serialize};

use crate::saga::Payload;

/// The signals of a saga with these events: what a caller may send to an instance. An outcome of a step is no signal and cannot be sent.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stepwise_engine::{Early, Signals, signals};
///
/// #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
/// enum Event { Paid, Host(Signal) }
///
/// signals! {
///     /// Made by the macro, an event of its own inside the saga's.
///     #[derive(PartialEq)]
///     enum Signal as Event::Host { Confirms => keep, Hurries => refuse }
/// }
///
/// assert_eq!(Signal::Confirms.event(), Event::Host(Signal::Confirms));
/// assert_eq!(Signal::Confirms.early(), Early::Keep);
/// assert_eq!(Signal::Hurries.early(), Early::Refuse);
/// ```
pub trait Signals<E>: Payload {
    /// The event that [`Saga::on`](crate::Saga::on) receives for it.
    fn event(self) -> E;

    /// The fate of the signal when the present state does not take it.
    fn early(&self) -> Early;
}

impl<E> Signals<E> for Never {
    fn event(self) -> E {
        match self {}
    }

    fn early(&self) -> Early {
        match *self {}
    }
}

/// The fate of a signal that the present state does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// It is kept until a state takes it.
    Keep,
    /// The sender is told that it was refused.
    Refuse,
}

/// A type without values: the signals of a saga that takes none.
///
/// ```
/// use stepwise_engine::{Never, Signals};
///
/// /// Signals of any saga may be handled; of one that takes none, there is no value to call this with.
/// fn events<E>(signals: Vec<impl Signals<E>>) -> Vec<E> {
///     signals.into_iter().map(Signals::event).collect()
/// }
/// assert_eq!(events::<String>(Vec::<Never>::new()), Vec::<String>::new());
/// ```
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}
