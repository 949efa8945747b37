//! Stories of a reservation by hand.

use stepwise_engine::{
    Status,
    testing::{Asks, walk},
};

use super::{
    Event as E, ReservationExpiry,
    samples::{HOUR, reserved},
};

#[test]
fn a_reservation_is_released_when_its_time_is_over() {
    let mut reservation = walk::<ReservationExpiry>(reserved());
    assert!(matches!(reservation.asks(), Asks::Wait(Some((left, _))) if left == 24 * HOUR));
    reservation.time_passes().answers(E::Released);
    assert_eq!((reservation.status(), reservation.steps()), (Status::Completed, vec!["Release"]));
}

#[test]
fn a_reservation_to_which_more_was_added_is_held_longer() {
    let mut reservation = walk::<ReservationExpiry>(reserved());
    reservation.time_passes().answers(E::Prolonged(HOUR));
    assert!(matches!(reservation.asks(), Asks::Wait(Some((left, _))) if left == HOUR));
    reservation.time_passes().answers(E::Released);
    assert_eq!(reservation.status(), Status::Completed);
}
