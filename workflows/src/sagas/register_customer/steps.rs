//! How the mails about an address are sent, and their tokens made.

use std::time::Duration;

use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};

use super::{Event, Proof, RegisterCustomerSteps};
use crate::{
    customer::verification::{self, Letter, Occasion},
    sagas::{Steps, mailing},
};

/// The mail, or the outcome of a step that has none to send.
async fn letter(
    steps: &Steps,
    proof: &Proof,
    occasion: Occasion,
) -> Result<Letter, Outcome<Event>> {
    let of = (proof.customer, proof.token);
    match verification::letter(&steps.shop, &steps.pool, of, occasion).await {
        Ok(Some(letter)) => Ok(letter),
        Ok(None) => Err(Outcome::event(Event::NotNeeded)),
        Err(error) => Err(Outcome::NotDone(Cause::new(error))),
    }
}

impl RegisterCustomerSteps for Steps {
    async fn issue(&self, tx: &mut StepTx<'_>, proof: &Proof) -> Result<Event, StepError> {
        let is_issued = verification::issue(&self.shop, tx, proof.customer, proof.token).await?;
        Ok(if is_issued { Event::Issued } else { Event::NotNeeded })
    }

    async fn send(&self, key: &Key, proof: &Proof) -> Outcome<Event> {
        let Letter { mail, valid_for } = match letter(self, proof, Occasion::Asked).await {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let config = &self.shop.config;
        if valid_for < config.verification_lifetime / 2 {
            return Outcome::event(Event::TokenExpires);
        }
        let age = config.verification_lifetime.saturating_sub(valid_for);
        let sent = Event::Sent {
            remind_after: config.verification_reminder.saturating_sub(age),
            expires_after: valid_for,
        };
        mailing::send(&self.shop, key, &mail, sent).await
    }

    async fn prolong(&self, tx: &mut StepTx<'_>, proof: &Proof) -> Result<Event, StepError> {
        let lifetime = self.shop.config.verification_lifetime;
        verification::prolong(tx, proof.customer, lifetime).await?;
        Ok(Event::TokenProlonged)
    }

    async fn remind(&self, key: &Key, proof: &Proof) -> Outcome<Event> {
        match letter(self, proof, Occasion::Reminder).await {
            Ok(Letter { valid_for: Duration::ZERO, .. }) => Outcome::event(Event::NotNeeded),
            Ok(Letter { mail, valid_for }) => {
                let reminded = Event::Reminded { expires_after: valid_for };
                mailing::send(&self.shop, key, &mail, reminded).await
            }
            Err(outcome) => outcome,
        }
    }
}
