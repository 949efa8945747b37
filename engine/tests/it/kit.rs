//! The test kit on the test sagas: stories, graphs, crash points.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{
    Answer, Done, Engine, Start, Status,
    testing::{
        Asks, Sample, Samples, Trial, explore, survives_every_crash, unwinds_from_every_step, walk,
    },
};
use uuid::Uuid;

use crate::{
    order::{
        APPROVAL, Event as E, Input, ORDER_TABLES, Order, OrderSteps, Reason, Signal, State as S,
        Step,
    },
    plain::{self, At, Event as FiveEvent, Five},
    provider::{Behaviour, Provider},
};

fn input() -> Input {
    Input { order: "order".into(), notify: true }
}

fn created() -> E {
    E::Created { reference: "reference".into() }
}

#[test]
fn a_story_without_a_database_places_an_order() {
    let mut order = walk::<Order>(input());
    assert!(matches!(order.asks(), Asks::Run(Step::Reserve(_))));
    order.answers(E::Reserved).answers(created()).answers(E::Confirmed);
    assert_eq!(order.open_undos().len(), 3, "the way back is open until the pivot");
    order.answers(E::Placed);
    assert!(order.open_undos().is_empty(), "nothing is taken back after the pivot");
    order.answers(E::Notified);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Reserve", "Create", "Confirm", "Place", "Notify"]);
}

#[test]
fn a_story_takes_back_last_first_and_knows_why() {
    let mut order = walk::<Order>(input());
    order.answers(E::Reserved).answers(created()).refuses(E::Declined);
    assert!(matches!(order.reason(), Some(Reason::Declined)));
    order.takes_all_back();
    assert_eq!(order.status(), Status::Unwound);
    assert_eq!(order.steps(), ["Reserve", "Create", "Confirm", "cancel_created", "release"]);
}

#[test]
fn a_story_settles_what_is_in_flight_before_it_takes_back() {
    let mut order = walk::<Order>(input());
    order.answers(E::Reserved);
    assert_eq!(order.signal(Signal::CancelRequested), Answer::Applied);
    assert!(matches!(order.asks(), Asks::Call(Step::Create)), "settled first");
    order.answers(created());
    assert!(matches!(order.asks(), Asks::Undo(Done::Step(Step::Create))));
    order.cannot_take_back();
    assert_eq!(order.status(), Status::Stuck);
    assert_eq!(order.open_undos().len(), 2, "what is left to do is listed");
}

#[test]
fn a_story_keeps_an_early_signal_and_lets_time_pass() {
    let mut order = walk::<Order>(input());
    order.answers(E::Reserved).answers(created());
    assert_eq!(order.signal(Signal::Approved), Answer::Kept);
    order.answers(E::ApprovalRequired);
    assert!(matches!(order.asks(), Asks::Run(Step::Place(_))), "the kept approval was taken");

    let mut order = walk::<Order>(input());
    order.answers(E::Reserved).answers(created()).answers(E::ApprovalRequired);
    assert!(matches!(order.asks(), Asks::Wait(Some((delay, _))) if delay == APPROVAL));
    order.signal(Signal::Noted);
    assert!(matches!(order.asks(), Asks::Wait(Some((delay, _))) if delay == APPROVAL));
    order.time_passes().takes_all_back();
    assert!(matches!(order.reason(), Some(Reason::Expired)));
}

#[test]
fn a_story_asks_before_it_repeats_and_gives_up() {
    let mut order = walk::<Order>(input());
    order.answers(E::Reserved).stays_unknown().was_never_seen().fails().answers(created());
    order.is_given_up().takes_all_back();
    assert_eq!(order.status(), Status::Unwound);
    let mut order = walk::<Order>(input());
    order.answers(E::Reserved).answers(created()).answers(E::Confirmed).answers(E::Placed);
    order.is_given_up();
    assert_eq!(order.status(), Status::Stuck, "after the pivot a person is needed");
}

impl Samples for Order {
    fn inputs() -> Vec<Input> {
        vec![input(), Input { notify: false, ..input() }]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Reserve(_) => {
                vec![Sample::done(E::Reserved), Sample::refused(E::OutOfStock)]
            }
            Step::Place(_) => vec![Sample::done(E::Placed)],
            Step::Create => {
                vec![Sample::done(created()), Sample::refused(E::Declined)]
            }
            Step::Confirm { .. } => vec![
                Sample::done(E::Confirmed),
                Sample::refused(E::Declined),
                Sample::done(E::ApprovalRequired),
            ],
            Step::Notify => vec![Sample::done(E::Notified)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::CancelRequested, Signal::Approved, Signal::Noted]
    }

    /// It counts notes and treats all counts alike.
    fn position(state: &S) -> String {
        let text = format!("{state:?}");
        text.split(", noted").next().unwrap_or(&text).to_owned()
    }
}

#[test]
fn exploring_finds_the_order_sound_and_draws_it() {
    let map = explore::<Order>();
    map.assert_sound();
    assert_eq!(map.ends, [Status::Completed, Status::Stuck, Status::Unwound]);
    map.assert_drawn_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/order.md"));
}

impl Samples for Five {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &plain::Step) -> Vec<Sample<FiveEvent>> {
        match step {
            plain::Step::Step(n) => {
                vec![Sample::done(FiveEvent::Done(*n)), Sample::refused(FiveEvent::Declined)]
            }
            plain::Step::Poison => Vec::new(),
        }
    }

    fn signals() -> Vec<plain::Signal> {
        vec![plain::Signal::Stop]
    }

    fn name(At(step): &At) -> String {
        format!("At{step}")
    }
}

#[test]
fn exploring_finds_five_steps_sound() {
    let map = explore::<Five>();
    map.assert_sound();
    assert_eq!(map.ends, [Status::Completed, Status::Unwound]);
    assert!(map.diagram().contains("At4 --> At5: Done"), "{}", map.diagram());
}

/// Orders that end placed, declined or cancelled, with the worker dying at every point.
struct Orders {
    provider: Arc<Provider>,
    confirm: Option<Behaviour>,
    signal: Option<Signal>,
}

impl Trial for Orders {
    type Saga = Order;
    type Services = OrderSteps;

    async fn prepare(&self, pool: &PgPool) {
        sqlx::raw_sql(ORDER_TABLES).execute(pool).await.expect("the tables are new");
    }

    fn services(&self, _: PgPool) -> OrderSteps {
        OrderSteps(self.provider.clone())
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        self.provider.forget_script();
        if let Some(behaviour) = &self.confirm {
            // After a crash it is asked for again and must not have changed its mind.
            self.provider.script("confirm", vec![behaviour.clone(); 2]);
        }
        let order = format!("order-{run}");
        let mut tx = engine.begin().await.expect("the database is there");
        let input = Input { order: order.clone(), notify: true };
        let started = engine
            .start::<Order>(&mut tx, Start::new(order, input))
            .await
            .expect("it can be started");
        tx.commit().await.expect("the database is there");
        started.id
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        let Some(sent) = &self.signal else { return };
        if matches!(sent, Signal::Approved) {
            crate::world::eventually("the wait for approval", async || {
                let seen = crate::world::see(engine.pool(), id).await;
                seen.state.contains("AwaitingApproval") || seen.status != "running"
            })
            .await;
        }
        let mut tx = engine.pool().begin().await.expect("the database is there");
        engine.signal::<Order>(&mut tx, id, "the signal", sent.clone()).await.expect("it is there");
        tx.commit().await.expect("the database is there");
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let is_placed = status == Status::Completed;
        let (found, reserved, placed): (String, i32, i64) = sqlx::query_as(
            "-- name: test books
            select coalesce(o.status, 'never written'), s.reserved, (select count(*) from test.orders where status = 'placed')
            from test.stock s, saga.instance i left join test.orders o on o.id = i.subject where i.saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        let lines = self.provider.lines();
        let of = |op: &str| {
            lines.iter().filter(|l| l.op == op && l.reference.contains(&id.to_string())).count()
        };
        let live = self.provider.live().iter().filter(|r| r.contains(&id.to_string())).count();
        let is =
            (found == "placed", live, of("create") <= 1, of("confirm") <= 1, i64::from(reserved));
        let should = (is_placed, usize::from(is_placed), true, true, placed);
        if is == should && found != "placing" {
            return Ok(());
        }
        Err(format!("the order is {found}; {is:?} instead of {should:?}"))
    }
}

fn survives(confirm: Option<Behaviour>, signal: Option<Signal>, end: Status) {
    let trial = Orders { provider: Provider::in_memory(), confirm, signal };
    let survived = survives_every_crash(&trial);
    assert!(survived.at.values().sum::<usize>() >= 12, "{survived:?}");
    assert_eq!(survived.at.len(), 5, "every kind of site was hit: {survived:?}");
    assert_eq!(survived.ends, [end]);
}

#[test]
fn an_order_that_is_placed_survives_every_crash() {
    survives(None, None, Status::Completed);
}

#[test]
fn an_order_that_is_declined_survives_every_crash() {
    survives(Some(Behaviour::Declines), None, Status::Unwound);
}

#[test]
fn an_order_that_waits_for_its_approval_survives_every_crash() {
    survives(Some(Behaviour::Challenges), Some(Signal::Approved), Status::Completed);
}

fn unwinds(confirm: Option<Behaviour>, signal: Option<Signal>) -> Vec<String> {
    let trial = Orders { provider: Provider::in_memory(), confirm, signal };
    unwinds_from_every_step(&trial).points
}

#[test]
fn an_order_unwinds_from_every_step() {
    let points = unwinds(None, None);
    assert_eq!(points.len(), 13, "{points:#?}");
    assert_eq!(points.last().expect("13"), "cancelled before Place");
}

#[test]
fn an_order_that_waits_for_its_approval_unwinds_from_every_step() {
    let points = unwinds(Some(Behaviour::Challenges), Some(Signal::Approved));
    assert_eq!(points.len(), 13, "{points:#?}");
}
