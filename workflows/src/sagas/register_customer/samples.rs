//! Samples of everything that may happen while an address is proved, for exploring the saga and for trying it.

use std::time::Duration;

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Input, Proof, RegisterCustomer, Signal, Step};

impl Samples for RegisterCustomer {
    fn inputs() -> Vec<Input> {
        let proof = Proof { customer: Uuid::nil(), token: Uuid::max() };
        vec![Input::Registered(Uuid::nil()), Input::AskedAgain(proof)]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        let sent = |remind_after_h: u64| E::Sent {
            remind_after: Duration::from_secs(remind_after_h * 3_600),
            expires_after: Duration::from_secs(24 * 3_600),
        };
        match step {
            Step::Issue(_) => vec![Sample::done(E::Issued), Sample::done(E::NotNeeded)],
            Step::Send(_) => vec![
                Sample::done(sent(20)),
                Sample::done(sent(24)),
                Sample::done(E::NotNeeded),
                Sample::done(E::TokenExpires),
            ],
            Step::Prolong(_) => vec![Sample::done(E::TokenProlonged)],
            Step::Remind(_) => vec![
                Sample::done(E::Reminded { expires_after: Duration::from_secs(4 * 3_600) }),
                Sample::done(E::NotNeeded),
            ],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Verified]
    }
}
