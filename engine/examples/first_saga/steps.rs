//! How the steps of [`Seat`] are done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, Cause, Effect, EffectRow, Outcome, Probe, StepError, Steps, Undone,
};
use uuid::Uuid;

use super::saga::{Activity, Event, Reason, Seat, Tx};

/// One row per seat; a workshop has two.
pub(crate) const TABLES: &str = "
    create schema if not exists workshop;
    create table if not exists workshop.seat (no integer primary key, guest text, admitted boolean not null default false);
    insert into workshop.seat (no) values (1), (2) on conflict do nothing;";

pub(crate) struct SeatSteps {
    pub(crate) bank: Arc<Bank>,
}

impl Steps<Seat> for SeatSteps {
    /// In the transition's own transaction. A refusal is an event; an error rolls back, and the step is tried again.
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        match step {
            Tx::Hold(guest) => {
                let held = sqlx::query(
                    "update workshop.seat set guest = $1 where no =
                        (select no from workshop.seat where guest is null order by no limit 1 for update skip locked)",
                );
                let held = held.bind(guest).execute(tx).await?.rows_affected() == 1;
                Ok(if held { Event::Held } else { Event::Full })
            }
            Tx::Admit(guest) => {
                let admit =
                    sqlx::query("update workshop.seat set admitted = true where guest = $1");
                admit.bind(guest).execute(tx).await?;
                Ok(Event::Admitted)
            }
            Tx::Release(_) => Err(StepError::Broken("an undo is not a step".to_owned())),
        }
    }

    /// It runs also where the step refused, so it takes back only what is there.
    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        undo: &Tx,
        _: &Reason,
    ) -> Result<(), StepError> {
        let Tx::Release(guest) = undo else {
            return Err(StepError::Broken("a step is not an undo".to_owned()));
        };
        let release = sqlx::query("update workshop.seat set guest = null where guest = $1");
        release.bind(guest).execute(tx).await?;
        Ok(())
    }

    /// Outside any transaction. At least once, always under the same key.
    async fn call(&self, key: &ActivityKey, _: &Activity) -> Outcome<Event> {
        match self.bank.charge(&key.to_string(), 2_500) {
            Ok(reference) => Outcome::confirmed(Event::Paid, reference),
            Err(Failure::Declined) => Outcome::refuted(Event::Declined),
            // It may have charged, or not. Never guess.
            Err(Failure::NoAnswer) => Outcome::Unknown(Cause::new("the bank did not answer")),
        }
    }

    /// What became of the attempt?
    async fn probe(&self, key: &ActivityKey, _: &Activity) -> Probe<Event> {
        match self.bank.find(&key.to_string()) {
            Some(reference) => {
                Probe::Answered { event: Event::Paid, effect: Effect::Confirmed(reference) }
            }
            None => Probe::NotHappened,
        }
    }

    /// The ledger's row has the reference of what is taken back, unless nobody ever heard of it: then its key finds it. `key` is the
    /// undo's own.
    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        charge: Option<&EffectRow>,
        _: &Reason,
    ) -> Undone {
        let charged = ActivityKey { undo: false, ..*key };
        let known = charge.and_then(|charge| charge.reference.clone());
        match known.or_else(|| self.bank.find(&charged.to_string())) {
            Some(charge) => Undone::Undone(Some(self.bank.refund(&key.to_string(), &charge))),
            None => Undone::Nothing,
        }
    }
}

pub(crate) enum Failure {
    Declined,
    NoAnswer,
}

/// Stands for a payment provider: it moves money once per key, and loses its first answer for each charge.
#[derive(Default)]
pub(crate) struct Bank {
    book: Mutex<BTreeMap<String, i64>>,
}

impl Bank {
    fn charge(&self, key: &str, cents: i64) -> Result<String, Failure> {
        if cents > 10_000 {
            return Err(Failure::Declined);
        }
        match self.book.lock().expect("plain data").insert(key.to_owned(), cents) {
            None => Err(Failure::NoAnswer),
            Some(_) => Ok(format!("charge-{key}")),
        }
    }

    fn find(&self, key: &str) -> Option<String> {
        let book = self.book.lock().expect("plain data");
        book.contains_key(key).then(|| format!("charge-{key}"))
    }

    fn refund(&self, key: &str, charge: &str) -> String {
        let mut book = self.book.lock().expect("plain data");
        let cents = book.get(charge.trim_start_matches("charge-")).copied().unwrap_or(0);
        book.insert(key.to_owned(), -cents);
        format!("refund-{key}")
    }

    /// What it keeps of one instance's money.
    pub(crate) fn balance(&self, instance: Uuid) -> i64 {
        let book = self.book.lock().expect("plain data");
        book.iter().filter(|(key, _)| key.starts_with(&instance.to_string())).map(|(_, c)| c).sum()
    }
}
