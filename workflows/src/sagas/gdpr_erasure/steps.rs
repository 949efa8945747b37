//! How a person is erased: SQL in the transition's transaction; gateway, key store and mail system outside of it.

use chrono::{DateTime, Utc};
use stepwise_engine::{
    CallOff, Cause, Effect, Key, Outcome, Probe, SignalError, StartError, Status, StepError,
    StepTx, Undoing, WaitingOn, inspect::Summary, outbox,
};
use uuid::Uuid;

use super::{Event, GdprErasureSteps, Person, Progress};
use crate::{
    erasure::{
        self, ErasureRefusal, Subjects,
        certificate::{self, Certificate},
        rows, tax,
    },
    events::{DomainEvent, tell},
    privacy::{CustomerKey, KeyStoreError},
    sagas::{self, Steps, keep_payment_method::detach},
    shop::{Context, Shop},
};

/// The reason that operators read at an instance that was called off.
const WHY: &str = "the customer is being erased";

/// Whether the erasure waits for this instance: its saga may move money, or a worker drives it at this moment.
fn must_end_first(saga: &Summary) -> bool {
    let is_driven = matches!(saga.waiting_on, Some(WaitingOn::Worker | WaitingOn::Activity));
    is_driven || sagas::named(&saga.name).is_none_or(|listed| listed.calls_gateway())
}

/// A refusal of the domain that a step cannot have: the database's errors are tried again, all others need an operator.
fn broken(error: ErasureRefusal) -> StepError {
    match error {
        ErasureRefusal::Database(error) => error.into(),
        ErasureRefusal::Keys(error) => keys_failed(error),
        other => StepError::Broken(other.to_string()),
    }
}

/// A key store that is away is tried again, as the database is.
fn keys_failed(error: KeyStoreError) -> StepError {
    match error {
        KeyStoreError::Storage(error) => StepError::Database(sqlx::Error::Io(error)),
        other => StepError::Broken(other.to_string()),
    }
}

/// The customer's key, or `None` if an earlier erasure has destroyed it; and the key of the tax records.
async fn both_keys(
    shop: &Shop,
    person: Person,
) -> Result<(Option<CustomerKey>, CustomerKey), KeyStoreError> {
    let general = shop.keys.get(person.customer).await?;
    Ok((general, shop.keys.create(person.anonymized).await?))
}

/// Notes the erasure with its event, and writes the certificate.
async fn certify(
    shop: &Shop,
    ctx: &mut Context<'_>,
    progress: &Progress,
    stores: Vec<rows::StoreCount>,
) -> Result<(), StepError> {
    let Person { customer, anonymized } = progress.person;
    let tax_key = shop.keys.create(anonymized).await.map_err(keys_failed)?;
    let noted: Option<(DateTime<Utc>, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "-- erasure: note the end
        update shop.erasure
        set erased_at = saga.now(), tax_until = saga.now() + make_interval(secs => $3)
        where customer_id = $1 and anonymized_id = $2
        returning requested_at, erased_at, tax_until",
    )
    .bind(customer)
    .bind(anonymized)
    .bind(shop.config.tax_retention.as_secs_f64())
    .fetch_optional(&mut **ctx)
    .await?;
    let Some((requested_at, erased_at, tax_records_until)) = noted else {
        return Err(StepError::Broken("the row of the erasure is missing".to_owned()));
    };
    ctx.learn_now(erased_at);
    let told = tell([DomainEvent::CustomerDataErased {
        anonymized_id: anonymized,
        erased_at,
        customer_id: customer,
    }]);
    ctx.record(told.after(0)).await?;
    let certificate = Certificate {
        version: 1,
        request_id: ctx.cause.correlation,
        subject: certificate::subject(&tax_key, customer),
        requested_at,
        erased_at,
        destroyed_key: progress.fingerprint.clone(),
        tax_records_until,
        unpublished_messages: progress.unpublished,
        deleted_mails: progress.mails,
        stores,
        unreadable: certificate::UNREADABLE.map(str::to_owned).to_vec(),
        search: "nothing left".to_owned(),
    };
    Ok(certificate::write(ctx, &certificate).await?)
}

impl GdprErasureSteps for Steps {
    async fn settle(&self, tx: &mut StepTx<'_>, person: &Person) -> Result<Event, StepError> {
        let (me, engine) = (tx.instance(), tx.engine());
        let subjects = Subjects::of(&mut **tx, person.customer).await?;
        let (own, orders) = subjects.open(tx).await?;
        let mut running = orders.iter().filter(|saga| must_end_first(saga)).count();
        for saga in own.iter().filter(|saga| saga.saga_id != me) {
            let ended = match engine.cancel(tx, saga.saga_id, WHY).await {
                Ok(CallOff::Ended) => true,
                Ok(CallOff::Begun | CallOff::PastPivot) => false,
                Err(SignalError::Database(error)) => return Err(error.into()),
                // Another version of the program must end it.
                Err(_) => false,
            };
            // A stuck one waits for a person, and finds nothing to do when the customer's things are gone.
            let is_stuck = saga.status == Status::Stuck;
            running += usize::from(!ended && !is_stuck && must_end_first(saga));
        }
        Ok(match i64::try_from(running) {
            Ok(0) => Event::NothingRuns,
            running => Event::OthersRun(running.unwrap_or(i64::MAX)),
        })
    }

    async fn drain(&self, tx: &mut StepTx<'_>, person: &Person) -> Result<Event, StepError> {
        let subjects = Subjects::of(&mut **tx, person.customer).await?.all();
        let waiting = outbox::waiting_about(tx, &subjects).await?;
        let patience = self.shop.config.erasure_patience.as_secs_f64();
        let age = erasure::age(&mut **tx, person.customer).await?;
        let is_enough = age.is_none_or(|age| age > patience);
        Ok(if waiting == 0 || is_enough {
            Event::Drained(waiting)
        } else {
            Event::MessagesWait(waiting)
        })
    }

    async fn next_method(
        &self,
        tx: &mut StepTx<'_>,
        person: &Person,
        detached: &Option<Uuid>,
    ) -> Result<Event, StepError> {
        let next = erasure::next_method(tx, person.customer, *detached).await?;
        Ok(next.map_or(Event::NoMethodLeft, Event::MethodFound))
    }

    async fn detach(&self, key: &Key, method: &Uuid) -> Outcome<Event> {
        let token = match erasure::token(&self.pool, *method).await {
            Ok(Some(token)) => token,
            Ok(None) => return Outcome::event(Event::Detached),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        match self.shop.gateway.detach(&key.to_string(), &token).await {
            Ok(()) => Outcome::event(Event::Detached),
            Err(error) => error.into(),
        }
    }

    async fn keep_records(&self, tx: &mut StepTx<'_>, person: &Person) -> Result<Event, StepError> {
        let (general, tax_key) = both_keys(&self.shop, *person).await.map_err(keys_failed)?;
        let Some(general) = general else { return Ok(Event::AllRecordsKept(None)) };
        // Whoever starts a saga about an order holds this lock, so the looks below see each saga that was started before.
        erasure::lock(tx, person.customer).await?;
        let mut ctx = Context::of_step(&self.shop, tx);
        if tax::keep_records(&mut ctx, *person, &general, &tax_key).await? {
            return Ok(Event::RecordsKept);
        }
        for seen in [self.settle(tx, person).await?, self.drain(tx, person).await?] {
            if matches!(seen, Event::OthersRun(_) | Event::MessagesWait(_)) {
                return Ok(seen);
            }
        }
        Ok(Event::AllRecordsKept(Some(certificate::fingerprint(&general))))
    }

    async fn destroy_key(&self, _: &Key, customer: &Uuid) -> Outcome<Event> {
        match self.shop.keys.destroy(*customer).await {
            Ok(_) => Outcome::event(Event::KeyDestroyed),
            Err(error) => Outcome::Unknown(Cause::new(error)),
        }
    }

    async fn find_key(&self, _: &Key, customer: &Uuid) -> Probe<Event> {
        match self.shop.keys.get(*customer).await {
            Ok(None) => Probe::Answered { event: Event::KeyDestroyed, effect: Effect::None },
            Ok(Some(_)) => Probe::NotHappened,
            Err(error) => Probe::Unknown(Cause::new(error)),
        }
    }

    async fn delete_mails(&self, _: &Key, customer: &Uuid) -> Outcome<Event> {
        let address = match erasure::address(&self.pool, *customer).await {
            Ok(Some(address)) => address,
            Ok(None) => return Outcome::event(Event::MailsDeleted(0)),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        match self.shop.mailer.forget(&address).await {
            Ok(mails) => Outcome::event(Event::MailsDeleted(mails)),
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn delete_account(&self, _: &Key, customer: &Uuid) -> Outcome<Event> {
        let account = match erasure::account(&self.pool, *customer).await {
            Ok(Some(account)) => account,
            Ok(None) => return Outcome::event(Event::AccountDeleted),
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        match self.shop.gateway.delete_customer(&account).await {
            Ok(()) => Outcome::event(Event::AccountDeleted),
            Err(error) => error.into(),
        }
    }

    async fn erase(&self, tx: &mut StepTx<'_>, progress: &Progress) -> Result<Event, StepError> {
        // An operator may have restored an older key store since the key was destroyed: it has the key again.
        self.shop.keys.destroy(progress.person.customer).await.map_err(keys_failed)?;
        let mut ctx = Context::of_step(&self.shop, tx);
        let stores = rows::erase(&mut ctx, progress.person).await?;
        if let Some(store) = rows::left(&mut ctx, progress.person).await? {
            return Err(StepError::Broken(format!("{store} still has rows of the person")));
        }
        certify(&self.shop, &mut ctx, progress, stores).await?;
        Ok(Event::Erased)
    }

    async fn thaw(
        &self,
        tx: &mut StepTx<'_>,
        person: &Person,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        erasure::thaw(&mut ctx, *person).await.map_err(broken)?;
        // The card that this erasure was detaching counts as removed. Nobody else would detach it.
        for method in erasure::removed_and_attached(&mut ctx, person.customer).await? {
            match detach(&mut ctx, method).await {
                Ok(()) | Err(StartError::AlreadyOpen { .. }) => {}
                Err(StartError::Database(error)) => return Err(error.into()),
                Err(refused) => return Err(StepError::Broken(refused.to_string())),
            }
        }
        Ok(())
    }
}
