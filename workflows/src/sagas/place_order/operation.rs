//! The operation that a client sees of a placement: the order, the payment to approve, and the reason why it failed.

use super::{PlaceOrder, Reason, State};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, Action, ShopSaga},
};

impl ShopSaga for PlaceOrder {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Order;

    fn action(state: State) -> Option<Action> {
        match state {
            State::AwaitingApproval { url, expires_at, .. } => {
                Some(Action::ApprovePayment { url, expires_at })
            }
            State::Creating(_)
            | State::Confirming(..)
            | State::Expiring(..)
            | State::Placing(..)
            | State::Placed(_) => None,
        }
    }

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
