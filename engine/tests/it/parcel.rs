//! `parcel` in two versions that differ in everything that is stored: the second one names things otherwise and weighs before it sends.
//!
//! Packed (taken back by unpacking), it rests for a day unless somebody hurries it, and is sent.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::{
    CalledOff, Engine, Key, Next, Outcome, Part, Saga, Terms, Undoing, Undone, Unexpected,
    UpcastError, signals, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

/// How long a parcel rests.
pub(crate) const REST: Duration = Duration::from_secs(24 * 3_600);

fn patient() -> Terms {
    Terms { retry: quick(), enough: Some(5), ..Terms::new() }
}

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

    signals! {
        pub(crate) enum Signal as Event { Hurry => keep, Stop => refuse }
    }

    steps! {
        pub(crate) enum Step done by Packing -> Event, undone for Reason {
            Pack => call(pack, patient()).repeatable().undo_call(unpack, patient()),
            Send => call(send, patient()).repeatable().pivot(),
        }
        // As releases recorded the undo of Pack that did not record the step.
        pub(crate) enum OldUndo done by the caller {
            Unpack(how: String) => undo_call(unpack_as_recorded, patient()),
        }
    }

    #[derive(Serialize, Deserialize, Clone, Debug)]
    #[serde(transparent)]
    pub(crate) struct Reason(pub(crate) String);

    impl From<CalledOff<Step>> for Reason {
        fn from(_: CalledOff<Step>) -> Self {
            Self("gave up".into())
        }
    }

    impl Saga for Parcel {
        const NAME: &'static str = "parcel";
        type Input = String;
        type State = State;
        type Event = Event;
        type Signal = Signal;
        type Step = Step;
        type Reason = Reason;

        fn start(id: String) -> Next<Self> {
            to(State::Packing(id)).run(Step::Pack)
        }

        fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
            Ok(match (state, event) {
                (State::Packing(id), Event::Packed) => {
                    to(State::Waiting(id)).or_after(REST, Event::Rested)
                }
                (State::Waiting(id), Event::Rested | Event::Hurry) => {
                    to(State::Sending(id)).run(Step::Send)
                }
                (State::Packing(_) | State::Waiting(_), Event::Stop) => {
                    unwind(Reason("stopped".into()))
                }
                (State::Sending(_), Event::Sent) => to(State::Sent).done(),
                (state, event) => return Err(Unexpected::new(&state, &event)),
            })
        }
    }

    impl Samples for Parcel {
        fn inputs() -> Vec<String> {
            vec!["p".into()]
        }

        fn outcomes(step: &Step) -> Vec<Sample<Event>> {
            match step {
                Step::Pack => vec![Sample::done(Event::Packed)],
                Step::Send => vec![Sample::done(Event::Sent)],
            }
        }

        fn signals() -> Vec<Signal> {
            vec![Signal::Hurry, Signal::Stop]
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

    signals! {
        pub(crate) enum Signal as Event { Hurry => keep, Stop { by: String } => refuse }
    }

    steps! {
        pub(crate) enum Step done by Wrapping -> Event, undone for Reason {
            Wrap => call(wrap, patient()).repeatable().undo_call(unwrap, patient()),
            Weigh => call(weigh, patient()).repeatable().no_undo(),
            Send => call(send, patient()).repeatable().pivot(),
        }
        // As releases recorded the undo of Wrap that did not record the step.
        pub(crate) enum OldUndo done by the caller {
            Unwrap { how: String } => undo_call(unwrap_as_recorded, patient()),
        }
    }

    impl From<CalledOff<Step>> for Reason {
        fn from(_: CalledOff<Step>) -> Self {
            Self { why: "gave up".into() }
        }
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
        type Signal = Signal;
        type Step = Step;
        type Reason = Reason;

        fn start(id: String) -> Next<Self> {
            to(State::Wrapping { id }).run(Step::Wrap)
        }

        fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
            Ok(match (state, event) {
                (State::Wrapping { id }, Event::Wrapped) => {
                    to(State::Resting { id, grams: None }).or_after(REST, Event::Awake)
                }
                (State::Resting { id, .. }, Event::Awake | Event::Hurry) => {
                    to(State::Weighing { id }).run(Step::Weigh)
                }
                (State::Weighing { id }, Event::Weighed(grams)) => {
                    to(State::Sending { id, grams: Some(grams) }).run(Step::Send)
                }
                (State::Wrapping { .. } | State::Resting { .. }, Event::Stop { by }) => {
                    unwind(Reason { why: format!("stopped by {by}") })
                }
                (State::Sending { .. }, Event::Sent) => to(State::Sent).done(),
                (state, event) => return Err(Unexpected::new(&state, &event)),
            })
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
                Part::Event | Part::Signal if json == "Stop" => json!({"Stop": {"by": "somebody"}}),
                Part::Step if json == "Pack" => json!("Wrap"),
                Part::CallerStep => match id("Unpack") {
                    Some(how) => json!({"Unwrap": {"how": how}}),
                    None => json,
                },
                Part::Reason => json!({"why": json}),
                Part::Event | Part::Signal | Part::Step => json,
            })
        }
    }

    impl Samples for Parcel {
        fn inputs() -> Vec<String> {
            vec!["p".into()]
        }

        fn outcomes(step: &Step) -> Vec<Sample<Event>> {
            match step {
                Step::Wrap => vec![Sample::done(Event::Wrapped)],
                Step::Weigh => vec![Sample::done(Event::Weighed(3))],
                Step::Send => vec![Sample::done(Event::Sent)],
            }
        }

        fn signals() -> Vec<Signal> {
            vec![Signal::Hurry, Signal::Stop { by: "us".into() }]
        }
    }
}

/// Does both versions: the provider cannot tell them apart.
pub(crate) struct ParcelSteps(pub(crate) Arc<Provider>);

impl ParcelSteps {
    async fn ask<E>(&self, op: &str, key: &Key, done: E) -> Outcome<E> {
        match self.0.ask(op, &key.to_string(), None, "").await {
            Answer::Done(_) => Outcome::event(done),
            _ => Outcome::AnsweredNo(cause("not today")),
        }
    }

    async fn unpack(&self, key: &Key, note: &str) -> Undone {
        match self.0.ask("unpack", &key.to_string(), None, note).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            _ => Undone::AnsweredNo(cause("not today")),
        }
    }
}

impl v1::Packing for ParcelSteps {
    async fn pack(&self, key: &Key) -> Outcome<v1::Event> {
        self.ask("pack", key, v1::Event::Packed).await
    }

    async fn unpack(&self, undoing: &Undoing<v1::Reason>) -> Undone {
        self.unpack(&undoing.key, &format!("packed, {}", undoing.reason.0)).await
    }

    async fn unpack_as_recorded(&self, how: &String, undoing: &Undoing<v1::Reason>) -> Undone {
        self.unpack(&undoing.key, &format!("unpacked {how}, {}", undoing.reason.0)).await
    }

    async fn send(&self, key: &Key) -> Outcome<v1::Event> {
        self.ask("send", key, v1::Event::Sent).await
    }
}

impl v2::Wrapping for ParcelSteps {
    async fn wrap(&self, key: &Key) -> Outcome<v2::Event> {
        self.ask("pack", key, v2::Event::Wrapped).await
    }

    async fn unwrap(&self, undoing: &Undoing<v2::Reason>) -> Undone {
        self.unpack(&undoing.key, &format!("wrapped, {}", undoing.reason.why)).await
    }

    async fn weigh(&self, key: &Key) -> Outcome<v2::Event> {
        self.ask("weigh", key, v2::Event::Weighed(3)).await
    }

    async fn send(&self, key: &Key) -> Outcome<v2::Event> {
        self.ask("send", key, v2::Event::Sent).await
    }

    async fn unwrap_as_recorded(&self, how: &String, undoing: &Undoing<v2::Reason>) -> Undone {
        self.unpack(&undoing.key, &format!("unwrapped {how}, {}", undoing.reason.why)).await
    }
}
