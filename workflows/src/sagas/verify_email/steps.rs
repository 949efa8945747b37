//! How the verification mail is sent.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use stepwise_engine::{ActivityKey, Cause, EffectRow, Outcome, StepError, Undone};
use uuid::Uuid;

use super::{Activity, Event, Reason, Tx, VerifyEmail};
use crate::{customer::verification, mail::MailError, shop::Shop};

/// Does the steps of [`VerifyEmail`].
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

    async fn send(&self, key: &ActivityKey, customer: Uuid) -> Outcome<Event> {
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
}

impl stepwise_engine::Steps<VerifyEmail> for Steps {
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        let Tx::Prolong(customer) = step else {
            return Err(StepError::Broken(format!("{step:?} is not run by the saga")));
        };
        verification::prolong(tx, *customer, self.shop.config.verification_lifetime).await?;
        Ok(Event::TokenProlonged)
    }

    async fn undo_run(&self, _: &mut PgConnection, step: &Tx, _: &Reason) -> Result<(), StepError> {
        Err(StepError::Broken(format!("{step:?} is no undo")))
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let Activity::Send(customer) = activity;
        self.send(key, *customer).await
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        undo: &Activity,
        _: Option<&EffectRow>,
        _: &Reason,
    ) -> Undone {
        Undone::Impossible(Cause::new(format_args!("{undo:?} is no undo")))
    }
}
