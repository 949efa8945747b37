//! `Purchase`: stock is reserved by a tx step, a payment created (moves nothing) and confirmed by two activities, a customer may have to
//! approve in time, placing is the pivot and publishes, a while later a receipt is sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, Early, Effect, EffectKind, EffectRow, Next, Outcome, Probe,
    Saga, Step, StepError, Steps, Terms, Undo, Undone, Unexpected, WhenUnknown, outbox, stay,
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Reserve { purchase: String, item: i32 },
    Release(String),
    Place(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Create,
    Confirm { reference: String },
    Cancel,
    Send,
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
    const VERSION: u16 = 1;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = String;

    fn start(Input { purchase, item }: Input) -> Next<Self> {
        let state = State { place: P::Reserving, purchase: purchase.clone(), noted: 0 };
        to(state).run(Tx::Reserve { purchase, item })
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state.place, event) {
            (P::Reserving, E::Reserved) => to(state.at(P::Creating)).call(Activity::Create),
            (P::Reserving, E::OutOfStock) => unwind("out of stock".to_owned()),
            (P::Creating, E::Created { reference }) => {
                to(state.at(P::Confirming)).call(Activity::Confirm { reference })
            }
            (P::Confirming, E::ApprovalRequired) => {
                to(state.at(P::AwaitingApproval)).or_after(APPROVAL, E::Expired)
            }
            (P::Confirming, E::Confirmed) | (P::AwaitingApproval, E::Approved) => {
                let purchase = state.purchase.clone();
                to(state.at(P::Placing)).run(Tx::Place(purchase))
            }
            (P::AwaitingApproval, E::Expired) => unwind("expired".to_owned()),
            (P::Creating | P::Confirming, E::Declined) => unwind("declined".to_owned()),
            (P::Reserving | P::Creating | P::Confirming | P::AwaitingApproval, E::Cancel) => {
                unwind("cancelled".to_owned())
            }
            (_, E::Note) => stay(State { noted: state.noted + 1, ..state }),
            (P::Placing, E::Placed) => to(state.at(P::Placed)).sleep(LATER, E::Due),
            (P::Placed, E::Due) => to(state.at(P::Sending)).call(Activity::Send),
            (P::Sending, E::Sent) => to(state.at(P::Done)).done(),
            (_, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Reserve { purchase, .. }) => {
                Undo::By(Step::Tx(Tx::Release(purchase.clone())))
            }
            // Cancelling the reference kills what is confirmed late, too.
            Step::Activity(Activity::Create | Activity::Confirm { .. }) => {
                Undo::By(Step::Activity(Activity::Cancel))
            }
            Step::Tx(Tx::Place(_)) => Undo::Pivot,
            Step::Tx(Tx::Release(_)) | Step::Activity(Activity::Cancel | Activity::Send) => {
                Undo::Nothing
            }
        }
    }

    fn terms(activity: &Activity) -> Terms {
        Terms {
            effect: match activity {
                Activity::Create => Some(EffectKind { kind: "payment", amount: None }),
                Activity::Confirm { .. } => Some(EffectKind {
                    kind: "authorization",
                    amount: Some(("49.99".into(), "USD".into())),
                }),
                Activity::Cancel | Activity::Send => None,
            },
            timeout: Duration::from_secs(60),
            retry: patient(),
            unknown: match activity {
                Activity::Send => WhenUnknown::Repeat,
                _ => WhenUnknown::Ask { settles_after: Duration::ZERO },
            },
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Activity>) -> String {
        "called off".to_owned()
    }

    fn early(signal: &Event) -> Early {
        if matches!(signal, E::Approved) { Early::Keep } else { Early::Refuse }
    }
}

impl Samples for Purchase {
    fn inputs() -> Vec<Input> {
        vec![Input { purchase: "purchase".to_owned(), item: 0 }]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Tx(Tx::Reserve { .. }) => {
                vec![Sample::done(E::Reserved), Sample::refused(E::OutOfStock)]
            }
            Step::Tx(Tx::Place(_)) => vec![Sample::done(E::Placed)],
            Step::Activity(Activity::Create) => {
                let reference = "reference".to_owned();
                vec![Sample::done(E::Created { reference }), Sample::refused(E::Declined)]
            }
            Step::Activity(Activity::Confirm { .. }) => {
                vec![
                    Sample::done(E::Confirmed),
                    Sample::done(E::ApprovalRequired),
                    Sample::refused(E::Declined),
                ]
            }
            Step::Activity(Activity::Send) => vec![Sample::done(E::Sent)],
            Step::Tx(Tx::Release(_)) | Step::Activity(Activity::Cancel) => Vec::new(),
        }
    }

    fn signals() -> Vec<Event> {
        vec![E::Approved, E::Cancel, E::Note]
    }

    /// All counts are alike.
    fn position(state: &State) -> String {
        format!("{:?}", state.place)
    }
}

pub(crate) struct PurchaseSteps(pub(crate) Outside);

impl Steps<Purchase> for PurchaseSteps {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        sqlx::query(
            "-- name: test lock purchase\nselect from test.purchase where subject = $1 for update",
        )
        .bind(subject)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        match step {
            Tx::Reserve { purchase, item } => {
                let reserved = sqlx::query(
                    "-- name: test reserve
                    with taken as (
                        update test.stock set reserved = reserved + 1 where item = $2 and reserved < on_hand returning 1
                    )
                    insert into test.purchase (subject, item, status) select $1, $2, 'open' from taken",
                )
                .bind(purchase)
                .bind(item)
                .execute(tx)
                .await?;
                Ok(if reserved.rows_affected() == 1 { E::Reserved } else { E::OutOfStock })
            }
            Tx::Place(purchase) => {
                let placed = sqlx::query(
                    "-- name: test place
                    with placed as (
                        update test.purchase set status = 'placed' where subject = $1 and status = 'open' returning item
                    )
                    update test.stock s set reserved = reserved - 1, on_hand = on_hand - 1 from placed p where p.item = s.item",
                )
                .bind(purchase)
                .execute(&mut *tx)
                .await?;
                if placed.rows_affected() != 1 {
                    return Err(StepError::Broken(format!("{purchase} cannot be placed")));
                }
                let message = outbox::Message::new(
                    "test.placed.v1",
                    "/test",
                    purchase.as_str(),
                    1,
                    json!({}),
                );
                outbox::publish(tx, &message).await?;
                Ok(E::Placed)
            }
            Tx::Release(_) => unreachable!("an undo"),
        }
    }

    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        step: &Tx,
        reason: &String,
    ) -> Result<(), StepError> {
        let Tx::Release(purchase) = step else { unreachable!("no undo") };
        sqlx::query(
            "-- name: test release
            with released as (update test.purchase set status = $2 where subject = $1 and status = 'open' returning item)
            update test.stock s set reserved = reserved - 1 from released r where r.item = s.item",
        )
        .bind(purchase)
        .bind(reason)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let (op, reference) = match activity {
            Activity::Create => ("create", None),
            Activity::Confirm { reference } => ("confirm", Some(reference.clone())),
            Activity::Send => ("send", None),
            Activity::Cancel => unreachable!("an undo"),
        };
        match self.0.ask(Request::Do { op: op.to_owned(), key: key.to_string(), reference }).await {
            Ok(Reply::Done(reference)) => Outcome::confirmed(done(activity, &reference), reference),
            Ok(Reply::Challenged(reference)) => Outcome::confirmed(E::ApprovalRequired, reference),
            Ok(Reply::Declined) => Outcome::refuted(E::Declined),
            Ok(Reply::NotDone | Reply::Nothing | Reply::Ill(_)) => {
                Outcome::NotDone(Cause::new("refused"))
            }
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn probe(&self, key: &ActivityKey, activity: &Activity) -> Probe<Event> {
        match self.0.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference)) => Probe::Answered {
                event: done(activity, &reference),
                effect: Effect::Confirmed(reference),
            },
            Ok(Reply::Challenged(reference)) => {
                Probe::Answered { event: E::ApprovalRequired, effect: Effect::Confirmed(reference) }
            }
            Ok(Reply::Declined) => Probe::Answered { event: E::Declined, effect: Effect::Refuted },
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(Reply::NotDone | Reply::Ill(_)) => Probe::Unknown(Cause::new("refused")),
            Err(cause) => Probe::Unknown(cause),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        let step = ActivityKey { undo: false, ..*key };
        match self.0.ask(Request::Undo { key: step.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }
}

fn done(activity: &Activity, reference: &str) -> Event {
    match activity {
        Activity::Create => E::Created { reference: reference.to_owned() },
        Activity::Confirm { .. } => E::Confirmed,
        Activity::Send => E::Sent,
        Activity::Cancel => unreachable!("an undo"),
    }
}
