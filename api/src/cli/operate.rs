//! `stepwise saga retry|edit|done|skip|hand-over|pause|resume|cancel`: what a person does to one saga.

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
    /// Try again now, with all attempts.
    #[command(
        after_help = "Example: stepwise saga retry 0197f3a0-0000-7000-8000-000000000000 --reason 'gateway is back'"
    )]
    Retry(Order),
    /// Put another step in the place of the one that fails.
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
    /// A person has seen to it outside.
    #[command(
        after_help = "Example: stepwise saga done ID --evidence 'refund re_17' --reason 'refunded by hand'"
    )]
    Done {
        #[command(flatten)]
        order: Order,
        /// What proves it: a provider's reference, a ticket
        #[arg(long)]
        evidence: String,
        /// What happened, for a pending activity: the saga's event as JSON
        #[arg(long)]
        event: Option<String>,
        /// The effect of a pending activity stands, under this reference of the provider
        #[arg(long, conflicts_with = "no_effect")]
        reference: Option<String>,
        /// A pending activity had no effect
        #[arg(long)]
        no_effect: bool,
    },
    /// Leave out a failed undo, or a step that the saga lets be skipped.
    #[command(after_help = "Example: stepwise saga skip ID --reason 'the hold lapsed by itself'")]
    Skip(Order),
    /// Give it up: what is left to do is somebody else's.
    #[command(
        after_help = "Example: stepwise saga hand-over ID --to finance --reason 'needs a bank transfer'"
    )]
    HandOver {
        #[command(flatten)]
        order: Order,
        /// Whose it is now
        #[arg(long)]
        to: String,
    },
    /// Stop it where it is.
    #[command(after_help = "Example: stepwise saga pause ID --reason 'asking the customer'")]
    Pause(Order),
    /// Let a paused one go on.
    #[command(after_help = "Example: stepwise saga resume ID --reason 'the customer has answered'")]
    Resume(Order),
    /// Take everything back, before the pivot.
    #[command(after_help = "Example: stepwise saga cancel ID --reason 'ordered twice'")]
    Cancel(Order),
}

#[derive(Debug, Args)]
pub(super) struct Order {
    /// The saga's id
    id: Uuid,
    /// Why; it stands in the journal
    #[arg(long)]
    reason: String,
    /// Who wants it
    #[arg(long, env = "USER")]
    by: String,
    /// Which failed undo, by the step it takes back, where several failed
    #[arg(long)]
    undo: Option<i32>,
    /// Only if its seq is still this
    #[arg(long)]
    seq: Option<i32>,
    /// The same for a repeated request, which then does nothing
    #[arg(long)]
    request_id: Option<String>,
    /// Only show what would happen
    #[arg(long)]
    plan: bool,
}

/// Does it, or shows it. Exit code 1 where it is refused.
pub(super) async fn run(settings: &Settings, db: PgPool, command: Command) -> Result<(), Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    // No verb calls the outside world from here: a worker does.
    let keys = keys::open(&folder, &db).await?;
    let (shop, _) = shop::open(settings, &folder, keys, &gateway, "")?;
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
            return Err(Failure::failed("the saga stays as it is", refusal));
        }
    }
    Ok(())
}

fn instruction(command: Command) -> Result<(Order, Verb), Failure> {
    Ok(match command {
        Command::Retry(order) => (order, Verb::Retry),
        Command::Edit { order, step } => (order, Verb::EditAndRetry(parsed("--step", &step)?)),
        Command::Done { order, evidence, event, reference, no_effect } => {
            let event = event.map(|event| parsed("--event", &event)).transpose()?;
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

fn parsed(what: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{what} is not JSON: {error}")))
}
