//! `Order`: an order as sagas see it. Stock is reserved by a tx step, the payment is created (moves nothing) and confirmed by two
//! activities, a customer may have to approve, placing is the pivot, a notice goes out after it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Early, Effect, EffectKind, EffectRow, Next, Outcome, Probe, Saga, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected, WhenUnknown, stay, to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

pub(crate) const ORDER_TABLES: &str = "-- name: test tables
create schema test;
create table test.orders (id text primary key, status text not null);
create table test.stock (only_row boolean primary key default true, on_hand integer not null, reserved integer not null,
    constraint reserved_is_on_hand check (reserved between 0 and on_hand));
insert into test.stock (on_hand, reserved) values (100000, 0);";

/// How long a customer may take to approve.
pub(crate) const APPROVAL: Duration = Duration::from_secs(30 * 60);

pub(crate) struct Order;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Input {
    pub(crate) order: String,
    /// Ask the provider for its notice after the order is placed.
    pub(crate) notify: bool,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Reserving(Facts),
    Creating(Facts),
    Confirming(Facts),
    AwaitingApproval(Facts),
    Placing(Facts),
    Notifying(Facts),
    Placed,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) order: String,
    pub(crate) notify: bool,
    pub(crate) noted: u32,
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
    ApprovalExpired,
    CancelRequested,
    Noted,
    Placed,
    Notified,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Reserve(String),
    Release(String),
    Place(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Create,
    Confirm { reference: String },
    Cancel,
    Notify,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Reason {
    OutOfStock,
    Declined,
    Expired,
    Cancelled,
    GaveUp,
}

use Event as E;
use State as S;

impl Saga for Order {
    const NAME: &'static str = "order";
    const VERSION: u16 = 1;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = Reason;

    fn start(Input { order, notify }: Input) -> Next<Self> {
        to(S::Reserving(Facts { order: order.clone(), notify, noted: 0 })).run(Tx::Reserve(order))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Reserving(facts), E::Reserved) => to(S::Creating(facts)).call(Activity::Create),
            (S::Reserving(_), E::OutOfStock) => unwind(Reason::OutOfStock),
            (S::Creating(facts), E::Created { reference }) => {
                to(S::Confirming(facts)).call(Activity::Confirm { reference })
            }
            (S::Confirming(facts), E::ApprovalRequired) => {
                to(S::AwaitingApproval(facts)).or_after(APPROVAL, E::ApprovalExpired)
            }
            (S::Confirming(facts), E::Confirmed) | (S::AwaitingApproval(facts), E::Approved) => {
                let order = facts.order.clone();
                to(S::Placing(facts)).run(Tx::Place(order))
            }
            (S::AwaitingApproval(_), E::ApprovalExpired) => unwind(Reason::Expired),
            (S::Creating(_) | S::Confirming(_), E::Declined) => unwind(Reason::Declined),
            (
                S::Reserving(_) | S::Creating(_) | S::Confirming(_) | S::AwaitingApproval(_),
                E::CancelRequested,
            ) => unwind(Reason::Cancelled),
            (S::Confirming(facts), E::Noted) => stay(S::Confirming(facts.noted())),
            (S::AwaitingApproval(facts), E::Noted) => stay(S::AwaitingApproval(facts.noted())),
            (S::Placing(facts), E::Placed) if facts.notify => {
                to(S::Notifying(facts)).call(Activity::Notify)
            }
            (S::Placing(_), E::Placed) => to(S::Placed).done(),
            (S::Notifying(_), E::Notified) => to(S::Placed).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Reserve(order)) => Undo::By(Step::Tx(Tx::Release(order.clone()))),
            // Cancelling the reference takes back what was confirmed under it, and kills what is confirmed late.
            Step::Activity(Activity::Create | Activity::Confirm { .. }) => {
                Undo::By(Step::Activity(Activity::Cancel))
            }
            Step::Tx(Tx::Place(_)) => Undo::Pivot,
            Step::Tx(Tx::Release(_)) | Step::Activity(Activity::Cancel | Activity::Notify) => {
                Undo::Nothing
            }
        }
    }

    fn terms(activity: &Activity) -> Terms {
        let money = |kind| EffectKind { kind, amount: Some(("49.99".into(), "USD".into())) };
        Terms {
            effect: match activity {
                Activity::Create => Some(money("payment")),
                Activity::Confirm { .. } => Some(money("authorization")),
                Activity::Cancel | Activity::Notify => None,
            },
            timeout: Duration::from_secs(60),
            retry: quick(),
            within: crate::deadlines::HOUR,
            enough: Some(5),
            unknown: WhenUnknown::Ask { settles_after: Duration::ZERO },
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Activity>) -> Reason {
        Reason::GaveUp
    }

    fn early(signal: &Event) -> Early {
        match signal {
            E::Approved => Early::Keep,
            _ => Early::Refuse,
        }
    }
}

impl Facts {
    fn noted(self) -> Self {
        Self { noted: self.noted + 1, ..self }
    }
}

pub(crate) struct OrderSteps(pub(crate) Arc<Provider>);

impl Steps<Order> for OrderSteps {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        sqlx::query("-- name: test lock order\nselect from test.orders where id = $1 for update")
            .bind(subject)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        match step {
            Tx::Reserve(order) => {
                let reserved = sqlx::query(
                    "-- name: test reserve
                    with taken as (
                        update test.stock set reserved = reserved + 1 where reserved < on_hand returning 1
                    )
                    insert into test.orders (id, status) select $1, 'placing' from taken",
                )
                .bind(order)
                .execute(tx)
                .await?;
                Ok(if reserved.rows_affected() == 1 { E::Reserved } else { E::OutOfStock })
            }
            Tx::Place(order) => {
                self.0.in_tx("place", tx).await?;
                let placed = sqlx::query(
                    "-- name: test place
                    update test.orders set status = 'placed' where id = $1 and status = 'placing'",
                )
                .bind(order)
                .execute(tx)
                .await?;
                if placed.rows_affected() == 1 {
                    Ok(E::Placed)
                } else {
                    Err(StepError::Broken(format!("order {order} cannot be placed")))
                }
            }
            Tx::Release(_) => unreachable!("an undo"),
        }
    }

    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        step: &Tx,
        reason: &Reason,
    ) -> Result<(), StepError> {
        let Tx::Release(order) = step else { unreachable!("no undo") };
        self.0.in_tx("release", tx).await?;
        sqlx::query(
            "-- name: test release
            with ended as (update test.orders set status = $2 where id = $1 returning 1)
            update test.stock set reserved = reserved - 1 where exists (select from ended)",
        )
        .bind(order)
        .bind(format!("{reason:?}").to_lowercase())
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let (op, reference) = match activity {
            Activity::Create => ("create", None),
            Activity::Confirm { reference } => ("confirm", Some(reference.as_str())),
            Activity::Notify => ("notify", None),
            Activity::Cancel => unreachable!("an undo"),
        };
        match self.0.ask(op, &key.to_string(), reference, "").await {
            Answer::Done(reference) => Outcome::confirmed(done(activity, &reference), reference),
            Answer::Declined => Outcome::refuted(E::Declined),
            Answer::Challenged(reference) => Outcome::confirmed(E::ApprovalRequired, reference),
            Answer::Babble | Answer::Poison | Answer::Boom => Outcome::event(E::Reserved),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            Answer::Silence => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn probe(&self, key: &ActivityKey, activity: &Activity) -> Probe<Event> {
        let op = match activity {
            Activity::Create => "create",
            Activity::Confirm { .. } => "confirm",
            Activity::Notify => "notify",
            Activity::Cancel => unreachable!("an undo"),
        };
        match self.0.ask(&format!("probe-{op}"), &key.to_string(), None, "").await {
            Answer::Silence | Answer::NotDone => Probe::Unknown(cause("no answer")),
            _ => match self.0.find(op, &key.to_string()) {
                Some(reference) => Probe::Answered {
                    event: done(activity, &reference),
                    effect: Effect::Confirmed(reference),
                },
                None => Probe::NotHappened,
            },
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        effect: Option<&EffectRow>,
        reason: &Reason,
    ) -> Undone {
        // The reference is made of the key, so that it can be cancelled even if its creation was never heard of.
        let reference = effect
            .and_then(|effect| effect.reference.clone())
            .unwrap_or_else(|| format!("ref-{}-{}", key.saga_id, key.step_no));
        let note = format!("{reason:?}");
        match self.0.ask("cancel", &key.to_string(), Some(&reference), &note).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("captured already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}

fn done(activity: &Activity, reference: &str) -> Event {
    match activity {
        Activity::Create => E::Created { reference: reference.to_owned() },
        Activity::Confirm { .. } => E::Confirmed,
        Activity::Notify => E::Notified,
        Activity::Cancel => unreachable!("an undo"),
    }
}

impl Provider {
    /// References that were confirmed and not cancelled: money is held.
    pub(crate) fn live(&self) -> Vec<String> {
        let lines = self.lines();
        let cancelled = |reference: &str| {
            lines.iter().any(|line| line.op == "cancel" && line.reference == reference)
        };
        lines
            .iter()
            .filter(|line| line.op == "confirm" && !cancelled(&line.reference))
            .map(|line| line.reference.clone())
            .collect()
    }
}
