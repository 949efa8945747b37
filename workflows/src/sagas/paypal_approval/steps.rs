//! How the steps of an approval are done: PayPal is called outside of any transaction, SQL does the rest.

use chrono::{DateTime, Utc};
use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx, Undoing};
use uuid::Uuid;

use super::{Event, PayPalApprovalSteps, Reason};
use crate::{
    customer::paypal,
    payment::{
        gateway::{ApprovalStatus, Reference},
        paypal::Opening,
    },
    sagas::Steps,
    shop::Context,
};

/// The shop was started again without PayPal.
fn not_taken() -> Outcome<Event> {
    Outcome::NotDone(Cause::new("this process has no PayPal: give --paypal-url"))
}

impl PayPalApprovalSteps for Steps {
    async fn open(&self, key: &Key, method: &Uuid) -> Outcome<Event> {
        let request = match paypal::request(&self.pool, *method).await {
            Ok(Some(request)) => request,
            // The customer was erased meanwhile.
            Ok(None) => return Outcome::event(Event::Refused),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        let Some(paypal) = &self.shop.paypal else { return not_taken() };
        match paypal.open(&key.to_string(), &request).await {
            Ok(Opening::Opened { reference, approval }) => Outcome::event(Event::Opened {
                reference,
                url: approval.url,
                expires_at: approval.expires_at,
            }),
            Ok(Opening::Refused(why)) => {
                tracing::warn!(%method, why = why.as_str(), "PayPal refused to open an approval");
                Outcome::event(Event::Refused)
            }
            Err(error) => error.into(),
        }
    }

    async fn offer(
        &self,
        tx: &mut StepTx<'_>,
        method: &Uuid,
        reference: &Reference,
        expires_at: &Option<DateTime<Utc>>,
    ) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        match paypal::offer(&mut ctx, *method, reference, *expires_at).await? {
            Some(offered) => {
                Ok(Event::Offered { expires_at: offered.expires_at, left: offered.left() })
            }
            None => Err(StepError::Broken(format!("there is no approval of method {method}"))),
        }
    }

    async fn ask(&self, _: &Key, method: &Uuid, reference: &Reference) -> Outcome<Event> {
        let Some(paypal) = &self.shop.paypal else { return not_taken() };
        match paypal.find(reference).await {
            Ok(Some(ApprovalStatus::Approved)) => Outcome::event(Event::Approved),
            Ok(Some(ApprovalStatus::Open)) => match paypal::time_left(&self.pool, *method).await {
                Ok(Some(left)) => Outcome::event(Event::StillOpen(left)),
                Ok(None) => Outcome::event(Event::Gone),
                Err(error) => Outcome::NotDone(Cause::new(error)),
            },
            Ok(Some(ApprovalStatus::Completed | ApprovalStatus::Voided) | None) => {
                Outcome::event(Event::Gone)
            }
            // A question changes nothing, so it may simply be asked again.
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn approve(&self, tx: &mut StepTx<'_>, method: &Uuid) -> Result<Event, StepError> {
        paypal::approve(tx, *method).await?;
        Ok(Event::Usable)
    }

    async fn expire(
        &self,
        tx: &mut StepTx<'_>,
        method: &Uuid,
        _: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        Ok(paypal::expire(tx, *method).await?)
    }
}
