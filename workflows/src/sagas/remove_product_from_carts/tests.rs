//! Stories of a product that is taken out of carts.

use stepwise_engine::{Status, testing::walk};
use uuid::Uuid;

use super::{Event as E, RemoveProductFromCarts};

#[test]
fn it_takes_batch_after_batch_until_none_is_left_and_then_looks_once_more() {
    let mut removal = walk::<RemoveProductFromCarts>(Uuid::nil());
    removal.time_passes().answers(E::Removed).answers(E::Removed).answers(E::NoneLeft);
    assert_eq!(removal.status(), Status::Running);
    removal.time_passes().answers(E::Removed).answers(E::NoneLeft);
    assert_eq!((removal.status(), removal.steps().len()), (Status::Completed, 5));
}
