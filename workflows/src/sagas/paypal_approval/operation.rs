//! The operation that a client sees of an approval: the payment method, the page where the customer approves, and the reason why it failed.

use super::{Offer, PayPalApproval, Reason, State};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, Action, ShopSaga},
};

impl ShopSaga for PayPalApproval {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::PaymentMethod;

    fn action(state: State) -> Option<Action> {
        match state {
            State::AwaitingApproval(Offer { url, expires_at, .. }) => {
                Some(Action::ApprovePayment { url, expires_at: Some(expires_at) })
            }
            State::Opening(_)
            | State::Offering { .. }
            | State::Asking(_)
            | State::Returning(_)
            | State::Approving(_)
            | State::Approved(_) => None,
        }
    }

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
