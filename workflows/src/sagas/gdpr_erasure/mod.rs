//! Erasing a person.
//!
//! The command freezes the account and ends its sessions ([`request_gdpr_erasure`]). Nobody acts for the customer from then on. Then:
//! 1. `Settle` calls off what sleeps for the customer, and waits until nothing runs that moves money.
//! 2. `Drain` waits until the messages about the customer are published, because partners could not read them afterwards. It does not wait for ever:
//!    messages that are left after [`crate::Config::erasure_patience`] go out without data, and the certificate says how many.
//! 3. `Detach` takes each payment method off the gateway's customer.
//! 4. `KeepRecords` seals the addresses of paid orders under the key of the tax records. Staff may have started a refund meanwhile, so it looks once
//!    more, under the lock of the customer's row, for what must end or be published first. If there is anything, the erasure begins again with 1. A
//!    refund that is started even later needs nothing that is destroyed.
//! 5. `DestroyKey` is the pivot. Everything that was sealed for the customer is unreadable then, in every copy and backup.
//! 6. `DeleteMails`, `DeleteAccount` and `Erase` delete what is plain: mails, the customer's account at the gateway, and the rows of the customer's own
//!    tables. `Erase` searches once more, publishes the event and writes the certificate, in one transaction.
//!
//! The account at the gateway is deleted only after the pivot, because a customer who has the shop's account back needs it.
//!
//! Until the pivot an operator may call the erasure off; then the customer has the account back, without the payment methods that were detached.
//!
//! The rule for what is called off names no saga: an instance about the customer, the cart or a payment method is called off, one about an order ends
//! by itself, since no order is open. An instance is waited for if its saga calls the gateway, or while a worker drives it.
//!
//! Deliberately absent: the customer's name and address. States hold ids, counts and the fingerprint of a key.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Never, Next, Retry, Saga, Terms, Unexpected, steps, to};
use uuid::Uuid;

use super::calling;
pub use crate::erasure::Person;
pub use command::{RequestErasureError, RequestGdprErasure, erase_again, request_gdpr_erasure};

/// The law gives a month for the answer.
pub const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The definition.
pub struct GdprErasure;

/// The findings so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The person.
    pub person: Person,
    /// Messages that could not be published in time.
    pub unpublished: i64,
    /// The fingerprint of the customer's key; `None`: it is not known yet, or an earlier erasure has destroyed it.
    pub fingerprint: Option<String>,
    /// Mails that were deleted.
    pub mails: u64,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Sleeping sagas are called off, and running ones are counted.
    Settling(Person, u8),
    /// Something runs that moves money.
    AwaitingOthers(Person, u8),
    /// Messages to publish are counted.
    Draining(Person, u8),
    /// Messages are being published.
    AwaitingRelay(Person, u8),
    /// The next payment method is looked for.
    Choosing(Progress),
    /// The gateway detaches a method.
    Detaching(Progress, Uuid),
    /// Tax records are sealed.
    KeepingRecords(Progress),
    /// It is time to seal more tax records, in a transaction of their own.
    AwaitingMoreRecords(Progress),
    /// The key store destroys the key.
    DestroyingKey(Progress),
    /// The mail system deletes mails.
    DeletingMails(Progress),
    /// The gateway deletes the customer's account.
    DeletingAccount(Progress),
    /// Rows are deleted and anonymized.
    Erasing(Progress),
    /// The end.
    Erased(Person),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// This number of instances must end first.
    OthersRun(i64),
    /// Nothing runs for the customer.
    NothingRuns,
    /// It is time to look again.
    LookAgain,
    /// This number of messages is to be published.
    MessagesWait(i64),
    /// All messages are published but this number of them, which were waited for long enough.
    Drained(i64),
    /// This payment method is to be detached.
    MethodFound(Uuid),
    /// No payment method is left.
    NoMethodLeft,
    /// The gateway has detached the method, or does not know it.
    Detached,
    /// Some tax records are sealed. Others may not be.
    RecordsKept,
    /// All tax records are sealed. The fingerprint of the key that is to be destroyed.
    AllRecordsKept(Option<String>),
    /// The key is gone.
    KeyDestroyed,
    /// This number of mails was deleted.
    MailsDeleted(u64),
    /// The customer has no account at the gateway any more.
    AccountDeleted,
    /// Everything is deleted, and the certificate is written.
    Erased,
}

steps! {
    /// The steps. If the erasure is called off, sagas stay called off, messages published and methods detached.
    #[derive(PartialEq, Eq)]
    pub enum Step done by GdprErasureSteps -> Event, undone for String {
        /// Call off what sleeps for the customer, and count what must end first.
        Settle(person: Person) => tx(settle).no_undo(),
        /// Count the messages that are to be published.
        Drain(person: Person) => tx(drain).no_undo(),
        /// Delete the method that was detached, and find the next one.
        NextMethod(person: Person, detached: Option<Uuid>) => tx(next_method).no_undo(),
        /// Detach a method at the gateway. A method that is detached already is no error.
        Detach(method: Uuid) => call(detach, patient()).repeatable().no_undo(),
        /// Seal tax records under their own key, and look once more for what must end first. The undo of the freezing forgets the records.
        KeepRecords(person: Person) => tx(keep_records).no_undo(),
        /// Destroy the customer's key.
        DestroyKey(customer: Uuid) => call(destroy_key, patient()).probe(find_key).pivot(),
        /// Delete the customer's mails.
        DeleteMails(customer: Uuid) => call(delete_mails, patient()).repeatable().no_undo(),
        /// Delete the customer's account at the gateway. An account that is deleted already is no error.
        DeleteAccount(customer: Uuid) => call(delete_account, patient()).repeatable().no_undo(),
        /// Delete and anonymize rows, search, publish, certify.
        Erase(progress: Progress) => tx(erase).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The account is frozen.
        Freeze(person: Person) => undo_tx(thaw),
    }
}

fn patient() -> Terms {
    let retry = Retry { cap: Duration::from_secs(300), ..Retry::default() };
    Terms { within: PATIENCE, retry, ..calling::terms() }
}

/// The wait before the next look: a second at first, then twice as long each time, up to an hour. After ten days it is two hours. A look writes two
/// rows of the journal, whose length is limited ([`stepwise_engine::limits::JOURNAL_LENGTH`]), so the looks can go on for more than a year.
fn pause(looks: u8) -> Duration {
    match looks {
        u8::MAX => Duration::from_secs(7_200),
        looks => Duration::from_secs((1 << looks.min(12)).min(3_600)),
    }
}

/// Looks again after a pause.
fn await_others(person: Person, looks: u8) -> Next<GdprErasure> {
    to(State::AwaitingOthers(person, looks.saturating_add(1))).sleep(pause(looks), Event::LookAgain)
}

impl Saga for GdprErasure {
    const NAME: &'static str = "gdpr-erasure";
    type Input = Person;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(person: Person) -> Next<Self> {
        to(State::Settling(person, 0))
            .caller_did(CallerStep::Freeze(person))
            .run(Step::Settle(person))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Settling(person, looks), E::OthersRun(_)) => await_others(person, looks),
            (S::AwaitingOthers(person, looks), E::LookAgain) => {
                to(S::Settling(person, looks)).run(Step::Settle(person))
            }
            (S::Settling(person, _), E::NothingRuns) => {
                to(S::Draining(person, 0)).run(Step::Drain(person))
            }
            (S::Draining(person, looks), E::MessagesWait(_)) => {
                to(S::AwaitingRelay(person, looks.saturating_add(1)))
                    .sleep(pause(looks), E::LookAgain)
            }
            (S::AwaitingRelay(person, looks), E::LookAgain) => {
                to(S::Draining(person, looks)).run(Step::Drain(person))
            }
            (S::Draining(person, _), E::Drained(unpublished)) => {
                let progress = Progress { person, unpublished, fingerprint: None, mails: 0 };
                to(S::Choosing(progress)).run(Step::NextMethod(person, None))
            }
            (S::Choosing(progress), E::MethodFound(method)) => {
                to(S::Detaching(progress, method)).run(Step::Detach(method))
            }
            (S::Detaching(progress, method), E::Detached) => {
                let person = progress.person;
                to(S::Choosing(progress)).run(Step::NextMethod(person, Some(method)))
            }
            (S::KeepingRecords(progress), E::RecordsKept) => {
                to(S::AwaitingMoreRecords(progress)).sleep(Duration::from_millis(1), E::LookAgain)
            }
            (S::KeepingRecords(progress), E::OthersRun(_) | E::MessagesWait(_)) => {
                await_others(progress.person, 0)
            }
            (S::Choosing(progress), E::NoMethodLeft)
            | (S::AwaitingMoreRecords(progress), E::LookAgain) => {
                let person = progress.person;
                to(S::KeepingRecords(progress)).run(Step::KeepRecords(person))
            }
            (S::KeepingRecords(progress), E::AllRecordsKept(fingerprint)) => {
                let customer = progress.person.customer;
                to(S::DestroyingKey(Progress { fingerprint, ..progress }))
                    .run(Step::DestroyKey(customer))
            }
            (S::DestroyingKey(progress), E::KeyDestroyed) => {
                let customer = progress.person.customer;
                to(S::DeletingMails(progress)).run(Step::DeleteMails(customer))
            }
            (S::DeletingMails(progress), E::MailsDeleted(mails)) => {
                let customer = progress.person.customer;
                to(S::DeletingAccount(Progress { mails, ..progress }))
                    .run(Step::DeleteAccount(customer))
            }
            (S::DeletingAccount(progress), E::AccountDeleted) => {
                to(S::Erasing(progress.clone())).run(Step::Erase(progress))
            }
            (S::Erasing(progress), E::Erased) => to(S::Erased(progress.person)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
