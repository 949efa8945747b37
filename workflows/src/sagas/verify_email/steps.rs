//! How the verification mail is sent.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};
use uuid::Uuid;

use super::{Event, VerifyEmailSteps};
use crate::{
    customer::verification::{self, Letter, Occasion},
    sagas::mailing,
    shop::Shop,
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
