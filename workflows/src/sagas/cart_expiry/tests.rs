//! Stories of a cart that is watched.

use stepwise_engine::{
    Status,
    testing::{Asks, walk},
};

use super::{
    CartExpiry, Event as E,
    samples::{DAY, watch},
};

#[test]
fn a_cart_that_is_left_alone_expires_at_the_first_look() {
    let mut cart = walk::<CartExpiry>(watch());
    assert!(matches!(cart.asks(), Asks::Wait(Some((left, _))) if left == 7 * DAY));
    cart.time_passes().answers(E::Ended);
    assert_eq!((cart.status(), cart.steps()), (Status::Completed, vec!["Look"]));
}

#[test]
fn a_cart_that_is_used_is_looked_at_again_when_it_may_have_expired() {
    let mut cart = walk::<CartExpiry>(watch());
    cart.time_passes().answers(E::InUse(3 * DAY));
    assert!(matches!(cart.asks(), Asks::Wait(Some((left, _))) if left == 3 * DAY));
    cart.time_passes().answers(E::Ended);
    assert_eq!((cart.status(), cart.steps()), (Status::Completed, vec!["Look", "Look"]));
}
