//! The operation that a client sees of an authorization: the order, the payment to approve, and the reason why it failed.

use super::{AuthorizePayment, Reason, State};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, Action, ShopSaga},
};

impl ShopSaga for AuthorizePayment {
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
            | State::Booking(..)
            | State::Authorized(_) => None,
        }
    }

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
