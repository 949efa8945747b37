//! `stepwise doctor`: prints one line for each thing an installation needs, with the remedy if it is wrong.
//!
//! Doctor changes nothing: it creates no folder, key store, exchange or row. All checks run at the same time and end within
//! [`PATIENCE`], so that a check that hangs fails its own line only.

mod database;
mod outside;
mod sagas;

use std::{io, time::Duration};

use clap::Args as ClapArgs;
use futures::FutureExt as _;
use serde_json::json;
use stepwise_adapters::keystore::FileKeyStore;
use stepwise_workflows::privacy::KeyStoreError;

use super::{Failure, folder::Folder, keys, output::say, settings::Settings};

/// The time limit of all database checks together, and of each other check.
const PATIENCE: Duration = Duration::from_secs(8);
/// The time limit of a look into the data folder. Longer than the key store waits for its lock.
const DISK: Duration = Duration::from_secs(4);

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
    let (folder, mail, database, gateway, broker) = tokio::join!(
        within("data folder", outside::folder(settings).boxed()),
        within("mail", outside::mail(settings).boxed()),
        within("database", database::look(settings).boxed()),
        within("gateway", outside::gateway(settings).boxed()),
        within("broker", outside::broker(settings).boxed()),
    );
    [folder, mail, database, gateway, broker].into_iter().flatten().collect()
}

/// Looks into the data folder on a thread that may block, because a check that blocks could not be ended. The error is a sentence.
async fn on_disk<T: Send + 'static>(
    settings: &Settings,
    look: impl FnOnce(&Settings) -> T + Send + 'static,
) -> Result<T, String> {
    let owned = settings.clone();
    let looking = tokio::task::spawn_blocking(move || look(&owned));
    match tokio::time::timeout(DISK, looking).await {
        Ok(looked) => looked.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "{} does not answer within {} s; see to its disk or volume",
            settings.data_dir.display(),
            DISK.as_secs()
        )),
    }
}

/// Opens the key store in the data folder. `None` if there is none. The error is a sentence with the remedy.
async fn key_store(settings: &Settings) -> Result<Option<FileKeyStore>, String> {
    let found = on_disk(settings, |settings| match Folder::find(&settings.data_dir) {
        Some(folder) => FileKeyStore::find(&folder.join(keys::FOLDER)),
        None => Ok(None),
    });
    found.await?.map_err(|error| match &error {
        // Another process holds the lock. The error has its own remedy.
        KeyStoreError::Storage(reason) if reason.kind() == io::ErrorKind::TimedOut => {
            error.to_string()
        }
        _ => format!("{error}; restore them from their backup"),
    })
}
