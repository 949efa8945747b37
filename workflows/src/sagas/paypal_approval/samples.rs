//! Samples of everything that may happen to an approval, for exploring it and for trying it.

use std::time::Duration;

use chrono::DateTime;
use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Input, PayPalApproval, Signal, State, Step};
use crate::payment::gateway::Reference;

pub(super) const TIME: Duration = Duration::from_secs(1_800);

pub(super) fn reference() -> Reference {
    Reference("paypal:5O190127TN364715T".to_owned())
}

pub(super) fn opened() -> E {
    let url = "http://127.0.0.1/approve".to_owned();
    E::Opened { reference: reference(), url, expires_at: None }
}

pub(super) fn offered() -> E {
    E::Offered { expires_at: DateTime::UNIX_EPOCH, left: TIME }
}

pub(super) fn given_back() -> Input {
    Input::GiveBack(Uuid::nil(), reference())
}

impl Samples for PayPalApproval {
    fn inputs() -> Vec<Input> {
        vec![Input::Open(Uuid::nil()), given_back()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Open(_) => vec![Sample::done(opened()), Sample::refused(E::Refused)],
            Step::Offer { .. } => vec![Sample::done(offered())],
            Step::Ask(..) => vec![
                Sample::done(E::Approved),
                Sample::done(E::StillOpen(TIME)),
                Sample::refused(E::Gone),
            ],
            Step::Approve(_) => vec![Sample::done(E::Usable)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Reported]
    }

    fn position(state: &State) -> String {
        Self::name(state)
    }
}
