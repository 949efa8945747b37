//! `Five`: five activities in a row, each with an effect, a probe and an undo.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Effect, EffectKind, EffectRow, Next, Outcome, Probe, Saga, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected, WhenUnknown, to, unwind,
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Never {}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Do {
    Step(u8),
    TakeBack(u8),
    /// Its effect has an amount that no column holds.
    Poison,
}

impl Saga for Five {
    const NAME: &'static str = "five";
    const VERSION: u16 = 1;
    type Input = ();
    type State = At;
    type Event = Event;
    type Tx = Never;
    type Activity = Do;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(At(1)).call(Do::Step(1))
    }

    fn on(At(step): At, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match event {
            Event::Done(done) if done == step && step == 5 => to(At(6)).done(),
            Event::Done(done) if done == step => to(At(step + 1)).call(Do::Step(step + 1)),
            Event::Boom => panic!("scripted"),
            Event::Poison => to(At(step)).call(Do::Poison),
            Event::Declined => unwind("declined".to_owned()),
            Event::Stop => unwind("stopped".to_owned()),
            event => return Err(Unexpected::new(&step, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Do::Step(n)) => Undo::By(Step::Activity(Do::TakeBack(*n))),
            Step::Activity(Do::TakeBack(_) | Do::Poison) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(activity: &Do) -> Terms {
        let amount = matches!(activity, Do::Poison).then(|| ("1e200000".into(), "USD".into()));
        Terms {
            effect: Some(EffectKind { kind: "thing", amount }),
            timeout: Duration::from_secs(60),
            retry: quick(),
            unknown: WhenUnknown::Ask {
                // The provider of the third step is known to act late.
                settles_after: if matches!(activity, Do::Step(3)) { LATE } else { Duration::ZERO },
            },
            // The provider of the second step may act after it was given up.
            watch: matches!(activity, Do::Step(2)).then_some(WATCH),
            within: crate::deadlines::HOUR,
            enough: Some(5),
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Do>) -> String {
        "gave up".to_owned()
    }
}

pub(crate) struct FiveSteps(pub(crate) Arc<Provider>);

impl Steps<Five> for FiveSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &String,
    ) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &Do) -> Outcome<Event> {
        let Do::Step(n) = *activity else { unreachable!("undos come by undo_call") };
        match self.0.ask(&format!("do-{n}"), &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(Event::Done(n), reference),
            Answer::Declined | Answer::Challenged(_) => Outcome::refuted(Event::Declined),
            Answer::Babble => Outcome::event(Event::Babble),
            Answer::Poison => Outcome::event(Event::Poison),
            Answer::Boom => Outcome::event(Event::Boom),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            Answer::Silence => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn probe(&self, key: &ActivityKey, activity: &Do) -> Probe<Event> {
        let Do::Step(n) = *activity else { unreachable!("undos are repeated, not probed") };
        match self.0.ask(&format!("probe-{n}"), &key.to_string(), None, "").await {
            Answer::Silence | Answer::NotDone => Probe::Unknown(cause("no answer")),
            _ => match self.0.find(&format!("do-{n}"), &key.to_string()) {
                Some(reference) => {
                    Probe::Answered { event: Event::Done(n), effect: Effect::Confirmed(reference) }
                }
                None => Probe::NotHappened,
            },
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &Do,
        effect: Option<&EffectRow>,
        reason: &String,
    ) -> Undone {
        let Do::TakeBack(n) = *undo else { unreachable!("only undos undo") };
        let done = self.0.find(&format!("do-{n}"), &format!("{}-{}", key.saga_id, key.step_no));
        let known = effect.and_then(|effect| effect.reference.clone());
        let note = format!("{reason}, {}", known.as_deref().unwrap_or("no reference"));
        match self.0.ask(&format!("undo-{n}"), &key.to_string(), done.as_deref(), &note).await {
            Answer::Done(_) if done.is_none() => Undone::Nothing,
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("captured already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}
