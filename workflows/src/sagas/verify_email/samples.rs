//! What may happen to a verification mail, by samples: for exploring it and for trying it.

use stepwise_engine::{
    Step,
    testing::{Sample, Samples},
};
use uuid::Uuid;

use super::{Activity, Event as E, Tx, VerifyEmail};

impl Samples for VerifyEmail {
    fn inputs() -> Vec<Uuid> {
        vec![Uuid::nil()]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<E>> {
        match step {
            Step::Activity(Activity::Send(_)) => vec![
                Sample::done(E::Sent),
                Sample::done(E::NotNeeded),
                Sample::done(E::TokenExpires),
            ],
            Step::Tx(Tx::Prolong(_)) => vec![Sample::done(E::TokenProlonged)],
            Step::Tx(Tx::Register(_)) => Vec::new(),
        }
    }

    fn signals() -> Vec<E> {
        Vec::new()
    }
}
