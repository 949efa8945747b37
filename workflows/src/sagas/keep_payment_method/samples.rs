//! Samples of everything that may happen to a payment method at the gateway, for exploring the saga and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Input, KeepPaymentMethod, Step};
use crate::payment::gateway::Reference;

pub(super) fn account() -> Reference {
    Reference("cus_1".to_owned())
}

impl Samples for KeepPaymentMethod {
    fn inputs() -> Vec<Input> {
        vec![Input::Attach(Uuid::nil()), Input::Detach(Uuid::nil())]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Open(_) => {
                vec![Sample::done(E::Opened(account())), Sample::done(E::NotAttached)]
            }
            Step::Keep(..) => {
                vec![Sample::done(E::Kept(account())), Sample::done(E::NotAttached)]
            }
            Step::Attach(..) => vec![Sample::done(E::Attached), Sample::done(E::NotAttached)],
            Step::Note(..) | Step::Forget(_) => vec![Sample::done(E::Noted)],
            Step::Detach(_) => vec![Sample::done(E::Detached), Sample::done(E::NotAttached)],
        }
    }
}
