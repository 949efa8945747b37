//! `stepwise saga`: shows sagas on a terminal, or as JSON for other programs.

use clap::Subcommand;
use serde_json::{Value, json};
use stepwise_engine::{
    Priority, WaitingOn,
    inspect::{self, Details, Filter, Summary},
};
use uuid::Uuid;

use super::{Failure, bulk, database, operate, output::say, selection::Which, settings::Settings};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the newest sagas.
    #[command(after_help = "Example: stepwise saga list --kind place-order --waiting-on retry")]
    List {
        #[command(flatten)]
        which: Which,
        /// Maximum number of sagas
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one saga with its journal, undos and effects.
    #[command(after_help = "Example: stepwise saga show 0197f3a0-0000-7000-8000-000000000000")]
    Show {
        /// The saga's id, which is also the operation's id
        id: Uuid,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Apply one verb to many sagas: plan it first, then apply the plan.
    Bulk {
        #[command(subcommand)]
        command: bulk::Command,
    },
    #[command(flatten)]
    Operate(operate::Command),
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<(), Failure> {
    // The bulk commands read with a second connection beside their transaction.
    let db = database::connect(settings, 2).await?;
    match verb {
        Verb::List { which, limit, json } => {
            let limit = i64::from(limit);
            let filter = which.into_filter(limit).unwrap_or(Filter { limit, ..Filter::default() });
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
        sagas.iter().for_each(|saga| say!("{}", as_json(saga)));
        return;
    }
    for saga in sagas {
        say!("{}", line(saga));
    }
    if sagas.is_empty() {
        say!("none");
    }
}

/// `id  kind  subject  status  waits on  since`
fn line(saga: &Summary) -> String {
    let waits = saga.waiting_on.map_or("-", WaitingOn::as_str);
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
        "priority": saga.priority.as_str(),
        "tags": saga.tags,
        "parent": saga.parent,
        "deadlineAt": saga.deadline_at,
        "queueKey": saga.queue_key,
        "queued": saga.queued,
        "createdAt": saga.created_at,
        "updatedAt": saga.updated_at,
    })
}

fn show(details: &Details, json: bool) {
    let Details { summary, state, undos, journal, effects, children, open_children } = details;
    if json {
        let mut all = as_json(summary);
        all["children"] = json!(children);
        all["openChildren"] = json!(open_children);
        all["state"] = state.clone();
        all["undos"] = undos.clone();
        all["journal"] = journal
            .iter()
            .map(|row| json!({"seq": row.seq, "kind": row.kind, "event": row.event, "step": row.next, "undo": row.undo, "at": row.at}))
            .collect();
        all["effects"] = effects
            .iter()
            .map(|row| {
                let amount = row.amount.map(|amount| amount.value());
                let currency = row.amount.map(|amount| amount.currency());
                json!({"step": row.step_no, "kind": row.kind, "reference": row.reference, "amount": amount, "currency": currency, "status": row.status, "at": row.at})
            })
            .collect();
        say!("{all}");
        return;
    }
    say!("{}", line(summary));
    if let Some(waiting) = summary.waiting_on() {
        say!("waits on   {waiting}");
    }
    if let Some(error) = &summary.last_error {
        say!("last error {error}");
    }
    show_options(summary);
    if !children.is_empty() {
        say!("children   {}, {open_children} open", children.len());
        children.iter().for_each(|child| say!("  {child}"));
    }
    say!("state      {state}");
    say!("undos      {undos}");
    say!("journal");
    for row in journal {
        let event = row.event.as_ref().map(Value::to_string).unwrap_or_default();
        let next = row.next.as_ref().map(|next| format!(" -> {next}")).unwrap_or_default();
        say!("  {:>3}  {}  {:<8} {event}{next}", row.seq, row.at.format("%T%.3f"), row.kind);
    }
    say!("effects");
    for row in effects {
        let amount = row.amount.map_or_else(|| "-".to_owned(), |it| it.value().to_string());
        let reference = row.reference.as_deref().unwrap_or("-");
        say!("  {:>3}  {:<10} {:<24} {amount} {reference}", row.step_no, row.status, row.kind);
    }
}

/// Prints the options with which the saga was started.
fn show_options(saga: &Summary) {
    if saga.priority != Priority::Normal {
        say!("priority   {}", saga.priority.as_str());
    }
    for (name, value) in &saga.tags {
        say!("tag        {name}={value}");
    }
    if let Some(parent) = saga.parent {
        say!("parent     {parent}");
    }
    if let Some(deadline) = saga.deadline_at {
        say!("deadline   {}", deadline.format("%F %T"));
    }
    if let Some(key) = &saga.queue_key {
        say!("queue      {key}{}", if saga.queued { ", not yet admitted" } else { "" });
    }
}
