//! `stepwise parked`: events of the payment gateway that need a person.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::{Transaction, database as sessions};
use stepwise_workflows::{
    gateway_events::retry,
    payment::parked::{self, ParkedEvent, ParkedRefusal, Said},
    sagas,
    shop::{Cause, Context},
};
use uuid::Uuid;

use super::{
    Failure, database,
    folder::Folder,
    keys,
    output::say,
    settings::Settings,
    shop::{self, GatewayAddress},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the events that wait for a person, oldest first.
    #[command(after_help = "Example: stepwise parked list --json")]
    List {
        /// Maximum number of events
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one event, also one that was ended in the last 90 days, as JSON.
    #[command(after_help = "Example: stepwise parked show evt_1PqXyz")]
    Show {
        /// The gateway's id of the event
        id: String,
    },
    /// Ask the gateway about the event's payment, and apply the answer as if the event had come now.
    #[command(
        after_help = "Example: stepwise parked retry evt_1PqXyz --reason 'the order was restored'"
    )]
    Retry(Order),
    /// End the event: a person has done what it needed.
    #[command(
        after_help = "Example: stepwise parked dismiss evt_1PqXyz --reason 'refunded by hand, ticket 17'"
    )]
    Dismiss(Order),
}

#[derive(Debug, Args)]
pub(super) struct Order {
    /// The gateway's id of the event
    id: String,
    /// The reason, which is kept with the event
    #[arg(long)]
    reason: String,
    /// The person who orders it
    #[arg(long, env = "USER")]
    by: String,
}

impl Order {
    fn said(&self) -> Result<Said, Failure> {
        Said::new(&self.by, &self.reason).map_err(|bad| Failure::usage(bad.to_string()))
    }
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<(), Failure> {
    let db = database::connect(settings, 2).await?;
    match verb {
        Verb::List { limit, json } => list(&parked::waiting(&db, None, limit.into()).await?, json),
        Verb::Show { id } => say!("{}", as_json(&parked::get(&db, &id).await.map_err(refused)?)),
        Verb::Retry(order) => retry(settings, db, &order).await?,
        Verb::Dismiss(order) => {
            let said = order.said()?;
            let mut tx = db.begin().await?;
            let ended = parked::dismiss(&mut tx, &order.id, &said).await.map_err(refused)?;
            tx.commit().await?;
            say!("{}", as_json(&ended));
        }
    }
    Ok(())
}

/// Asks the gateway, outside any transaction, and applies the answer. Exit code 1 if the event waits on.
async fn retry(settings: &Settings, db: PgPool, order: &Order) -> Result<(), Failure> {
    let said = order.said()?;
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let keys = keys::open(&folder, &db).await?;
    let shop = shop::open(settings, &folder, keys, &gateway, "")?.shop;
    let engine = sagas::engine(&shop, db.clone());
    let event = parked::get(&db, &order.id).await.map_err(refused)?;
    let truth = match event.question() {
        Some(reference) => {
            let asked = retry::ask_again(&*shop.gateway, reference).await;
            let asked = asked.map_err(|error| {
                Failure::dependency(format!(
                    "the payment gateway cannot be asked about the event: {error}"
                ))
            });
            Some(asked?)
        }
        None => None,
    };
    let mut tx = Transaction::from(sessions::begin(&db).await?);
    let mut ctx = Context::new(&shop, &engine, &mut tx, Cause::of_system(Uuid::now_v7()));
    let retried =
        retry::retry(&mut ctx, &order.id, truth.as_ref(), &said).await.map_err(refused)?;
    tx.commit().await?;
    say!("{}", as_json(&retried));
    match retried.ended_at {
        Some(_) => Ok(()),
        None => Err(Failure::failed("the event still needs a person", retried.why.as_str())),
    }
}

fn refused(refusal: ParkedRefusal) -> Failure {
    match refusal {
        ParkedRefusal::Database(error) => error.into(),
        ParkedRefusal::NotFound => {
            Failure::usage("there is no such parked event; see `stepwise parked list`")
        }
        refusal => Failure::failed("the event was not changed", refusal),
    }
}

fn list(events: &[ParkedEvent], json: bool) {
    for event in events {
        match json {
            true => say!("{}", as_json(event)),
            false => say!("{}", line(event)),
        }
    }
    if events.is_empty() && !json {
        say!("none");
    }
}

/// `id  reason  kind  order  reference  amount  since`
fn line(event: &ParkedEvent) -> String {
    let order = event.order_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let reference = event.reference.as_deref().unwrap_or("-");
    let amount = event.amount().map_or_else(|| "-".to_owned(), |amount| amount.to_string());
    let (why, since) = (event.why.as_str(), event.parked_at.format("%F %T"));
    format!("{}  {why}  {}  {order}  {reference}  {amount}  {since}", event.event_id, event.kind)
}

fn as_json(event: &ParkedEvent) -> Value {
    json!({
        "id": event.event_id,
        "status": if event.ended_at.is_some() { "ended" } else { "waiting" },
        "why": event.why.as_str(),
        "kind": event.kind,
        "reference": event.reference,
        "orderId": event.order_id,
        "amount": event.amount().map(|amount| amount.to_string()),
        "happenedAt": event.happened_at,
        "parkedAt": event.parked_at,
        "endedAt": event.ended_at,
        "verb": event.verb,
        "verbBy": event.verb_by,
        "verbReason": event.verb_reason,
        "verbAt": event.verb_at,
    })
}
