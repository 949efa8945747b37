//! Stories of an alert about stock.

use stepwise_engine::{Status, testing::walk};

use super::{Crossing, Event as E, StockAlert, samples::alert};

#[test]
fn partners_are_told_once_and_that_is_all() {
    let mut out = walk::<StockAlert>(alert(Crossing::Out));
    out.time_passes().answers(E::Published);
    assert_eq!((out.status(), out.steps()), (Status::Completed, vec!["Publish"]));
}
