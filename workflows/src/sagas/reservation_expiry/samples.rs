//! Samples of everything that may happen to the end of a reservation, for exploring it and for trying it.

use std::time::Duration;

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Input, Reservation, ReservationExpiry, Step};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn reserved() -> Input {
    let reservation = Reservation { order: Uuid::nil(), inventory: Uuid::nil() };
    Input { reservation, lifetime: 24 * HOUR }
}

impl Samples for ReservationExpiry {
    fn inputs() -> Vec<Input> {
        vec![reserved()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Release(_) => vec![Sample::done(E::Prolonged(HOUR)), Sample::done(E::Released)],
        }
    }
}
