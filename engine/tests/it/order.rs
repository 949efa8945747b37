//! `Order`: an order as sagas see it. Stock is reserved by a tx step, the payment is created (moves nothing) and confirmed by two
//! calls, a customer may have to approve, placing is the pivot, a notice goes out after it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    CalledOff, Key, Next, Outcome, Probe, Saga, StepError, StepTx, Terms, Undoing, Undone,
    Unexpected, amount, signals, stay, steps, to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

pub(crate) const ORDER_TABLES: &str = "-- name: test tables
create schema test;
create table test.orders (id text primary key, status text not null);
create table test.stock (only_row boolean primary key default true, on_hand integer not null, reserved integer not null,
    constraint reserved_is_on_hand check (reserved between 0 and on_hand));
insert into test.stock (on_hand, reserved) values (100000, 0);
create function test.refuse() returns trigger language plpgsql as $$ begin raise exception 'refused by the test'; end $$;
create trigger poison before insert on saga.effect for each row when (new.kind = 'poison') execute function test.refuse();";

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

steps! {
    pub(crate) enum Step done by Ordering -> Event, undone for Reason {
        Reserve(order: String) => tx(reserve).undo_tx(release),
        Create => call(create, paying("payment")).probe(find_created).undo_call(cancel_created, undoing()),
        // Cancelling the reference takes back what was confirmed under it, and kills what is confirmed late.
        Confirm { reference: String } => call(confirm, paying("authorization")).probe(find_confirmed).undo_call(cancel, undoing()),
        Place(order: String) => tx(place).pivot(),
        Notify => call(notify, undoing()).probe(find_notice).no_undo(),
    }
}

signals! {
    pub(crate) enum Signal as Event { Approved => keep, CancelRequested => refuse, Noted => refuse }
}

fn undoing() -> Terms {
    Terms {
        timeout: Duration::from_secs(60),
        retry: quick(),
        within: crate::deadlines::HOUR,
        enough: Some(5),
        ..Terms::new()
    }
}

fn paying(kind: &'static str) -> Terms {
    Terms { effect: Terms::effect(kind).amount(amount!(49.99 USD)).effect, ..undoing() }
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
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(Input { order, notify }: Input) -> Next<Self> {
        to(S::Reserving(Facts { order: order.clone(), notify, noted: 0 })).run(Step::Reserve(order))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Reserving(facts), E::Reserved) => to(S::Creating(facts)).run(Step::Create),
            (S::Reserving(_), E::OutOfStock) => unwind(Reason::OutOfStock),
            (S::Creating(facts), E::Created { reference }) => {
                to(S::Confirming(facts)).run(Step::Confirm { reference })
            }
            (S::Confirming(facts), E::ApprovalRequired) => {
                to(S::AwaitingApproval(facts)).or_after(APPROVAL, E::ApprovalExpired)
            }
            (S::Confirming(facts), E::Confirmed) | (S::AwaitingApproval(facts), E::Approved) => {
                let order = facts.order.clone();
                to(S::Placing(facts)).run(Step::Place(order))
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
                to(S::Notifying(facts)).run(Step::Notify)
            }
            (S::Placing(_), E::Placed) => to(S::Placed).done(),
            (S::Notifying(_), E::Notified) => to(S::Placed).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::GaveUp
    }
}

impl Facts {
    fn noted(self) -> Self {
        Self { noted: self.noted + 1, ..self }
    }
}

pub(crate) struct OrderSteps(pub(crate) Arc<Provider>);

impl OrderSteps {
    async fn ask(
        &self,
        op: &str,
        key: &Key,
        reference: Option<&str>,
        done: Done,
    ) -> Outcome<Event> {
        match self.0.ask(op, &key.to_string(), reference, "").await {
            Answer::Done(reference) => Outcome::confirmed(done(&reference), reference),
            Answer::Declined => Outcome::refuted(E::Declined),
            Answer::Challenged(reference) => Outcome::confirmed(E::ApprovalRequired, reference),
            Answer::Babble | Answer::Poison | Answer::Boom => Outcome::event(E::Reserved),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            Answer::Silence => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn look(&self, op: &str, key: &Key, done: Done) -> Probe<Event> {
        match self.0.ask(&format!("probe-{op}"), &key.to_string(), None, "").await {
            Answer::Silence | Answer::NotDone => Probe::Unknown(cause("no answer")),
            _ => match self.0.find(op, &key.to_string()) {
                Some(reference) => Probe::confirmed(done(&reference), reference),
                None => Probe::NotHappened,
            },
        }
    }
}

type Done = fn(&str) -> Event;

fn created(reference: &str) -> Event {
    E::Created { reference: reference.to_owned() }
}

impl Ordering for OrderSteps {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        sqlx::query("-- name: test lock order\nselect from test.orders where id = $1 for update")
            .bind(subject)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn reserve(&self, tx: &mut StepTx<'_>, order: &String) -> Result<Event, StepError> {
        let reserved = sqlx::query(
            "-- name: test reserve
            with taken as (
                update test.stock set reserved = reserved + 1 where reserved < on_hand returning 1
            )
            insert into test.orders (id, status) select $1, 'placing' from taken",
        )
        .bind(order)
        .execute(&mut **tx)
        .await?;
        Ok(if reserved.rows_affected() == 1 { E::Reserved } else { E::OutOfStock })
    }

    async fn release(
        &self,
        tx: &mut StepTx<'_>,
        order: &String,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        self.0.in_tx("release", tx).await?;
        sqlx::query(
            "-- name: test release
            with ended as (update test.orders set status = $2 where id = $1 returning 1)
            update test.stock set reserved = reserved - 1 where exists (select from ended)",
        )
        .bind(order)
        .bind(format!("{:?}", undoing.reason).to_lowercase())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn create(&self, key: &Key) -> Outcome<Event> {
        self.ask("create", key, None, created).await
    }

    async fn find_created(&self, key: &Key) -> Probe<Event> {
        self.look("create", key, created).await
    }

    async fn cancel_created(&self, undoing: &Undoing<Reason>) -> Undone {
        // The reference is made of the key, so that it can be cancelled even if its creation was never heard of.
        let made_of_key = || format!("ref-{}", undoing.step_key);
        let reference = undoing.reference.clone().unwrap_or_else(made_of_key);
        let note = format!("{:?}", undoing.reason);
        match self.0.ask("cancel", &undoing.key.to_string(), Some(&reference), &note).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("captured already")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }

    async fn confirm(&self, key: &Key, reference: &String) -> Outcome<Event> {
        self.ask("confirm", key, Some(reference), |_| E::Confirmed).await
    }

    async fn find_confirmed(&self, key: &Key, _: &String) -> Probe<Event> {
        self.look("confirm", key, |_| E::Confirmed).await
    }

    async fn cancel(&self, _: &String, undoing: &Undoing<Reason>) -> Undone {
        self.cancel_created(undoing).await
    }

    async fn place(&self, tx: &mut StepTx<'_>, order: &String) -> Result<Event, StepError> {
        self.0.in_tx("place", tx).await?;
        let placed = sqlx::query(
            "-- name: test place
            update test.orders set status = 'placed' where id = $1 and status = 'placing'",
        )
        .bind(order)
        .execute(&mut **tx)
        .await?;
        if placed.rows_affected() == 1 {
            Ok(E::Placed)
        } else {
            Err(StepError::Broken(format!("order {order} cannot be placed")))
        }
    }

    async fn notify(&self, key: &Key) -> Outcome<Event> {
        self.ask("notify", key, None, |_| E::Notified).await
    }

    async fn find_notice(&self, key: &Key) -> Probe<Event> {
        self.look("notify", key, |_| E::Notified).await
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
