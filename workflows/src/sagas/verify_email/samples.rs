//! Samples of everything that may happen to a verification mail, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, Step, VerifyEmail};

impl Samples for VerifyEmail {
    fn inputs() -> Vec<Uuid> {
        vec![Uuid::nil()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Send(_) => vec![
                Sample::done(E::Sent),
                Sample::done(E::NotNeeded),
                Sample::done(E::TokenExpires),
            ],
            Step::Prolong(_) => vec![Sample::done(E::TokenProlonged)],
        }
    }
}
