//! `parcel` in two versions that differ in everything that is stored: the second one names things otherwise and weighs before it sends.
//!
//! Packed (taken back by unpacking), it rests for a day unless somebody hurries it, and is sent.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    ActivityKey, CalledOff, Early, EffectRow, Engine, Next, Outcome, Part, Saga, Step, StepError,
    Steps, Terms, Undo, Undone, Unexpected, UpcastError,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

/// How long a parcel rests.
pub(crate) const REST: Duration = Duration::from_secs(24 * 3_600);

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Never {}

pub(crate) fn engine_v1(pool: PgPool, provider: &Arc<Provider>) -> Engine {
    Engine::builder(pool).explored::<v1::Parcel, _>(ParcelSteps(provider.clone())).build()
}

pub(crate) fn engine_v2(pool: PgPool, provider: &Arc<Provider>) -> Engine {
    Engine::builder(pool).explored::<v2::Parcel, _>(ParcelSteps(provider.clone())).build()
}

pub(crate) mod v1 {
    use super::*;

    pub(crate) struct Parcel;

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    pub(crate) enum State {
        Packing(String),
        Waiting(String),
        Sending(String),
        Sent,
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    pub(crate) enum Event {
        Packed,
        Rested,
        Hurry,
        Stop,
        Sent,
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    pub(crate) enum Activity {
        Pack,
        Unpack(String),
        Send,
    }

    impl Saga for Parcel {
        const NAME: &'static str = "parcel";
        const VERSION: u16 = 1;
        type Input = String;
        type State = State;
        type Event = Event;
        type Tx = Never;
        type Activity = Activity;
        type Reason = String;

        fn start(id: String) -> Next<Self> {
            to(State::Packing(id)).call(Activity::Pack)
        }

        fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
            Ok(match (state, event) {
                (State::Packing(id), Event::Packed) => {
                    to(State::Waiting(id)).or_after(REST, Event::Rested)
                }
                (State::Waiting(id), Event::Rested | Event::Hurry) => {
                    to(State::Sending(id)).call(Activity::Send)
                }
                (State::Packing(_) | State::Waiting(_), Event::Stop) => unwind("stopped".into()),
                (State::Sending(_), Event::Sent) => to(State::Sent).done(),
                (state, event) => return Err(Unexpected::new(&state, &event)),
            })
        }

        fn undo(step: &Step<Self>) -> Undo<Self> {
            match step {
                Step::Activity(Activity::Pack) => {
                    Undo::By(Step::Activity(Activity::Unpack("carefully".into())))
                }
                Step::Activity(Activity::Send) => Undo::Pivot,
                Step::Activity(Activity::Unpack(_)) => Undo::Nothing,
                Step::Tx(never) => match *never {},
            }
        }

        fn terms(_: &Activity) -> Terms {
            Terms { retry: quick(), enough: Some(5), ..Terms::new() }
        }

        fn called_off(_: CalledOff<Activity>) -> String {
            "gave up".into()
        }

        fn early(signal: &Event) -> Early {
            if matches!(signal, Event::Hurry) { Early::Keep } else { Early::Refuse }
        }
    }

    impl Samples for Parcel {
        fn inputs() -> Vec<String> {
            vec!["p".into()]
        }

        fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
            match step {
                Step::Activity(Activity::Pack) => vec![Sample::done(Event::Packed)],
                Step::Activity(Activity::Send) => vec![Sample::done(Event::Sent)],
                _ => Vec::new(),
            }
        }

        fn signals() -> Vec<Event> {
            vec![Event::Hurry, Event::Stop]
        }
    }
}

pub(crate) mod v2 {
    use super::*;

    pub(crate) struct Parcel;

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    pub(crate) enum State {
        Wrapping { id: String },
        Resting { id: String, grams: Option<u32> },
        Weighing { id: String },
        Sending { id: String, grams: Option<u32> },
        Sent,
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    pub(crate) enum Event {
        Wrapped,
        Awake,
        Hurry,
        Stop { by: String },
        Weighed(u32),
        Sent,
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    pub(crate) enum Activity {
        Wrap,
        Unwrap { how: String },
        Weigh,
        Send,
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    pub(crate) struct Reason {
        pub(crate) why: String,
    }

    impl Saga for Parcel {
        const NAME: &'static str = "parcel";
        const VERSION: u16 = 2;
        type Input = String;
        type State = State;
        type Event = Event;
        type Tx = Never;
        type Activity = Activity;
        type Reason = Reason;

        fn start(id: String) -> Next<Self> {
            to(State::Wrapping { id }).call(Activity::Wrap)
        }

        fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
            Ok(match (state, event) {
                (State::Wrapping { id }, Event::Wrapped) => {
                    to(State::Resting { id, grams: None }).or_after(REST, Event::Awake)
                }
                (State::Resting { id, .. }, Event::Awake | Event::Hurry) => {
                    to(State::Weighing { id }).call(Activity::Weigh)
                }
                (State::Weighing { id }, Event::Weighed(grams)) => {
                    to(State::Sending { id, grams: Some(grams) }).call(Activity::Send)
                }
                (State::Wrapping { .. } | State::Resting { .. }, Event::Stop { by }) => {
                    unwind(Reason { why: format!("stopped by {by}") })
                }
                (State::Sending { .. }, Event::Sent) => to(State::Sent).done(),
                (state, event) => return Err(Unexpected::new(&state, &event)),
            })
        }

        fn undo(step: &Step<Self>) -> Undo<Self> {
            match step {
                Step::Activity(Activity::Wrap) => {
                    Undo::By(Step::Activity(Activity::Unwrap { how: "well".into() }))
                }
                Step::Activity(Activity::Send) => Undo::Pivot,
                Step::Activity(Activity::Weigh | Activity::Unwrap { .. }) => Undo::Nothing,
                Step::Tx(never) => match *never {},
            }
        }

        fn terms(_: &Activity) -> Terms {
            Terms { retry: quick(), enough: Some(5), ..Terms::new() }
        }

        fn called_off(_: CalledOff<Activity>) -> Reason {
            Reason { why: "gave up".into() }
        }

        fn early(signal: &Event) -> Early {
            if matches!(signal, Event::Hurry) { Early::Keep } else { Early::Refuse }
        }

        fn upcast(from: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
            if from != 1 {
                return Err(UpcastError::Missing { from, part });
            }
            let id = |at: &str| json.get(at).cloned();
            Ok(match part {
                Part::State => match (id("Packing"), id("Waiting"), id("Sending")) {
                    (Some(id), ..) => json!({"Wrapping": {"id": id}}),
                    (_, Some(id), _) if id == "panic" => panic!("scripted"),
                    (_, Some(id), _) if id == "misfit" => json!({"Resting": 7}),
                    (_, Some(id), _) if id == "no way" => {
                        return Err(UpcastError::Missing { from, part });
                    }
                    (_, Some(id), _) => json!({"Resting": {"id": id, "grams": null}}),
                    (.., Some(id)) => json!({"Sending": {"id": id, "grams": null}}),
                    _ => json,
                },
                Part::Event if json == "Packed" => json!("Wrapped"),
                Part::Event if json == "Rested" => json!("Awake"),
                Part::Event if json == "Stop" => json!({"Stop": {"by": "somebody"}}),
                Part::Activity if json == "Pack" => json!("Wrap"),
                Part::Activity => match id("Unpack") {
                    Some(how) => json!({"Unwrap": {"how": how}}),
                    None => json,
                },
                Part::Reason => json!({"why": json}),
                Part::Event | Part::Tx => json,
            })
        }
    }

    impl Samples for Parcel {
        fn inputs() -> Vec<String> {
            vec!["p".into()]
        }

        fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
            match step {
                Step::Activity(Activity::Wrap) => vec![Sample::done(Event::Wrapped)],
                Step::Activity(Activity::Weigh) => vec![Sample::done(Event::Weighed(3))],
                Step::Activity(Activity::Send) => vec![Sample::done(Event::Sent)],
                _ => Vec::new(),
            }
        }

        fn signals() -> Vec<Event> {
            vec![Event::Hurry, Event::Stop { by: "us".into() }]
        }
    }
}

/// Does both versions: the provider cannot tell them apart.
pub(crate) struct ParcelSteps(pub(crate) Arc<Provider>);

impl ParcelSteps {
    async fn ask<E>(&self, op: &str, key: &ActivityKey, done: E) -> Outcome<E> {
        match self.0.ask(op, &key.to_string(), None, "").await {
            Answer::Done(_) => Outcome::event(done),
            _ => Outcome::AnsweredNo(cause("not today")),
        }
    }

    async fn unpack(&self, key: &ActivityKey, note: &str) -> Undone {
        match self.0.ask("unpack", &key.to_string(), None, note).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            _ => Undone::AnsweredNo(cause("not today")),
        }
    }
}

impl Steps<v1::Parcel> for ParcelSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<v1::Event, StepError> {
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

    async fn call(&self, key: &ActivityKey, activity: &v1::Activity) -> Outcome<v1::Event> {
        match activity {
            v1::Activity::Pack => self.ask("pack", key, v1::Event::Packed).await,
            v1::Activity::Send => self.ask("send", key, v1::Event::Sent).await,
            v1::Activity::Unpack(_) => unreachable!("an undo"),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &v1::Activity,
        _: Option<&EffectRow>,
        reason: &String,
    ) -> Undone {
        self.unpack(key, &format!("{undo:?} {reason}")).await
    }
}

impl Steps<v2::Parcel> for ParcelSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<v2::Event, StepError> {
        match *step {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &v2::Reason,
    ) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &v2::Activity) -> Outcome<v2::Event> {
        match activity {
            v2::Activity::Wrap => self.ask("pack", key, v2::Event::Wrapped).await,
            v2::Activity::Weigh => self.ask("weigh", key, v2::Event::Weighed(3)).await,
            v2::Activity::Send => self.ask("send", key, v2::Event::Sent).await,
            v2::Activity::Unwrap { .. } => unreachable!("an undo"),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &v2::Activity,
        _: Option<&EffectRow>,
        reason: &v2::Reason,
    ) -> Undone {
        self.unpack(key, &format!("{undo:?} {}", reason.why)).await
    }
}
