//! Stories of a payment method at the gateway.

use std::sync::Arc;

use stepwise_engine::{
    EffectStatus, Key, Outcome, Status, StepTable as _, inspect::EffectEntry, testing::walk,
};
use uuid::Uuid;

use super::{Event as E, Input, KeepPaymentMethod, KeepPaymentMethodSteps, Step, samples::account};
use crate::{
    payment::gateway::OPERATION,
    sagas::Steps,
    testing::{database, shop},
};

#[test]
fn a_saved_method_is_attached_to_the_account_of_its_customer() {
    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.answers(E::Opened(account())).answers(E::Kept(account()));
    method.answers(E::Attached).answers(E::Noted);
    assert_eq!(method.status(), Status::Completed);
    assert_eq!(method.steps(), ["Open", "Keep", "Attach", "Note"]);
}

#[test]
fn a_method_that_the_gateway_refuses_is_used_as_its_token_came() {
    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.answers(E::NotAttached).answers(E::Noted);
    assert_eq!((method.status(), method.steps()), (Status::Completed, vec!["Open", "Note"]));

    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.is_given_up().takes_all_back();
    assert_eq!((method.status(), method.steps()), (Status::Unwound, vec!["leave"]));
}

#[test]
fn a_removed_method_is_detached_however_long_that_takes() {
    let mut method = walk::<KeepPaymentMethod>(Input::Detach(Uuid::nil()));
    method.answers(E::Detached).answers(E::Noted);
    assert_eq!((method.status(), method.steps()), (Status::Completed, vec!["Detach", "Forget"]));

    let mut method = walk::<KeepPaymentMethod>(Input::Detach(Uuid::nil()));
    method.is_given_up();
    assert_eq!(method.status(), Status::Stuck);
}

/// The key of a call.
fn key() -> Key {
    let entry = EffectEntry {
        saga_id: Uuid::now_v7(),
        step_no: 1,
        kind: String::new(),
        reference: None,
        amount: None,
        undo_reference: None,
        status: EffectStatus::Intent,
        at: chrono::DateTime::UNIX_EPOCH,
        settled_at: None,
    };
    entry.key()
}

/// The gateway of the test is away, so the outcome tells whether it was asked.
#[tokio::test]
async fn a_token_of_which_another_method_is_kept_is_not_detached_and_one_that_is_attached_not_again()
 {
    let database = database().await;
    let mut db = database.pool().acquire().await.expect("a connection");
    let (customer, removed, kept) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    // Two rows of one token, as earlier versions have saved it.
    sqlx::query(
        "-- test: one token twice
        with owner as (
            insert into shop.customer (customer_id, email, first_name, last_name, created_at)
            values ($1, 'ada@example.com', 'Ada', 'Lovelace', saga.now())
        )
        insert into shop.payment_method
            (payment_method_id, customer_id, kind, token, brand, created_at, attachment, removed_at)
        values ($2, $1, 'card', 'pm_1', 'visa', saga.now(), 'attached', saga.now()),
               ($3, $1, 'card', 'pm_1', 'visa', saga.now(), 'attached', null)",
    )
    .bind(customer)
    .bind(removed)
    .bind(kept)
    .execute(&mut *db)
    .await
    .expect("written");
    let steps = Steps::new(Arc::new(shop()), database.pool().clone());
    let opened = steps.open(&key(), &kept).await;
    assert!(matches!(opened, Outcome::Answered { event: E::NotAttached, .. }), "{opened:?}");
    let detached = steps.detach(&key(), &removed).await;
    assert!(matches!(detached, Outcome::Answered { event: E::Detached, .. }), "{detached:?}");
    sqlx::query("update shop.payment_method set removed_at = saga.now()")
        .execute(&mut *db)
        .await
        .expect("removed");
    let asked = steps.detach(&key(), &removed).await;
    assert!(matches!(asked, Outcome::NotDone(_)), "the last one is detached: {asked:?}");
    drop(db);
    database.close().await;
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    let method = Uuid::nil();
    for step in [Step::Open(method), Step::Attach(method, account()), Step::Detach(method)] {
        assert!(step.terms().timeout > OPERATION, "{step:?}");
    }
}
