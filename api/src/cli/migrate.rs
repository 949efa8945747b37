//! `stepwise migrate` and `stepwise check`.

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use stepwise_engine::Mismatch;

use super::{
    Failure,
    database::{self, Database},
    output::say,
    settings::Settings,
};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Print the mismatches as one JSON object
    #[arg(long)]
    json: bool,
}

/// Applies the missing migrations.
pub(super) async fn migrate(settings: &Settings) -> Result<(), Failure> {
    Database::given(settings).await?.migrate().await?;
    say!("the database is up to date");
    Ok(())
}

/// The deploy gate: checks whether this binary may work on this database and can continue every open saga in it.
pub(super) async fn check(settings: &Settings, args: Args) -> Result<(), Failure> {
    let database = Database::given(settings).await?;
    database.verify().await?;
    let found = database.mismatches().await?;
    if args.json {
        let all = found.iter().map(as_json).collect::<Vec<_>>();
        say!("{}", json!({ "fits": found.is_empty(), "mismatches": all }));
    } else {
        for Mismatch { saga, why, count, samples } in &found {
            say!("{count} of {} version {}: {why}", saga.name, saga.version);
            samples.iter().for_each(|id| say!("  {id}"));
        }
    }
    database::refuse(&found)?;
    if !args.json {
        say!("this version fits the database");
    }
    Ok(())
}

fn as_json(Mismatch { saga, why, count, samples }: &Mismatch) -> Value {
    json!({ "kind": saga.name, "version": saga.version, "why": why, "count": count, "samples": samples })
}
