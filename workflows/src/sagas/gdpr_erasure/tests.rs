//! Stories of an erasure.

use stepwise_engine::{Status, testing::walk};
use uuid::Uuid;

use super::{Event as E, GdprErasure, Person};

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
    erasure.answers(E::MailsDeleted(1)).answers(E::Erased);
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
            "Erase",
        ]
    );
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
