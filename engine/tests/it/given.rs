//! A value that a person or a caller gives is stored as it was given, or refused at the call: their transaction stays of use.

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use stepwise_engine::{
    Limit, PauseError, Quota, Scope, SignalError, Start, StartError, Unstorable,
    bulk::{self, BulkError},
    inbox,
    inspect::Filter,
    operate::{Instruction, Operated, Refusal, Verb},
    outbox::{self, Message, PublishError},
};
use uuid::Uuid;

use crate::{
    job::{self, Input, Job},
    world::{World, ann, quick},
};

const NUL: &str = "a\0b";

/// The transaction is not aborted: the database was not asked.
async fn is_of_use(tx: &mut PgConnection) {
    sqlx::query("-- name: test of use\nselect 1").execute(tx).await.expect("nothing was sent");
}

fn is_nul(error: &sqlx::Error) -> bool {
    let sqlx::Error::Encode(cause) = error else { return false };
    matches!(cause.downcast_ref(), Some(Unstorable::Nul(_)))
}

#[tokio::test]
async fn an_instruction_that_cannot_be_stored_is_refused_before_anything_is_written() {
    let world = World::new().await;
    let id = world.start::<Job>("instructed", Input::Wait).await;
    let ordinary = || ann(Verb::Pause);
    for order in [
        Instruction { id: NUL.to_owned(), ..ordinary() },
        Instruction { by: NUL.to_owned(), ..ordinary() },
        Instruction { reason: NUL.to_owned(), ..ordinary() },
        Instruction { id: "x".repeat(513), ..ordinary() },
        ann(Verb::HandOver { to: NUL.to_owned() }),
        ann(Verb::EditAndRetry(json!({ "Step": NUL }))),
        ann(Verb::MarkDone { evidence: NUL.to_owned(), event: None, outside: None }),
    ] {
        let mut tx = world.pool.begin().await.expect("the database is there");
        let operated = world.engine.operate(&mut tx, id, &order).await.expect("it is no error");
        assert!(matches!(operated, Operated::Refused(Refusal::DoesNotFit(_))), "{operated:?}");
        is_of_use(&mut tx).await;
    }
    let escaped = Instruction { reason: "a\\u0000b".to_owned(), ..ordinary() };
    let mut tx = world.pool.begin().await.expect("the database is there");
    let operated = world.engine.operate(&mut tx, id, &escaped).await.expect("it is no error");
    assert!(matches!(operated, Operated::Applied(_)), "text like any other: {operated:?}");
    drop(tx);
    world.close().await;
}

#[tokio::test]
async fn a_bulk_or_a_pause_of_which_something_cannot_be_stored_is_refused() {
    let world = World::new().await;
    let order = |by: &str, reason: &str, name: &str| bulk::Order {
        verb: Verb::Pause,
        by: by.to_owned(),
        reason: reason.to_owned(),
        filter: Filter { name: Some(name.to_owned()), ..Filter::default() },
    };
    for order in [order(NUL, "why", "job"), order("ann", NUL, "job")] {
        let refused = world.engine.plan_bulk(&order).await;
        assert!(matches!(refused, Err(BulkError::DoesNotFit(_))), "{refused:?}");
    }
    let refused = world.engine.plan_bulk(&order("ann", "why", NUL)).await;
    assert!(matches!(refused, Err(BulkError::Unstorable(_))), "{refused:?}");
    let planned = world.engine.plan_bulk(&order("ann", "why", "job")).await.expect("it is one");
    let mut tx = world.pool.begin().await.expect("the database is there");
    let refused = world.engine.apply_bulk(&mut tx, planned.bulk_id, 0, 10, NUL).await;
    assert!(matches!(refused, Err(BulkError::Unstorable(_))), "{refused:?}");
    for (by, why) in [(NUL, "why"), ("ann", NUL)] {
        let refused = world.engine.pause(&mut tx, "job", by, why).await;
        assert!(matches!(refused, Err(PauseError::Unstorable(_))), "{refused:?}");
    }
    let long = "x".repeat(1_000);
    let refused = world.engine.resume(&mut tx, "job", &long).await;
    assert!(matches!(refused, Err(PauseError::OverLimit(Limit::Name(..)))), "{refused:?}");
    is_of_use(&mut tx).await;
    drop(tx);
    world.close().await;
}

#[tokio::test]
async fn a_name_or_a_message_that_cannot_be_stored_is_refused() {
    let world = World::new().await;
    let id = world.start::<Job>("named", Input::Wait).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    let refused = world.engine.set_quota(&mut tx, "job", Scope::Key(NUL), Quota::at_once(1)).await;
    assert!(refused.as_ref().is_err_and(is_nul), "{refused:?}");
    for (source, message) in [(NUL, "1"), ("partner", NUL)] {
        let refused = inbox::first_time(&mut tx, source, message).await;
        assert!(refused.as_ref().is_err_and(is_nul), "{refused:?}");
    }
    let at_end =
        world.engine.signal_at_end::<Job>(&mut tx, Uuid::now_v7(), id, NUL, &job::Signal::Go);
    let refused = at_end.await;
    assert!(refused.as_ref().is_err_and(is_nul), "{refused:?}");
    let refused = world.engine.cancel(&mut tx, id, NUL).await;
    assert!(matches!(refused, Err(SignalError::Unstorable(Unstorable::Nul("reason")))));
    let refused = world.engine.start_once::<Job>(&mut tx, Start::new(NUL, Input::Wait)).await;
    assert!(matches!(refused, Err(StartError::Unstorable(Unstorable::Nul("subject")))));
    let message = || Message::new("thing.happened.v1", "/test", "subject", 1, json!({}));
    for message in [
        Message { subject: NUL.to_owned(), ..message() },
        Message { kind: NUL.to_owned(), ..message() },
        Message { traceparent: Some(NUL.to_owned()), ..message() },
        message().because(NUL, "causation"),
    ] {
        let refused = outbox::publish(&mut tx, &message).await;
        assert!(matches!(refused, Err(PublishError::Unstorable(_))), "{refused:?}");
    }
    is_of_use(&mut tx).await;
    drop(tx);
    world.close().await;
}

/// Times that no date can hold are as long as the longest that one can.
#[tokio::test]
async fn no_time_is_beyond_the_range_of_the_database() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    for per in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX) * 86_400)] {
        let quota = Quota::rate(1, per);
        world.engine.set_quota(&mut tx, "job", Scope::Saga, quota).await.expect("it is a rate");
    }
    inbox::forget(&world.pool, Duration::MAX).await.expect("nothing is so old");
    tx.commit().await.expect("the database is there");
    let worker = world.worker(quick()).await;
    let rated = Start::new("rated", Input::Nothing).queued("all");
    let id = world.start_with::<Job>(rated).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}
