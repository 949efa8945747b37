//! What a caller may send to an instance. [`crate::signals!`] writes a saga's own type of it.

use serde::{Deserialize, Serialize};

use crate::saga::Payload;

/// The signals of a saga with these events: what a caller may send to an instance. An outcome of a step is no signal and cannot be sent.
pub trait Signals<E>: Payload {
    /// The event that [`Saga::on`](crate::Saga::on) receives for it.
    fn event(self) -> E;

    /// What happens to the signal when the present state does not take it.
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

/// What becomes of a signal that its state does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// It is kept until a state takes it.
    Keep,
    /// The sender is told that it was refused.
    Refuse,
}

/// A type without values: the signals of a saga that takes none.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}
