//! How the mails about a password are sent.

use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};
use uuid::Uuid;

use super::{AccountMailSteps, Event, Letter, Post};
use crate::{
    customer::password,
    sagas::{Steps, mailing},
};

impl AccountMailSteps for Steps {
    async fn issue(
        &self,
        tx: &mut StepTx<'_>,
        customer: &Uuid,
        token: &Uuid,
    ) -> Result<Event, StepError> {
        let is_issued = password::issue_reset(&self.shop, tx, *customer, *token).await?;
        Ok(if is_issued { Event::Issued } else { Event::NotNeeded })
    }

    async fn send(&self, key: &Key, post: &Post) -> Outcome<Event> {
        let letter = match post.letter {
            Letter::ResetPassword(token) => {
                password::reset_letter(&self.shop, &self.pool, post.customer, token).await
            }
            Letter::PasswordChanged => password::changed_letter(&self.pool, post.customer).await,
        };
        match letter {
            Ok(Some(mail)) => mailing::send(&self.shop, key, &mail, Event::Sent).await,
            Ok(None) => Outcome::event(Event::NotNeeded),
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }
}
