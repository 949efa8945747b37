//! How a payment method is attached and detached.

use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx, Undoing, database};
use uuid::Uuid;

use super::{Event, KeepPaymentMethodSteps};
use crate::{
    customer::attachment::{self, ASKED, ATTACHED, DETACHED, Kept, REFUSED},
    payment::gateway::{Attachment, Creation, GatewayError, Reference, Trouble},
    sagas::Steps,
};

async fn read(steps: &Steps, method: Uuid) -> Result<Option<Kept>, Cause> {
    let read =
        database::ask(
            &steps.pool,
            |mut db| async move { attachment::read(&mut *db, method).await },
        );
    read.await.map_err(Cause::new)
}

impl KeepPaymentMethodSteps for Steps {
    async fn open(&self, _: &Key, method: &Uuid) -> Outcome<Event> {
        let kept = match read(self, *method).await {
            // One that is attached already, or that the gateway has refused, is left alone.
            Ok(Some(kept)) if !kept.is_removed && kept.is(ASKED) => kept,
            Ok(_) => return Outcome::event(Event::NotAttached),
            Err(cause) => return Outcome::NotDone(cause),
        };
        if let Some(account) = kept.account() {
            return Outcome::event(Event::Opened(account));
        }
        // Each method of the customer asks under the same key, so that there is one account.
        let key = format!("customer-{}", kept.customer_id);
        match self.shop.gateway.open_customer(&key, kept.customer_id).await {
            Ok(Creation::Created(account)) => Outcome::event(Event::Opened(account)),
            Ok(Creation::Refused(_)) => Outcome::event(Event::NotAttached),
            Err(error) => failed(error),
        }
    }

    async fn keep(
        &self,
        tx: &mut StepTx<'_>,
        method: &Uuid,
        account: &Reference,
    ) -> Result<Event, StepError> {
        let kept = attachment::keep_account(tx, *method, account).await?;
        Ok(kept.map_or(Event::NotAttached, Event::Kept))
    }

    async fn attach(&self, key: &Key, method: &Uuid, account: &Reference) -> Outcome<Event> {
        let token = match read(self, *method).await {
            Ok(kept) => kept.and_then(|kept| kept.token()),
            Err(cause) => return Outcome::NotDone(cause),
        };
        let Some(token) = token else { return Outcome::event(Event::NotAttached) };
        match self.shop.gateway.attach(&key.to_string(), &token, account).await {
            Ok(Attachment::Attached) => Outcome::event(Event::Attached),
            Ok(Attachment::Refused(_)) => Outcome::event(Event::NotAttached),
            Err(error) => failed(error),
        }
    }

    async fn note(
        &self,
        tx: &mut StepTx<'_>,
        method: &Uuid,
        is_attached: &bool,
    ) -> Result<Event, StepError> {
        let to = if *is_attached { ATTACHED } else { REFUSED };
        attachment::note(tx, *method, ASKED, to).await?;
        Ok(Event::Noted)
    }

    async fn detach(&self, key: &Key, method: &Uuid) -> Outcome<Event> {
        let kept = match read(self, *method).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Outcome::event(Event::NotAttached),
            Err(cause) => return Outcome::NotDone(cause),
        };
        if kept.is(ASKED) {
            return Outcome::NotDone(Cause::new("the method is still being attached"));
        }
        let Some(token) = kept.token().filter(|_| kept.is(ATTACHED)) else {
            return Outcome::event(Event::NotAttached);
        };
        // The gateway knows only the token, so detaching it would end the other method too.
        if kept.is_kept_by_another {
            return Outcome::event(Event::Detached);
        }
        match self.shop.gateway.detach(&key.to_string(), &token).await {
            Ok(()) => Outcome::event(Event::Detached),
            Err(error) => error.into(),
        }
    }

    async fn forget(&self, tx: &mut StepTx<'_>, method: &Uuid) -> Result<Event, StepError> {
        attachment::note(tx, *method, ATTACHED, DETACHED).await?;
        Ok(Event::Noted)
    }

    async fn leave(
        &self,
        tx: &mut StepTx<'_>,
        method: &Uuid,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        // It may be attached without our knowing it. With the account it can be paid with in both cases, and removing it detaches it.
        let kept = attachment::read(&mut **tx, *method).await?;
        let has_account = kept.is_some_and(|kept| kept.account().is_some());
        let to = if has_account { ATTACHED } else { REFUSED };
        attachment::note(tx, *method, ASKED, to).await?;
        Ok(())
    }
}

/// A key of ours that may not open accounts or attach methods can still take payments.
fn failed(error: GatewayError) -> Outcome<Event> {
    match error {
        GatewayError::NotDone(Trouble::Misconfigured(_)) => Outcome::event(Event::NotAttached),
        error => error.into(),
    }
}
