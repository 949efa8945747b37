//! How the verification mail is sent.

use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};
use uuid::Uuid;

use super::{Event, VerifyEmailSteps};
use crate::{
    customer::verification::{self, Letter, Occasion},
    sagas::{Steps, mailing},
};

impl VerifyEmailSteps for Steps {
    async fn send(&self, key: &Key, customer: &Uuid) -> Outcome<Event> {
        let of = (*customer, *customer);
        match verification::letter(&self.shop, &self.pool, of, Occasion::Asked).await {
            Ok(Some(Letter { valid_for, .. }))
                if valid_for < self.shop.config.verification_lifetime / 2 =>
            {
                Outcome::event(Event::TokenExpires)
            }
            Ok(Some(Letter { mail, .. })) => {
                mailing::send(&self.shop, key, &mail, Event::Sent).await
            }
            Ok(None) => Outcome::event(Event::NotNeeded),
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn prolong(&self, tx: &mut StepTx<'_>, customer: &Uuid) -> Result<Event, StepError> {
        verification::prolong(tx, *customer, self.shop.config.verification_lifetime).await?;
        Ok(Event::TokenProlonged)
    }
}
