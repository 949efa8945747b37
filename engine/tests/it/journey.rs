//! `Journey`: undos that do not wait for each other, a step that may be skipped, a call that a tx step takes back.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Done, Key, Never, Next, Outcome, Rest, Retry, Saga, StepError, StepTx, Terms,
    Undoing, Undone, Unexpected, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct Journey;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Booking(u8),
    Insuring,
    Depositing,
    Checking,
    Issuing,
    Mailing,
    Over,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Booked,
    Full,
    Insured,
    Uninsured,
    Deposited,
    Checked,
    Issued,
    Mailed,
}

steps! {
    pub(crate) enum Step done by Journeys -> Event, undone for Reason {
        Book(nth: u8) => call(book, booking()).repeatable().undo_call(unbook, patient()),
        Insure => call(insure, hesitant()).repeatable().no_undo(),
        Deposit => call(deposit, booking()).repeatable().undo_tx(give_back),
        Check => call(check, patient()).repeatable().no_undo(),
        Issue => tx(issue).pivot(),
        Mail { to: String } => call(mail, patient()).repeatable().no_undo(),
    }
}

fn patient() -> Terms {
    Terms { retry: quick(), enough: Some(5), ..Terms::new() }
}

fn booking() -> Terms {
    Terms { effect: Terms::effect("booking").effect, ..patient() }
}

fn hesitant() -> Terms {
    Terms { retry: Retry { base: MINUTE, cap: MINUTE }, ..patient() }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(transparent)]
pub(crate) struct Reason(String);

impl From<CalledOff<Step>> for Reason {
    fn from(why: CalledOff<Step>) -> Self {
        match why {
            CalledOff::Cancelled(why) => Self(why),
            _ => Self("called off".to_owned()),
        }
    }
}

impl Saga for Journey {
    const NAME: &'static str = "journey";
    type Input = ();
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = Reason;

    fn start((): ()) -> Next<Self> {
        to(State::Booking(1)).run(Step::Book(1))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Booking(3), E::Booked) => to(S::Insuring).run(Step::Insure),
            (S::Booking(n), E::Booked) => to(S::Booking(n + 1)).run(Step::Book(n + 1)),
            (S::Insuring, E::Insured | E::Uninsured) => to(S::Depositing).run(Step::Deposit),
            (S::Depositing, E::Deposited) => to(S::Checking).run(Step::Check),
            (S::Checking, E::Checked) => to(S::Issuing).run(Step::Issue),
            (S::Checking | S::Booking(_), E::Full) => unwind(Reason("full".to_owned())),
            (S::Issuing, E::Issued) => to(S::Mailing).run(Step::Mail { to: "a".to_owned() }),
            (S::Mailing, E::Mailed) => to(S::Over).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn on_failed_undo(_: &Done<Step>) -> Rest {
        Rest::GoesOn
    }

    fn skipped(step: &Step) -> Option<Event> {
        matches!(step, Step::Insure).then_some(Event::Uninsured)
    }
}

pub(crate) struct JourneySteps(pub(crate) Arc<Provider>);

impl JourneySteps {
    async fn ask(&self, op: &str, key: &Key, event: Event) -> Outcome<Event> {
        match self.0.ask(op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(event, reference),
            Answer::Declined => Outcome::refuted(Event::Full),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }
}

impl Journeys for JourneySteps {
    async fn book(&self, key: &Key, nth: &u8) -> Outcome<Event> {
        self.ask(&format!("book-{nth}"), key, Event::Booked).await
    }

    async fn unbook(&self, nth: &u8, undoing: &Undoing<Reason>) -> Undone {
        let (op, key) = (format!("unbook-{nth}"), undoing.key.to_string());
        match self.0.ask(&op, &key, None, undoing.reference.as_deref().unwrap_or("")).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("travelled already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }

    async fn insure(&self, key: &Key) -> Outcome<Event> {
        self.ask("insure", key, Event::Insured).await
    }

    async fn deposit(&self, key: &Key) -> Outcome<Event> {
        self.ask("deposit", key, Event::Deposited).await
    }

    async fn give_back(&self, tx: &mut StepTx<'_>, _: &Undoing<Reason>) -> Result<(), StepError> {
        Ok(self.0.in_tx("return", tx).await?)
    }

    async fn check(&self, key: &Key) -> Outcome<Event> {
        self.ask("check", key, Event::Checked).await
    }

    async fn issue(&self, _: &mut StepTx<'_>) -> Result<Event, StepError> {
        Ok(Event::Issued)
    }

    async fn mail(&self, key: &Key, to: &String) -> Outcome<Event> {
        self.ask(&format!("mail-{to}"), key, Event::Mailed).await
    }
}

impl Samples for Journey {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Issue => vec![Sample::done(Event::Issued)],
            Step::Book(_) => {
                vec![Sample::done(Event::Booked), Sample::refused(Event::Full)]
            }
            Step::Check => {
                vec![Sample::done(Event::Checked), Sample::refused(Event::Full)]
            }
            Step::Insure => vec![Sample::done(Event::Insured)],
            Step::Deposit => vec![Sample::done(Event::Deposited)],
            Step::Mail { .. } => vec![Sample::done(Event::Mailed)],
        }
    }
}
