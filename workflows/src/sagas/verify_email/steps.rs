//! How the verification mail is sent.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};
use uuid::Uuid;

use super::{Event, VerifyEmailSteps};
use crate::{
    customer::verification,
    shop::{Shop, mail::MailError},
};

/// Does the steps of [`super::VerifyEmail`].
pub struct Steps {
    shop: Arc<Shop>,
    pool: PgPool,
}

impl Steps {
    /// With the shop's mailer; `pool` is only read.
    #[must_use]
    pub fn new(shop: Arc<Shop>, pool: PgPool) -> Self {
        Self { shop, pool }
    }
}

impl VerifyEmailSteps for Steps {
    async fn send(&self, key: &Key, customer: &Uuid) -> Outcome<Event> {
        let customer = *customer;
        let recipient = match verification::recipient(&self.pool, customer).await {
            Ok(Some(recipient)) => recipient,
            Ok(None) => return Outcome::event(Event::NotNeeded),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        if recipient.is_valid_for() < self.shop.config.verification_lifetime / 2 {
            return Outcome::event(Event::TokenExpires);
        }
        let customer_key = match self.shop.keys.get(customer).await {
            Ok(Some(key)) => key,
            Ok(None) => return Outcome::event(Event::NotNeeded),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        let token = verification::token(&customer_key, customer);
        let mail = recipient.mail(&token, &self.shop.config);
        match self.shop.mailer.send(&key.to_string(), &mail).await {
            Ok(()) => Outcome::event(Event::Sent),
            Err(error @ MailError::NotDone(_)) => Outcome::NotDone(Cause::new(error)),
            Err(error @ MailError::Unknown(_)) => Outcome::Unknown(Cause::new(error)),
        }
    }

    async fn prolong(&self, tx: &mut StepTx<'_>, customer: &Uuid) -> Result<Event, StepError> {
        verification::prolong(tx, *customer, self.shop.config.verification_lifetime).await?;
        Ok(Event::TokenProlonged)
    }
}
