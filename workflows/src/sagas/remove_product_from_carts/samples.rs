//! Samples of everything that may happen while a product is taken out of carts, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Look, RemoveProductFromCarts, State, Step};

impl Samples for RemoveProductFromCarts {
    fn inputs() -> Vec<Uuid> {
        vec![Uuid::nil()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Remove(_) => vec![Sample::done(E::Removed), Sample::done(E::NoneLeft)],
        }
    }

    fn name(state: &State) -> String {
        match state {
            State::Waiting(_, Look::First) => "Waiting".to_owned(),
            State::Waiting(_, Look::Last) => "WaitingOnceMore".to_owned(),
            State::Removing(_, Look::First) => "Removing".to_owned(),
            State::Removing(_, Look::Last) => "RemovingOnceMore".to_owned(),
            State::Over(_) => "Over".to_owned(),
        }
    }
}
