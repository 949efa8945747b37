//! `stepwise doctor`: prints one line for each thing an installation needs, with the remedy if it is wrong.
//!
//! Doctor changes nothing: it creates no folder, key store, exchange or row. All checks run at the same time and end within
//! [`PATIENCE`], so that a check that hangs fails its own line only.

mod database;
mod outside;
mod sagas;

use std::time::Duration;

use clap::Args as ClapArgs;
use futures::FutureExt as _;
use serde_json::json;

use super::{Failure, output::say, settings::Settings};

/// The time limit of all database checks together, and of each other check.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// The result of one check: its name, whether it passed, and details with the remedy if it failed.
struct Finding {
    what: &'static str,
    is_fine: bool,
    detail: String,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, is_fine: true, detail: detail.into() }
    }

    fn fail(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, is_fine: false, detail: detail.into() }
    }

    /// A finding that has the remedy `mend` appended if the check failed.
    fn judged(what: &'static str, is_fine: bool, detail: String, mend: &str) -> Self {
        match is_fine {
            true => Self::ok(what, detail),
            false => Self::fail(what, format!("{detail}; {mend}")),
        }
    }

    fn from(what: &'static str, found: Result<String, Failure>) -> Self {
        match found {
            Ok(detail) => Self::ok(what, detail),
            Err(failure) => Self::fail(what, failure.to_string()),
        }
    }
}

/// Runs all checks and prints a line for each. Exit code 1 if any check failed.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let findings = examine(settings).await;
    for Finding { what, is_fine, detail } in &findings {
        let word = if *is_fine { "ok" } else { "fail" };
        match args.json {
            true => say!("{}", json!({"what": what, "verdict": word, "detail": detail})),
            false => say!("{word:<4}  {what:<12}  {detail}"),
        }
    }
    match findings.iter().filter(|found| !found.is_fine).count() {
        0 => Ok(()),
        n => Err(Failure::failed(
            "this installation has faults",
            format!("{n} of the above checks failed"),
        )),
    }
}

/// Logs the checks that fail. A process starts this beside its own work.
pub(super) fn log_faults(settings: &Settings) {
    let settings = settings.clone();
    tokio::spawn(async move {
        for Finding { what, is_fine, detail } in examine(&settings).await {
            if !is_fine {
                tracing::warn!(what, detail, "this installation has a fault");
            }
        }
    });
}

async fn examine(settings: &Settings) -> Vec<Finding> {
    let within = |what, look| async move {
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
            vec![Finding::fail(what, format!("no answer within {} s", PATIENCE.as_secs()))]
        })
    };
    let (mail, database, gateway, broker) = tokio::join!(
        within("mail", outside::mail(settings).boxed()),
        within("database", database::look(settings).boxed()),
        within("gateway", outside::gateway(settings).boxed()),
        within("broker", outside::broker(settings).boxed()),
    );
    [outside::folder(settings), mail, database, gateway, broker].into_iter().flatten().collect()
}
