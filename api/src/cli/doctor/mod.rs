//! `stepwise doctor`: one line for each thing an installation needs, with what to do about it.
//!
//! It looks and changes nothing: no folder, key store, exchange or row is made by looking. Everything is looked at at
//! the same time and within [`PATIENCE`], so that something that hangs is one line more and not the end of the others.

mod database;
mod outside;
mod sagas;

use std::time::Duration;

use clap::Args as ClapArgs;
use futures::FutureExt as _;
use serde_json::json;

use super::{Failure, output::say, settings::Settings};

/// For all lines that need the database, and for each of the others.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What was looked at, whether it is as it should be, and what to do about it.
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

    /// Fine, or what to do otherwise.
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

/// Looks at everything and prints a line for each. Exit code 1 if anything is not as it should be.
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
        n => Err(Failure::failed("not everything is well", format!("{n} of the above failed"))),
    }
}

/// Logs what [`run`] would call wrong, beside the start of a process.
pub(super) fn tell(settings: &Settings) {
    let settings = settings.clone();
    tokio::spawn(async move {
        for Finding { what, is_fine, detail } in examine(&settings).await {
            if !is_fine {
                tracing::warn!(what, detail, "something is wrong with this installation");
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
    let (database, gateway, broker) = tokio::join!(
        within("database", database::look(settings).boxed()),
        within("gateway", outside::gateway(settings).boxed()),
        within("broker", outside::broker(settings).boxed()),
    );
    [outside::folder(settings), database, gateway, broker].into_iter().flatten().collect()
}
