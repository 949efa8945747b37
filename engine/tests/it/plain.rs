//! `Five`: five calls in a row, each with an effect, a probe and an undo.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Key, Next, Outcome, Probe, Saga, Terms, Undoing, Undone, Unexpected, signals, steps,
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

/// How late the provider of the third step may act.
pub(crate) const LATE: Duration = Duration::from_secs(600);

/// How long the provider of the second step may act under our key.
pub(crate) const WATCH: Duration = Duration::from_secs(24 * 3_600);

pub(crate) struct Five;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct At(pub(crate) u8);

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Done(u8),
    Declined,
    Babble,
    Poison,
    Boom,
    Stop,
}

signals! {
    pub(crate) enum Signal as Event { Stop => refuse }
}

steps! {
    pub(crate) enum Step done by FiveThings -> Event, undone for Reason {
        Step(nth: u8) => call(act, thing(*nth)).probe(find).undo_call(take_back, patient()),
        // The database refuses its effect: a trigger of the tests.
        Poison => call(poison, Terms::effect("poison")).repeatable().no_undo(),
    }
}

fn patient() -> Terms {
    Terms {
        timeout: Duration::from_secs(60),
        retry: quick(),
        within: crate::deadlines::HOUR,
        enough: Some(5),
        ..Terms::new()
    }
}

fn thing(nth: u8) -> Terms {
    Terms {
        effect: Terms::effect("thing").effect,
        // The provider of the third step is known to act late.
        settles_after: if nth == 3 { LATE } else { Duration::ZERO },
        // The provider of the second step may act after it was given up.
        watch: (nth == 2).then_some(WATCH),
        ..patient()
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(transparent)]
pub(crate) struct Reason(String);

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self("gave up".to_owned())
    }
}

impl Saga for Five {
    const NAME: &'static str = "five";
    type Input = ();
    type State = At;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start((): ()) -> Next<Self> {
        to(At(1)).run(Step::Step(1))
    }

    fn on(At(step): At, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match event {
            Event::Done(done) if done == step && step == 5 => to(At(6)).done(),
            Event::Done(done) if done == step => to(At(step + 1)).run(Step::Step(step + 1)),
            Event::Boom => panic!("scripted"),
            Event::Poison => to(At(step)).run(Step::Poison),
            Event::Declined => unwind(Reason("declined".to_owned())),
            Event::Stop => unwind(Reason("stopped".to_owned())),
            event => return Err(Unexpected::new(&step, &event)),
        })
    }
}

pub(crate) struct FiveSteps(pub(crate) Arc<Provider>);

impl FiveThings for FiveSteps {
    async fn act(&self, key: &Key, nth: &u8) -> Outcome<Event> {
        match self.0.ask(&format!("do-{nth}"), &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(Event::Done(*nth), reference),
            Answer::Declined | Answer::Challenged(_) => Outcome::refuted(Event::Declined),
            Answer::Babble => Outcome::event(Event::Babble),
            Answer::Poison => Outcome::event(Event::Poison),
            Answer::Boom => Outcome::event(Event::Boom),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            Answer::Silence => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn find(&self, key: &Key, nth: &u8) -> Probe<Event> {
        match self.0.ask(&format!("probe-{nth}"), &key.to_string(), None, "").await {
            Answer::Silence | Answer::NotDone => Probe::Unknown(cause("no answer")),
            _ => match self.0.find(&format!("do-{nth}"), &key.to_string()) {
                Some(reference) => Probe::confirmed(Event::Done(*nth), reference),
                None => Probe::NotHappened,
            },
        }
    }

    async fn take_back(&self, nth: &u8, undoing: &Undoing<Reason>) -> Undone {
        let done = self.0.find(&format!("do-{nth}"), &undoing.step_key.to_string());
        let known = undoing.reference.as_deref().unwrap_or("no reference");
        let (key, note) = (undoing.key.to_string(), format!("{}, {known}", undoing.reason.0));
        match self.0.ask(&format!("undo-{nth}"), &key, done.as_deref(), &note).await {
            Answer::Done(_) if done.is_none() => Undone::Nothing,
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("captured already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }

    async fn poison(&self, _: &Key) -> Outcome<Event> {
        unreachable!("its effect cannot be stored")
    }
}
