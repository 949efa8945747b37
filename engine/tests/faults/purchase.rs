//! `Purchase`: stock is reserved by a tx step, a payment created (moves nothing) and confirmed by two calls, a customer may have to
//! approve in time, placing is the pivot and publishes, a while later a receipt is sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use stepwise_engine::{
    Cause, Effect, Key, Next, Outcome, Probe, Saga, StepError, StepTx, Terms, Undoing, Undone,
    Unexpected, amount, outbox, signals, stay, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::outside::{Outside, Reply, Request, patient};

/// How long a customer may take to approve.
const APPROVAL: Duration = Duration::from_millis(800);
/// The receipt is sent so much later.
const LATER: Duration = Duration::from_millis(100);

pub(crate) struct Purchase;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Input {
    pub(crate) purchase: String,
    /// 0 to 7; the last one is scarce.
    pub(crate) item: i32,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct State {
    place: Place,
    purchase: String,
    noted: u32,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
enum Place {
    Reserving,
    Creating,
    Confirming,
    AwaitingApproval,
    Placing,
    Placed,
    Sending,
    Done,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Reserved,
    OutOfStock,
    Created { reference: String },
    Confirmed,
    Declined,
    ApprovalRequired,
    Approved,
    Expired,
    Cancel,
    Note,
    Placed,
    Due,
    Sent,
}

signals! {
    pub(crate) enum Signal as Event { Approved => keep, Cancel => refuse, Note => refuse }
}

steps! {
    pub(crate) enum Step done by Purchases -> Event, undone for String {
        Reserve { purchase: String, item: i32 } => tx(reserve).undo_tx(release),
        // Cancelling the reference kills what is confirmed late, too.
        Create => call(create, paying("payment")).probe(find_created).undo_call(cancel_created, long()),
        Confirm { reference: String } => call(confirm, reserving()).probe(find_confirmed).undo_call(cancel, long()),
        Place(purchase: String) => tx(place).pivot(),
        Send => call(send, long()).repeatable().no_undo(),
    }
}

fn long() -> Terms {
    Terms { timeout: Duration::from_secs(60), retry: patient(), ..Terms::new() }
}

fn paying(kind: &'static str) -> Terms {
    Terms { effect: Terms::effect(kind).effect, ..long() }
}

fn reserving() -> Terms {
    paying("authorization").amount(amount!(49.99 USD))
}

use Event as E;
use Place as P;

impl State {
    fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

impl Saga for Purchase {
    const NAME: &'static str = "purchase";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(Input { purchase, item }: Input) -> Next<Self> {
        let state = State { place: P::Reserving, purchase: purchase.clone(), noted: 0 };
        to(state).run(Step::Reserve { purchase, item })
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state.place, event) {
            (P::Reserving, E::Reserved) => to(state.at(P::Creating)).run(Step::Create),
            (P::Reserving, E::OutOfStock) => unwind("out of stock".to_owned()),
            (P::Creating, E::Created { reference }) => {
                to(state.at(P::Confirming)).run(Step::Confirm { reference })
            }
            (P::Confirming, E::ApprovalRequired) => {
                to(state.at(P::AwaitingApproval)).or_after(APPROVAL, E::Expired)
            }
            (P::Confirming, E::Confirmed) | (P::AwaitingApproval, E::Approved) => {
                let purchase = state.purchase.clone();
                to(state.at(P::Placing)).run(Step::Place(purchase))
            }
            (P::AwaitingApproval, E::Expired) => unwind("expired".to_owned()),
            (P::Creating | P::Confirming, E::Declined) => unwind("declined".to_owned()),
            (P::Reserving | P::Creating | P::Confirming | P::AwaitingApproval, E::Cancel) => {
                unwind("cancelled".to_owned())
            }
            (_, E::Note) => stay(State { noted: state.noted + 1, ..state }),
            (P::Placing, E::Placed) => to(state.at(P::Placed)).sleep(LATER, E::Due),
            (P::Placed, E::Due) => to(state.at(P::Sending)).run(Step::Send),
            (P::Sending, E::Sent) => to(state.at(P::Done)).done(),
            (_, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Purchase {
    fn inputs() -> Vec<Input> {
        vec![Input { purchase: "purchase".to_owned(), item: 0 }]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Reserve { .. } => {
                vec![Sample::done(E::Reserved), Sample::refused(E::OutOfStock)]
            }
            Step::Place(_) => vec![Sample::done(E::Placed)],
            Step::Create => {
                let reference = "reference".to_owned();
                vec![Sample::done(E::Created { reference }), Sample::refused(E::Declined)]
            }
            Step::Confirm { .. } => {
                vec![
                    Sample::done(E::Confirmed),
                    Sample::done(E::ApprovalRequired),
                    Sample::refused(E::Declined),
                ]
            }
            Step::Send => vec![Sample::done(E::Sent)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Approved, Signal::Cancel, Signal::Note]
    }

    /// All counts are alike.
    fn position(state: &State) -> String {
        format!("{:?}", state.place)
    }
}

pub(crate) struct PurchaseSteps(pub(crate) Outside);

type Done = fn(&str) -> Event;

fn created(reference: &str) -> Event {
    E::Created { reference: reference.to_owned() }
}

impl PurchaseSteps {
    async fn ask(
        &self,
        op: &str,
        key: &Key,
        reference: Option<&String>,
        done: Done,
    ) -> Outcome<Event> {
        let (op, key, reference) = (op.to_owned(), key.to_string(), reference.cloned());
        match self.0.ask(Request::Do { op, key, reference }).await {
            Ok(Reply::Done(reference)) => Outcome::confirmed(done(&reference), reference),
            Ok(Reply::Challenged(reference)) => Outcome::confirmed(E::ApprovalRequired, reference),
            Ok(Reply::Declined) => Outcome::refuted(E::Declined),
            Ok(Reply::NotDone | Reply::Nothing | Reply::Ill(_)) => {
                Outcome::NotDone(Cause::new("refused"))
            }
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn find(&self, key: &Key, done: Done) -> Probe<Event> {
        match self.0.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference)) => Probe::confirmed(done(&reference), reference),
            Ok(Reply::Challenged(reference)) => Probe::confirmed(E::ApprovalRequired, reference),
            Ok(Reply::Declined) => Probe::Answered { event: E::Declined, effect: Effect::Refuted },
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(Reply::NotDone | Reply::Ill(_)) => Probe::Unknown(Cause::new("refused")),
            Err(cause) => Probe::Unknown(cause),
        }
    }
}

impl Purchases for PurchaseSteps {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        sqlx::query(
            "-- name: test lock purchase\nselect from test.purchase where subject = $1 for update",
        )
        .bind(subject)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn reserve(
        &self,
        tx: &mut StepTx<'_>,
        purchase: &String,
        item: &i32,
    ) -> Result<Event, StepError> {
        let reserved = sqlx::query(
            "-- name: test reserve
            with taken as (
                update test.stock set reserved = reserved + 1 where item = $2 and reserved < on_hand returning 1
            )
            insert into test.purchase (subject, item, status) select $1, $2, 'open' from taken",
        )
        .bind(purchase)
        .bind(item)
        .execute(&mut **tx)
        .await?;
        Ok(if reserved.rows_affected() == 1 { E::Reserved } else { E::OutOfStock })
    }

    async fn release(
        &self,
        tx: &mut StepTx<'_>,
        purchase: &String,
        _: &i32,
        undoing: &Undoing<String>,
    ) -> Result<(), StepError> {
        sqlx::query(
            "-- name: test release
            with released as (update test.purchase set status = $2 where subject = $1 and status = 'open' returning item)
            update test.stock s set reserved = reserved - 1 from released r where r.item = s.item",
        )
        .bind(purchase)
        .bind(&undoing.reason)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn create(&self, key: &Key) -> Outcome<Event> {
        self.ask("create", key, None, created).await
    }

    async fn find_created(&self, key: &Key) -> Probe<Event> {
        self.find(key, created).await
    }

    async fn cancel_created(&self, undoing: &Undoing<String>) -> Undone {
        match self.0.ask(Request::Undo { key: undoing.step_key.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }

    async fn confirm(&self, key: &Key, reference: &String) -> Outcome<Event> {
        self.ask("confirm", key, Some(reference), |_| E::Confirmed).await
    }

    async fn find_confirmed(&self, key: &Key, _: &String) -> Probe<Event> {
        self.find(key, |_| E::Confirmed).await
    }

    async fn cancel(&self, _: &String, undoing: &Undoing<String>) -> Undone {
        self.cancel_created(undoing).await
    }

    async fn place(&self, tx: &mut StepTx<'_>, purchase: &String) -> Result<Event, StepError> {
        let placed = sqlx::query(
            "-- name: test place
            with placed as (
                update test.purchase set status = 'placed' where subject = $1 and status = 'open' returning item
            )
            update test.stock s set reserved = reserved - 1, on_hand = on_hand - 1 from placed p where p.item = s.item",
        )
        .bind(purchase)
        .execute(&mut **tx)
        .await?;
        if placed.rows_affected() != 1 {
            return Err(StepError::Broken(format!("{purchase} cannot be placed")));
        }
        let message =
            outbox::Message::new("test.placed.v1", "/test", purchase.as_str(), 1, json!({}));
        outbox::publish(tx, &message).await?;
        Ok(E::Placed)
    }

    async fn send(&self, key: &Key) -> Outcome<Event> {
        self.ask("send", key, None, |_| E::Sent).await
    }
}
