//! Samples of everything that may happen to an erasure, for exploring it and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Event as E, GdprErasure, Person, State, Step};

impl Samples for GdprErasure {
    fn inputs() -> Vec<Person> {
        vec![Person { customer: Uuid::nil(), anonymized: Uuid::max() }]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Settle(_) => vec![Sample::done(E::OthersRun(1)), Sample::done(E::NothingRuns)],
            Step::Drain(_) => vec![Sample::done(E::MessagesWait(1)), Sample::done(E::Drained(0))],
            Step::NextMethod(..) => {
                vec![Sample::done(E::MethodFound(Uuid::nil())), Sample::done(E::NoMethodLeft)]
            }
            Step::Detach(_) => vec![Sample::done(E::Detached)],
            Step::KeepRecords(_) => vec![
                Sample::done(E::RecordsKept),
                Sample::done(E::OthersRun(1)),
                Sample::done(E::MessagesWait(1)),
                Sample::done(E::AllRecordsKept(Some("00ff".to_owned()))),
            ],
            Step::DestroyKey(_) => vec![Sample::done(E::KeyDestroyed)],
            Step::DeleteMails(_) => vec![Sample::done(E::MailsDeleted(1))],
            Step::DeleteAccount(_) => vec![Sample::done(E::AccountDeleted)],
            Step::Erase(_) => vec![Sample::done(E::Erased)],
        }
    }

    /// Looks are counted, and no number of them makes a difference.
    fn position(state: &State) -> String {
        let looked =
            |state: fn(Person, u8) -> State, person: &Person| format!("{:?}", state(*person, 0));
        match state {
            State::Settling(person, _) => looked(State::Settling, person),
            State::AwaitingOthers(person, _) => looked(State::AwaitingOthers, person),
            State::Draining(person, _) => looked(State::Draining, person),
            State::AwaitingRelay(person, _) => looked(State::AwaitingRelay, person),
            other => format!("{other:?}"),
        }
    }
}
