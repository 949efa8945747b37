//! `stepwise saga bulk`: plans one verb for many sagas, then applies the plan.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::{
    Engine,
    bulk::{self, Bulk, BulkError, Count, Item, ItemResult, Order, Stored, Summary},
    operate::Verb,
};
use stepwise_workflows::sagas;
use uuid::Uuid;

use super::{
    Failure,
    folder::Folder,
    keys,
    output::say,
    selection::Which,
    settings::Settings,
    shop::{self, GatewayAddress},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Record what a verb would do to each selected saga. Changes no saga.
    #[command(
        after_help = "Example: stepwise saga bulk plan --verb retry --kind place-order --status stuck --reason 'gateway is back'\n\
                      Example: stepwise saga bulk plan --verb '{\"hand_over\":{\"to\":\"finance\"}}' --status stuck --reason 'closing the books'"
    )]
    Plan(Plan),
    /// Show a plan, or the progress of one that is being applied.
    #[command(after_help = "Example: stepwise saga bulk show ID --items 100")]
    Show {
        /// The bulk's id
        id: Uuid,
        /// Number of its sagas to list
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
        items: u16,
        /// List the sagas after this one (the last of the previous page)
        #[arg(long)]
        after: Option<Uuid>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Apply a plan, exactly as recorded. Workers do it; this command returns at once.
    #[command(after_help = "Example: stepwise saga bulk apply ID --expect 37 --rate 20")]
    Apply {
        /// The bulk's id
        id: Uuid,
        /// Number of sagas that the plan will change, as the plan states it
        #[arg(long)]
        expect: u32,
        /// Maximum number of sagas per second
        #[arg(long, default_value_t = bulk::PER_SECOND, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        rate: u16,
        /// The person who starts it
        #[arg(long, env = "USER")]
        by: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop applying a plan until it is resumed.
    #[command(after_help = "Example: stepwise saga bulk stop ID")]
    Stop {
        /// The bulk's id
        id: Uuid,
        /// The person who stops it
        #[arg(long, env = "USER")]
        by: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Resume a stopped plan.
    #[command(after_help = "Example: stepwise saga bulk resume ID --rate 5")]
    Resume {
        /// The bulk's id
        id: Uuid,
        /// Maximum number of sagas per second [default: as before]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        rate: Option<u16>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the newest plans.
    #[command(after_help = "Example: stepwise saga bulk list --json")]
    List {
        /// Maximum number of plans
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// retry, skip, pause, resume or cancel; a verb with arguments as JSON: {"hand_over": {"to": ..}}, {"mark_done": ..}, {"edit_and_retry": ..}
    #[arg(long)]
    verb: String,
    #[command(flatten)]
    which: Which,
    /// Refuse if more sagas are selected
    #[arg(long, default_value_t = bulk::MOST_ITEMS, value_parser = clap::value_parser!(i64).range(1..=bulk::MOST_ITEMS))]
    most: i64,
    /// The reason, which is recorded in each saga's journal
    #[arg(long)]
    reason: String,
    /// The person who orders it
    #[arg(long, env = "USER")]
    by: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a bulk command. Exit code 1 if the command is refused, 2 if there is no such bulk.
pub(super) async fn run(settings: &Settings, db: PgPool, command: Command) -> Result<(), Failure> {
    // It knows no saga: only a plan asks one.
    let engine = Engine::builder(db.clone()).build();
    let mut tx = engine.begin().await?;
    let (bulk, as_json) = match command {
        Command::Plan(plan) => {
            let as_json = plan.json;
            let planned = planner(settings, &db).await?.plan_bulk(&order(plan)?).await;
            let bulk = planned.map_err(into_failure)?;
            let summary = engine.bulk_summary(bulk.bulk_id).await?;
            show(&bulk, &summary, &[], as_json);
            if bulk.left > 0 && !as_json {
                let (id, left) = (bulk.bulk_id, bulk.left);
                say!("to do it   stepwise saga bulk apply {id} --expect {left}");
            }
            return Ok(());
        }
        Command::Show { id, items, after, json } => {
            let bulk = engine.bulk(id).await?;
            let bulk = bulk.ok_or_else(|| into_failure(BulkError::NotFound(id)))?;
            let summary = engine.bulk_summary(id).await?;
            show(&bulk, &summary, &engine.bulk_items(id, after, items.into()).await?, json);
            return Ok(());
        }
        Command::List { limit, json } => {
            let bulks = engine.bulks(limit.into()).await?;
            bulks.iter().for_each(|bulk| say!("{}", line(bulk, json)));
            if bulks.is_empty() && !json {
                say!("none");
            }
            return Ok(());
        }
        Command::Apply { id, expect, rate, by, json } => {
            (engine.apply_bulk(&mut tx, id, expect, rate, &by).await, json)
        }
        Command::Stop { id, by, json } => (engine.stop_bulk(&mut tx, id, &by).await, json),
        Command::Resume { id, rate, json } => (engine.resume_bulk(&mut tx, id, rate).await, json),
    };
    let bulk = bulk.map_err(into_failure)?;
    tx.commit().await?;
    say!("{}", line(&bulk, as_json));
    Ok(())
}

/// An engine that only plans verbs. It calls no gateway; workers carry the verbs out.
async fn planner(settings: &Settings, db: &PgPool) -> Result<Engine, Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let keys = keys::open(&folder, db).await?;
    let shop = shop::open(settings, &folder, keys, &gateway, "")?.shop;
    Ok(sagas::engine(&shop, db.clone()))
}

fn order(plan: Plan) -> Result<Order, Failure> {
    let Plan { verb, which, most, reason, by, json: _ } = plan;
    let filter = which.into_filter(most).ok_or_else(|| {
        Failure::usage(
            "no sagas are selected: give --kind, --status, --tag or another option of `saga bulk plan --help`",
        )
    })?;
    Ok(Order { verb: verb_of(&verb)?, by, reason, filter })
}

/// Reads a verb: by its name if it has no arguments, as JSON otherwise.
fn verb_of(text: &str) -> Result<Verb, Failure> {
    let json = if text.starts_with(['{', '"']) {
        serde_json::from_str(text)
    } else {
        Ok(Value::String(text.replace('-', "_")))
    };
    json.and_then(serde_json::from_value)
        .map_err(|error| Failure::usage(format!("--verb {text} is not a verb: {error}")))
}

fn into_failure(error: BulkError) -> Failure {
    match error {
        BulkError::NotFound(_) => Failure::usage(format!("{error}; see `stepwise saga bulk list`")),
        BulkError::Database(error) => error.into(),
        refusal => Failure::failed("no saga was changed", refusal),
    }
}

/// `id  verb  status  left/items  by  reason`
fn line(bulk: &Bulk, json: bool) -> String {
    if json {
        return as_json(bulk).to_string();
    }
    let verb = match &bulk.verb {
        Stored::Known(verb) => verb.name().to_owned(),
        Stored::Unknown(json) => format!("unknown: {json}"),
    };
    format!(
        "{}  {:<10}  {:<8}  {} of {} left  {}: {}",
        bulk.bulk_id, verb, bulk.status, bulk.left, bulk.items, bulk.planned_by, bulk.reason
    )
}

fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn show(bulk: &Bulk, summary: &Summary, items: &[Item], json: bool) {
    if json {
        let mut all = as_json(bulk);
        all["summary"] = as_json(summary);
        all["page"] = json!(items);
        say!("{all}");
        return;
    }
    say!("{}", line(bulk, false));
    let Bulk { applied, refused, moved_on, failed, .. } = bulk;
    say!("so far     {applied} applied, {refused} refused, {moved_on} moved on, {failed} failed");
    say!("past pivot {}", summary.past_pivot);
    for (title, counts) in [
        ("would be", &summary.statuses),
        ("next", &summary.next),
        ("undone", &summary.undoes),
        ("not done", &summary.refusals),
        ("errors", &summary.errors),
    ] {
        counts.iter().for_each(|Count { what, count }| say!("{title:<10} {count:>6} x {what}"));
    }
    for item in items {
        let outlook = item.outlook.as_ref().map(|outlook| as_json(outlook).to_string());
        let why = item.refusal.as_ref().map(|refusal| match refusal {
            Stored::Known(refusal) => refusal.to_string(),
            Stored::Unknown(json) => json.to_string(),
        });
        let why = why.or(item.error.clone());
        say!(
            "{}  {:<12}  {:<8}  {}",
            item.saga_id,
            item.name,
            item.result.map_or("left", ItemResult::as_str),
            why.or(outlook).unwrap_or_default()
        );
    }
}
