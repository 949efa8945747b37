//! Stories of an erasure.

use std::time::Duration;

use stepwise_engine::{Status, StepTable as _, limits::JOURNAL_LENGTH, testing::walk};
use uuid::Uuid;

use super::{Event as E, GdprErasure, Person, Step, pause};
use crate::payment::gateway::OPERATION;

fn person() -> Person {
    Person { customer: Uuid::nil(), anonymized: Uuid::max() }
}

#[test]
fn it_waits_for_money_and_messages_then_destroys_the_key_and_deletes() {
    let mut erasure = walk::<GdprErasure>(person());
    erasure.answers(E::OthersRun(1)).time_passes().answers(E::NothingRuns);
    erasure.answers(E::MessagesWait(2)).time_passes().answers(E::Drained(0));
    erasure.answers(E::MethodFound(Uuid::nil())).answers(E::Detached).answers(E::NoMethodLeft);
    erasure.answers(E::RecordsKept).time_passes();
    erasure.answers(E::AllRecordsKept(None)).answers(E::KeyDestroyed);
    erasure.answers(E::MailsDeleted(1)).answers(E::AccountDeleted).answers(E::Erased);
    assert_eq!(erasure.status(), Status::Completed);
    assert_eq!(
        erasure.steps(),
        [
            "Settle",
            "Settle",
            "Drain",
            "Drain",
            "NextMethod",
            "Detach",
            "NextMethod",
            "KeepRecords",
            "KeepRecords",
            "DestroyKey",
            "DeleteMails",
            "DeleteAccount",
            "Erase",
        ]
    );
}

#[test]
fn an_erasure_may_wait_for_a_year_within_the_length_of_its_journal() {
    // A look writes two rows: its timer's and its step's.
    let looks = (JOURNAL_LENGTH - 100) / 2;
    let waited: Duration =
        (0..looks).map(|look| pause(u8::try_from(look).unwrap_or(u8::MAX))).sum();
    assert!(waited > Duration::from_secs(365 * 24 * 3_600), "{waited:?}");
    let first: Duration = (0..6).map(pause).sum();
    assert!(first < Duration::from_secs(120), "the first looks come soon: {first:?}");
}

#[test]
fn what_staff_starts_meanwhile_is_waited_for_before_the_key_is_destroyed() {
    for seen in [E::OthersRun(1), E::MessagesWait(1)] {
        let mut erasure = walk::<GdprErasure>(person());
        erasure.answers(E::NothingRuns).answers(E::Drained(0)).answers(E::NoMethodLeft);
        erasure.answers(seen).time_passes().answers(E::NothingRuns).answers(E::Drained(0));
        erasure.answers(E::NoMethodLeft).answers(E::AllRecordsKept(None)).answers(E::KeyDestroyed);
        let all = ["Settle", "Drain", "NextMethod", "KeepRecords"];
        assert_eq!(erasure.steps()[..4], all);
        assert_eq!(erasure.steps()[4..8], all, "all of it is done again");
    }
}

#[test]
fn an_erasure_that_is_given_up_before_the_key_is_destroyed_gives_the_account_back() {
    let mut erasure = walk::<GdprErasure>(person());
    erasure.answers(E::NothingRuns).answers(E::Drained(0)).answers(E::MethodFound(Uuid::nil()));
    erasure.is_given_up().takes_all_back();
    assert_eq!(erasure.status(), Status::Unwound);
    assert_eq!(erasure.steps(), ["Settle", "Drain", "NextMethod", "thaw"]);
}

#[test]
fn nothing_brings_an_account_back_once_the_key_is_destroyed() {
    let mut erasure = walk::<GdprErasure>(person());
    erasure.answers(E::NothingRuns).answers(E::Drained(0)).answers(E::NoMethodLeft);
    erasure.answers(E::AllRecordsKept(None)).answers(E::KeyDestroyed);
    assert!(erasure.open_undos().is_empty());
    erasure.is_given_up();
    assert_eq!(erasure.status(), Status::Stuck, "an operator makes it go on");
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    assert!(Step::Detach(Uuid::nil()).terms().timeout > OPERATION);
    assert!(Step::DeleteAccount(Uuid::nil()).terms().timeout > OPERATION);
}
