//! How the steps of a seat are done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use stepwise_engine::{Cause, Key, Outcome, Probe, StepError, StepTx, Undoing, Undone};
use uuid::Uuid;

use super::saga::{Event, SeatSteps};

/// One row per seat; a workshop has two.
pub(crate) const TABLES: &str = "
    create schema if not exists workshop;
    create table if not exists workshop.seat (no integer primary key, guest text, admitted boolean not null default false);
    insert into workshop.seat (no) values (1), (2) on conflict do nothing;";

pub(crate) struct Workshop(pub(crate) Arc<Bank>);

impl SeatSteps for Workshop {
    /// In the transition's own transaction. A refusal is an event; an error rolls back, and the step is tried again.
    async fn hold(&self, tx: &mut StepTx<'_>, guest: &String) -> Result<Event, StepError> {
        let held = sqlx::query(
            "update workshop.seat set guest = $1 where no =
                (select no from workshop.seat where guest is null order by no limit 1 for update skip locked)",
        );
        let held = held.bind(guest).execute(&mut **tx).await?.rows_affected() == 1;
        Ok(if held { Event::Held } else { Event::Full })
    }

    /// It runs also where `hold` refused, so it takes back only what is there.
    async fn release(
        &self,
        tx: &mut StepTx<'_>,
        guest: &String,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        let release = sqlx::query("update workshop.seat set guest = null where guest = $1");
        release.bind(guest).execute(&mut **tx).await?;
        Ok(())
    }

    /// Outside any transaction. At least once, always under the same key.
    async fn charge(&self, key: &Key) -> Outcome<Event> {
        match self.0.charge(&key.to_string(), 2_500) {
            Ok(reference) => Outcome::confirmed(Event::Paid, reference),
            Err(Failure::Declined) => Outcome::refuted(Event::Declined),
            // It may have charged, or not. Never guess.
            Err(Failure::NoAnswer) => Outcome::Unknown(Cause::new("the bank did not answer")),
        }
    }

    /// What became of the attempt?
    async fn find_charge(&self, key: &Key) -> Probe<Event> {
        match self.0.find(&key.to_string()) {
            Some(reference) => Probe::confirmed(Event::Paid, reference),
            None => Probe::NotHappened,
        }
    }

    /// The reference of the charge is known, unless no answer ever came: then `step_key` finds the charge. `key` is the undo's own.
    async fn refund(&self, undoing: &Undoing<String>) -> Undone {
        let known = undoing.reference.clone();
        match known.or_else(|| self.0.find(&undoing.step_key.to_string())) {
            Some(charge) => Undone::Undone(Some(self.0.refund(&undoing.key.to_string(), &charge))),
            None => Undone::Nothing,
        }
    }

    async fn admit(&self, tx: &mut StepTx<'_>, guest: &String) -> Result<Event, StepError> {
        let admit = sqlx::query("update workshop.seat set admitted = true where guest = $1");
        admit.bind(guest).execute(&mut **tx).await?;
        Ok(Event::Admitted)
    }
}

pub(crate) enum Failure {
    Declined,
    NoAnswer,
}

/// Stands for a payment provider: it moves money once per key, and loses its first answer for each charge.
#[derive(Default)]
pub(crate) struct Bank(Mutex<BTreeMap<String, i64>>);

impl Bank {
    fn charge(&self, key: &str, cents: i64) -> Result<String, Failure> {
        if cents > 10_000 {
            return Err(Failure::Declined);
        }
        match self.0.lock().expect("plain data").insert(key.to_owned(), cents) {
            None => Err(Failure::NoAnswer),
            Some(_) => Ok(format!("charge-{key}")),
        }
    }

    fn find(&self, key: &str) -> Option<String> {
        self.0.lock().expect("plain data").contains_key(key).then(|| format!("charge-{key}"))
    }

    fn refund(&self, key: &str, charge: &str) -> String {
        let mut book = self.0.lock().expect("plain data");
        let cents = book.get(charge.trim_start_matches("charge-")).copied().unwrap_or(0);
        book.insert(key.to_owned(), -cents);
        format!("refund-{key}")
    }

    /// What it keeps of one instance's money.
    pub(crate) fn balance(&self, instance: Uuid) -> i64 {
        let book = self.0.lock().expect("plain data");
        book.iter().filter(|(key, _)| key.starts_with(&instance.to_string())).map(|(_, c)| c).sum()
    }
}
