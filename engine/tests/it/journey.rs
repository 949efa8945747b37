//! `Journey`: undos that do not wait for each other, a step that may be skipped, an activity that a tx step takes back.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, EffectKind, EffectRow, Next, Outcome, Rest, Retry, Saga, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected,
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Issue,
    Return,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Book(u8),
    Unbook(u8),
    Insure,
    Deposit,
    Check,
    Mail { to: String },
}

impl Saga for Journey {
    const NAME: &'static str = "journey";
    const VERSION: u16 = 1;
    type Input = ();
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(State::Booking(1)).call(Activity::Book(1))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Booking(3), E::Booked) => to(S::Insuring).call(Activity::Insure),
            (S::Booking(n), E::Booked) => to(S::Booking(n + 1)).call(Activity::Book(n + 1)),
            (S::Insuring, E::Insured | E::Uninsured) => to(S::Depositing).call(Activity::Deposit),
            (S::Depositing, E::Deposited) => to(S::Checking).call(Activity::Check),
            (S::Checking, E::Checked) => to(S::Issuing).run(Tx::Issue),
            (S::Checking | S::Booking(_), E::Full) => unwind("full".to_owned()),
            (S::Issuing, E::Issued) => to(S::Mailing).call(Activity::Mail { to: "a".to_owned() }),
            (S::Mailing, E::Mailed) => to(S::Over).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Activity::Book(n)) => Undo::By(Step::Activity(Activity::Unbook(*n))),
            Step::Activity(Activity::Deposit) => Undo::By(Step::Tx(Tx::Return)),
            Step::Tx(Tx::Issue) => Undo::Pivot,
            Step::Tx(Tx::Return)
            | Step::Activity(
                Activity::Unbook(_) | Activity::Insure | Activity::Check | Activity::Mail { .. },
            ) => Undo::Nothing,
        }
    }

    fn terms(activity: &Activity) -> Terms {
        let effect = matches!(activity, Activity::Book(_) | Activity::Deposit)
            .then_some(EffectKind { kind: "booking", amount: None });
        let retry = match activity {
            Activity::Insure => Retry { base: MINUTE, cap: MINUTE },
            _ => quick(),
        };
        Terms { effect, retry, enough: Some(5), ..Terms::new() }
    }

    fn called_off(why: CalledOff<Activity>) -> String {
        match why {
            CalledOff::Cancelled(why) => why,
            _ => "called off".to_owned(),
        }
    }

    fn on_failed_undo(_: &Step<Self>) -> Rest {
        Rest::GoesOn
    }

    fn skipped(step: &Step<Self>) -> Option<Event> {
        matches!(step, Step::Activity(Activity::Insure)).then_some(Event::Uninsured)
    }
}

pub(crate) struct JourneySteps(pub(crate) Arc<Provider>);

impl Steps<Journey> for JourneySteps {
    async fn run(&self, _: &mut PgConnection, _: &Tx) -> Result<Event, StepError> {
        Ok(Event::Issued)
    }

    async fn undo_run(&self, tx: &mut PgConnection, _: &Tx, _: &String) -> Result<(), StepError> {
        self.0.in_tx("return", tx).await?;
        Ok(())
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let (op, event) = match activity {
            Activity::Book(n) => (format!("book-{n}"), Event::Booked),
            Activity::Insure => ("insure".to_owned(), Event::Insured),
            Activity::Deposit => ("deposit".to_owned(), Event::Deposited),
            Activity::Check => ("check".to_owned(), Event::Checked),
            Activity::Mail { to } => (format!("mail-{to}"), Event::Mailed),
            Activity::Unbook(_) => unreachable!("an undo"),
        };
        match self.0.ask(&op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(event, reference),
            Answer::Declined => Outcome::refuted(Event::Full),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &Activity,
        effect: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        let Activity::Unbook(n) = undo else { unreachable!("no undo") };
        let reference = effect.and_then(|effect| effect.reference.as_deref());
        match self
            .0
            .ask(&format!("unbook-{n}"), &key.to_string(), None, reference.unwrap_or(""))
            .await
        {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("travelled already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}

impl Samples for Journey {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Tx(Tx::Issue) => vec![Sample::done(Event::Issued)],
            Step::Activity(Activity::Book(_)) => {
                vec![Sample::done(Event::Booked), Sample::refused(Event::Full)]
            }
            Step::Activity(Activity::Check) => {
                vec![Sample::done(Event::Checked), Sample::refused(Event::Full)]
            }
            Step::Activity(Activity::Insure) => vec![Sample::done(Event::Insured)],
            Step::Activity(Activity::Deposit) => vec![Sample::done(Event::Deposited)],
            Step::Activity(Activity::Mail { .. }) => vec![Sample::done(Event::Mailed)],
            Step::Tx(Tx::Return) | Step::Activity(Activity::Unbook(_)) => Vec::new(),
        }
    }

    fn signals() -> Vec<Event> {
        Vec::new()
    }
}
