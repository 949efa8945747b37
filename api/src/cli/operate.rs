//! `stepwise saga retry|edit|done|skip|hand-over|pause|resume|cancel`: an operator acts on one saga.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::operate::{Instruction, Operated, Outside, Verb};
use stepwise_workflows::sagas;
use uuid::Uuid;

use super::{
    Failure,
    folder::Folder,
    keys,
    output::say,
    settings::Settings,
    shop::{self, GatewayAddress},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Retry the failed step now, with all its attempts.
    #[command(
        after_help = "Example: stepwise saga retry 0197f3a0-0000-7000-8000-000000000000 --reason 'gateway is back'"
    )]
    Retry(Order),
    /// Replace the failing step by another one and retry.
    #[command(
        after_help = "Example: stepwise saga edit ID --step '{\"Send\":\"..\"}' --reason 'wrong customer'"
    )]
    Edit {
        #[command(flatten)]
        order: Order,
        /// The step as JSON, as the saga stores it; for a failed undo, the step to be taken back
        #[arg(long)]
        step: String,
    },
    /// Record that a person has completed the step outside.
    #[command(
        after_help = "Example: stepwise saga done ID --evidence 'refund re_17' --reason 'refunded by hand'"
    )]
    Done {
        #[command(flatten)]
        order: Order,
        /// The evidence: a provider's reference or a ticket
        #[arg(long)]
        evidence: String,
        /// The outcome of a pending activity: the saga's event as JSON
        #[arg(long)]
        event: Option<String>,
        /// A pending activity took effect, under this reference of the provider
        #[arg(long, conflicts_with = "no_effect")]
        reference: Option<String>,
        /// A pending activity had no effect
        #[arg(long)]
        no_effect: bool,
    },
    /// Skip a failed undo, or a step that the saga allows to be skipped.
    #[command(after_help = "Example: stepwise saga skip ID --reason 'the hold lapsed by itself'")]
    Skip(Order),
    /// Abandon the saga and hand the rest over to somebody else.
    #[command(
        after_help = "Example: stepwise saga hand-over ID --to finance --reason 'needs a bank transfer'"
    )]
    HandOver {
        #[command(flatten)]
        order: Order,
        /// The person or team that takes over
        #[arg(long)]
        to: String,
    },
    /// Pause the saga where it is.
    #[command(after_help = "Example: stepwise saga pause ID --reason 'asking the customer'")]
    Pause(Order),
    /// Resume a paused saga.
    #[command(after_help = "Example: stepwise saga resume ID --reason 'the customer has answered'")]
    Resume(Order),
    /// Cancel the saga and undo its steps; possible before the pivot only.
    #[command(after_help = "Example: stepwise saga cancel ID --reason 'ordered twice'")]
    Cancel(Order),
}

#[derive(Debug, Args)]
pub(super) struct Order {
    /// The saga's id
    id: Uuid,
    /// The reason, which is recorded in the journal
    #[arg(long)]
    reason: String,
    /// The person who orders it
    #[arg(long, env = "USER")]
    by: String,
    /// If several undos failed: the number of the step whose undo is meant
    #[arg(long)]
    undo: Option<i32>,
    /// Act only if the saga's seq is still this
    #[arg(long)]
    seq: Option<i32>,
    /// An id for this request; a repeated request with the same id does nothing
    #[arg(long)]
    request_id: Option<String>,
    /// Only show the effect
    #[arg(long)]
    plan: bool,
}

/// Applies the verb, or shows its effect with `--plan`. Exit code 1 if the engine refuses it.
pub(super) async fn run(settings: &Settings, db: PgPool, command: Command) -> Result<(), Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    // This process calls no gateway for a verb; a worker does.
    let keys = keys::open(&folder, &db).await?;
    let shop = shop::open(settings, &folder, keys, &gateway, "")?.shop;
    let engine = sagas::engine(&shop, db.clone());
    let (order, verb) = instruction(command)?;
    let (id, plan) = (order.id, order.plan);
    let instruction = Instruction {
        id: order.request_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        by: order.by,
        reason: order.reason,
        verb,
        undo: order.undo,
        seq: order.seq,
    };
    let mut tx = db.begin().await?;
    let operated = engine.operate(&mut tx, id, &instruction).await?;
    match plan {
        true => tx.rollback().await?,
        false => tx.commit().await?,
    }
    match operated {
        Operated::Applied(outlook) => say!("{}", json!({ "planned": plan, "then": outlook })),
        Operated::Repeated => say!("{}", json!({ "repeated": true })),
        Operated::Refused(refusal) => {
            return Err(Failure::failed("the saga was not changed", refusal));
        }
    }
    Ok(())
}

fn instruction(command: Command) -> Result<(Order, Verb), Failure> {
    Ok(match command {
        Command::Retry(order) => (order, Verb::Retry),
        Command::Edit { order, step } => (order, Verb::EditAndRetry(parse_json("--step", &step)?)),
        Command::Done { order, evidence, event, reference, no_effect } => {
            let event = event.map(|event| parse_json("--event", &event)).transpose()?;
            let outside = match reference {
                Some(reference) => Some(Outside::Stands(reference)),
                None => no_effect.then_some(Outside::Nothing),
            };
            (order, Verb::MarkDone { evidence, event, outside })
        }
        Command::Skip(order) => (order, Verb::Skip),
        Command::HandOver { order, to } => (order, Verb::HandOver { to }),
        Command::Pause(order) => (order, Verb::Pause),
        Command::Resume(order) => (order, Verb::Resume),
        Command::Cancel(order) => (order, Verb::Cancel),
    })
}

fn parse_json(what: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{what} is not JSON: {error}")))
}
