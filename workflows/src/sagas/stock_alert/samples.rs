//! Samples of everything that may happen to an alert about stock, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Alert, Crossing, Event as E, Step, StockAlert};

pub(super) fn alert(crossing: Crossing) -> Alert {
    Alert { product: Uuid::nil(), inventory: Uuid::nil(), crossing }
}

impl Samples for StockAlert {
    fn inputs() -> Vec<Alert> {
        vec![alert(Crossing::Low { available: 4, threshold: 5 }), alert(Crossing::Out)]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Publish(_) => vec![Sample::done(E::Published)],
        }
    }
}
