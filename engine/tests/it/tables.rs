//! `Crossed`: steps of each kind that the other kind takes back, also steps of the caller. The arguments of the undos, and what the dispatch answers
//! for a step of another kind.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Done, DoneBy, Engine, Key, Kind, Never, Next, Outcome, Probe, Saga, Start, StepError,
    StepTable, StepTx, Terms, Undoing, Undone, Unexpected, WayBack, steps,
    testing::{Sample, Samples, step},
    to, unwind,
};

use crate::{
    statements::counting,
    world::{World, quick, work_on},
};

struct Crossed;

steps! {
    #[derive(PartialEq)]
    enum Step done by Crossing -> Event, undone for String {
        Book(what: String) => call(book, Terms::effect("booking")).repeatable().undo_tx(give_up),
        Note(what: String) => tx(note).undo_call(withdraw),
        Ask => call(ask).probe(ask_again).no_undo(),
    }
    #[derive(PartialEq)]
    enum ByCaller done by the caller {
        Reserved(what: String) => undo_tx(release),
        Told { whom: String } => undo_call(take_word_back),
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Booking,
    Noting,
    Asking,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Booked,
    Noted,
    Refused,
}

impl Saga for Crossed {
    const NAME: &'static str = "crossed";
    type Input = String;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(what: String) -> Next<Self> {
        to(State::Booking)
            .caller_did(ByCaller::Reserved(what.clone()))
            .caller_did(ByCaller::Told { whom: what.clone() })
            .run(Step::Book(what))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Booking, Event::Booked) => {
                to(State::Noting).run(Step::Note("a note".to_owned()))
            }
            (State::Noting, Event::Noted) => to(State::Asking).run(Step::Ask),
            (State::Asking, Event::Refused) => unwind("refused".to_owned()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Crossed {
    fn inputs() -> Vec<String> {
        vec!["seat".to_owned()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Book(_) => vec![Sample::done(Event::Booked)],
            Step::Note(_) => vec![Sample::done(Event::Noted)],
            Step::Ask => vec![Sample::refused(Event::Refused)],
        }
    }
}

/// Writes down what its undos are told.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Vec<Asked>>>);

/// The arguments of an undo, in words and as they were.
type Asked = (String, Undoing<String>);

impl Desk {
    fn told(&self, undo: &str, what: &str, undoing: &Undoing<String>) {
        let Undoing { key, step_key, reference, reason, .. } = undoing;
        let short = |key: &Key| key.to_string().replace(&key.saga_id().to_string(), "id");
        let (key, step_key) = (short(key), short(step_key));
        let told = format!("{undo} {what}: {key} for {step_key}, {reference:?}, {reason}");
        self.0.lock().expect("plain data").push((told, undoing.clone()));
    }
}

impl Crossing for Desk {
    async fn book(&self, _: &Key, what: &String) -> Outcome<Event> {
        Outcome::confirmed(Event::Booked, format!("booking of {what}"))
    }

    async fn give_up(
        &self,
        _: &mut StepTx<'_>,
        what: &String,
        undoing: &Undoing<String>,
    ) -> Result<(), StepError> {
        self.told("give up", what, undoing);
        Ok(())
    }

    async fn note(&self, _: &mut StepTx<'_>, _: &String) -> Result<Event, StepError> {
        Ok(Event::Noted)
    }

    async fn withdraw(&self, what: &String, undoing: &Undoing<String>) -> Undone {
        self.told("withdraw", what, undoing);
        Undone::Undone(None)
    }

    async fn ask(&self, _: &Key) -> Outcome<Event> {
        Outcome::event(Event::Refused)
    }

    async fn ask_again(&self, _: &Key) -> Probe<Event> {
        Probe::NotHappened
    }

    async fn release(
        &self,
        _: &mut StepTx<'_>,
        what: &String,
        undoing: &Undoing<String>,
    ) -> Result<(), StepError> {
        self.told("release", what, undoing);
        Ok(())
    }

    async fn take_word_back(&self, whom: &String, undoing: &Undoing<String>) -> Undone {
        self.told("take the word back of", whom, undoing);
        Undone::Undone(None)
    }
}

/// An instance that unwinds from its last step, and how often the ledger was read for its undos.
async fn unwound(world: &World, desk: &Desk) -> (uuid::Uuid, usize) {
    let builder = Engine::builder(world.pool.clone());
    let engine = builder.explored::<Crossed, _>(desk.clone()).build();
    let reads = Arc::new(AtomicUsize::new(0));
    let listening = tracing::subscriber::set_default(counting("read references", &reads));
    let worker = work_on(&engine, quick()).await;
    let mut tx = engine.begin().await.expect("the database is there");
    let start = Start::new("seat", "seat".to_owned());
    let started = engine.start::<Crossed>(&mut tx, start).await.expect("it can be started");
    tx.commit().await.expect("the database is there");
    let id = started.id;
    assert_eq!(world.ended(id).await.status, "unwound");
    worker.stop().await;
    drop(listening);
    (id, reads.load(Relaxed))
}

#[tokio::test]
async fn an_undo_of_either_kind_is_told_its_step_both_keys_the_reference_and_the_reason() {
    let (world, desk) = (World::new().await, Desk::default());
    let (id, reads) = unwound(&world, &desk).await;
    let told =
        desk.0.lock().expect("plain data").iter().map(|undo| undo.0.clone()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            "withdraw a note: id-2-undo for id-2, None, refused",
            "give up seat: id-1-undo for id-1, Some(\"booking of seat\"), refused",
            "take the word back of seat: id-0-undo for id-0, None, refused",
            "release seat: id--1-undo for id--1, None, refused",
        ],
        "last first"
    );
    let effects = world.effects(id).await;
    assert_eq!(effects[0].1, "undone", "the transaction of the undo tells the ledger: {effects:?}");
    assert_eq!(
        reads, 1,
        "the ledger is read once for a chain that takes an effect back, and for no other"
    );
    world.close().await;
}

#[tokio::test]
async fn the_dispatch_of_a_table_does_nothing_for_a_step_of_another_kind() {
    let (world, desk) = (World::new().await, Desk::default());
    unwound(&world, &desk).await;
    let undoing = desk.0.lock().expect("plain data").drain(..).next().expect("it has unwound").1;
    let (book, note) = (Step::Book("seat".to_owned()), Step::Note("a note".to_owned()));
    let mut begun = world.engine.begin().await.expect("the database is there");
    let mut tx = step(&world.engine, &mut begun, "nobody");
    assert!(matches!(book.run(&desk, &mut tx).await, Err(StepError::Broken(_))));
    assert!(matches!(note.call(&desk, &undoing.key).await, Outcome::NotDone(_)));
    assert!(matches!(book.probe(&desk, &undoing.key).await, Probe::Unknown(_)));
    let (booked, noted) = (Done::Step(book), Done::Step(note));
    let undone = Step::undo_in_tx(&noted, &desk, &mut tx, &undoing).await;
    assert!(matches!(undone, Err(StepError::Broken(_))));
    assert!(matches!(Step::undo_by_call(&booked, &desk, &undoing).await, Undone::Impossible(_)));
    assert!(desk.0.lock().expect("plain data").is_empty());
    begun.rollback().await.expect("the database is there");
    world.close().await;
}

#[test]
fn the_table_says_of_each_step_what_does_it_and_what_takes_it_back() {
    let (book, note) = (Step::Book("seat".to_owned()), Step::Note("a note".to_owned()));
    assert_eq!([book.kind(), note.kind(), Step::Ask.kind()], [Kind::Call, Kind::Tx, Kind::Call]);
    assert_eq!((book.has_probe(), Step::Ask.has_probe()), (false, true));
    assert_eq!(book.way_back(), WayBack::InTx("give_up"));
    assert_eq!(note.way_back(), WayBack::ByCall("withdraw"));
    assert_eq!(Step::Ask.way_back(), WayBack::Nothing);
    assert_eq!(book.terms().effect.expect("it declares one").kind, "booking");
}
