//! `stepwise saga`: sagas on a terminal, or as JSON for other programs.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};
use stepwise_engine::inspect::{self, Details, Filter, Summary};
use uuid::Uuid;

use super::{Failure, bulk, database, operate, settings::Settings};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The newest sagas.
    #[command(after_help = "Example: stepwise saga list --kind place-order --waiting-on retry")]
    List {
        /// Only this saga, such as place-order
        #[arg(long)]
        kind: Option<String>,
        /// Only running, unwinding, paused, stuck, completed, unwound or abandoned ones
        #[arg(long)]
        status: Option<String>,
        /// Only those about this, such as an order's id
        #[arg(long)]
        subject: Option<String>,
        /// Only those that wait on worker, activity, retry, timer, signal or operator
        #[arg(long)]
        waiting_on: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// One saga with all that was committed of it.
    #[command(after_help = "Example: stepwise saga show 0197f3a0-0000-7000-8000-000000000000")]
    Show {
        /// Its id: the operation's.
        id: Uuid,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// One verb over many sagas: planned first, then done as planned.
    Bulk {
        #[command(subcommand)]
        command: bulk::Command,
    },
    #[command(flatten)]
    Operate(operate::Command),
}

pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    // A bulk is read beside its transaction.
    let db = database::connect(settings, 2).await?;
    match args.verb {
        Verb::List { kind, status, subject, waiting_on, limit, json } => {
            let (name, limit) = (kind, limit.into());
            let filter = Filter { name, status, subject, waiting_on, before: None, limit };
            list(&inspect::list(&db, &filter).await?, json);
        }
        Verb::Show { id, json } => {
            let details = inspect::details(&db, id).await?;
            let details = details.ok_or_else(|| {
                Failure::usage(format!("there is no saga {id}; see `stepwise saga list`"))
            })?;
            show(&details, json);
        }
        Verb::Bulk { command } => bulk::run(settings, db, command).await?,
        Verb::Operate(command) => operate::run(settings, db, command).await?,
    }
    Ok(())
}

fn list(sagas: &[Summary], json: bool) {
    if json {
        sagas.iter().for_each(|saga| println!("{}", as_json(saga)));
        return;
    }
    for saga in sagas {
        println!("{}", line(saga));
    }
    if sagas.is_empty() {
        println!("none");
    }
}

/// `id  kind  subject  status  waits on  since`
fn line(saga: &Summary) -> String {
    let waits = saga.waiting_on.as_deref().unwrap_or("-");
    let tries =
        if saga.attempt > 0 { format!(" ({} failed)", saga.attempt) } else { String::new() };
    format!(
        "{}  {:<12}  {}  {:<9}  {waits}{tries}  {}",
        saga.saga_id,
        saga.name,
        saga.subject,
        saga.status,
        saga.updated_at.format("%F %T")
    )
}

fn as_json(saga: &Summary) -> Value {
    json!({
        "id": saga.saga_id,
        "kind": saga.name,
        "version": saga.version,
        "subject": saga.subject,
        "status": saga.status,
        "waitingOn": saga.waiting_on(),
        "attempt": saga.attempt,
        "lastError": saga.last_error,
        "createdAt": saga.created_at,
        "updatedAt": saga.updated_at,
    })
}

fn show(details: &Details, json: bool) {
    let Details { summary, state, undos, journal, effects } = details;
    if json {
        let mut all = as_json(summary);
        all["state"] = state.clone();
        all["undos"] = undos.clone();
        all["journal"] = journal
            .iter()
            .map(|row| json!({"seq": row.seq, "kind": row.kind, "event": row.event, "step": row.next, "undo": row.undo, "at": row.at}))
            .collect();
        all["effects"] = effects
            .iter()
            .map(|row| json!({"step": row.step_no, "kind": row.kind, "reference": row.reference, "amount": row.amount, "currency": row.currency, "status": row.status, "at": row.at}))
            .collect();
        println!("{all}");
        return;
    }
    println!("{}", line(summary));
    if let Some(waiting) = summary.waiting_on() {
        println!("waits on   {waiting}");
    }
    if let Some(error) = &summary.last_error {
        println!("last error {error}");
    }
    println!("state      {state}");
    println!("undos      {undos}");
    println!("journal");
    for row in journal {
        let event = row.event.as_ref().map(Value::to_string).unwrap_or_default();
        let next = row.next.as_ref().map(|next| format!(" -> {next}")).unwrap_or_default();
        println!("  {:>3}  {}  {:<8} {event}{next}", row.seq, row.at.format("%T%.3f"), row.kind);
    }
    println!("effects");
    for row in effects {
        let amount = row.amount.as_deref().unwrap_or("-");
        let reference = row.reference.as_deref().unwrap_or("-");
        println!("  {:>3}  {:<10} {:<24} {amount} {reference}", row.step_no, row.status, row.kind);
    }
}
