//! Samples of everything that may happen to the watch over a cart, for exploring it and for trying it.

use std::time::Duration;

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{CartExpiry, Event as E, Step, Watch};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn watch() -> Watch {
    Watch { cart: Uuid::nil(), after: 7 * DAY }
}

impl Samples for CartExpiry {
    fn inputs() -> Vec<Watch> {
        vec![watch()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Look(_) => vec![Sample::done(E::InUse(DAY)), Sample::done(E::Ended)],
        }
    }
}
