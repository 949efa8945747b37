//! `stepwise erasure`: the log of erasures, and erasing again after a restore.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::{Engine, Transaction, database as sessions};
use stepwise_workflows::{
    erasure::{
        certificate::{self, Checked},
        replay, rows,
        tax::{self, TaxRecordRefusal},
    },
    privacy::KeyStore,
    sagas::{self, gdpr_erasure::erase_again},
    shop::{Cause, Context, Shop},
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
    /// Check the log of certificates: no row was changed or left out. Prints the head, which you may keep elsewhere.
    #[command(after_help = "Example: stepwise erasure check")]
    Check,
    /// Print the ids of all erased customers, one JSON object a line. Keep it with each backup of the keys.
    #[command(after_help = "Example: stepwise erasure log > erased.jsonl")]
    Log,
    /// After a restore, before anything else is started: erase everybody again who was erased after the backup.
    #[command(after_help = "Example: stepwise erasure replay --list erased.jsonl")]
    Replay {
        /// File that `stepwise erasure log` has written after the backup was made
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
    },
    /// Write the customers' tables anew, so that no page holds remains of deleted rows. Locks each table meanwhile: use a quiet hour.
    #[command(after_help = "Example: stepwise erasure scrub")]
    Scrub,
    /// Print name and address of a paid order whose customer was erased. For tax authorities only.
    #[command(
        after_help = "Example: stepwise erasure tax-record 0197a3b0-0000-7000-8000-000000000000"
    )]
    TaxRecord {
        /// The order
        order_id: Uuid,
    },
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<(), Failure> {
    let db = database::connect(settings, 2).await?;
    match verb {
        Verb::Check => check(&db).await,
        Verb::Log => log(&db).await,
        Verb::Replay { list } => again(settings, db, list.as_deref()).await,
        Verb::Scrub => scrub(&db).await,
        Verb::TaxRecord { order_id } => {
            let folder = Folder::open(&settings.data_dir)?;
            let keys = keys::open(&folder, &db).await?;
            let record = tax::read_record(&db, &keys, order_id).await;
            match record.map_err(no_record)? {
                Some(address) => say!("{}", json!(address)),
                None => say!("the statutory time is over: the key is destroyed"),
            }
            Ok(())
        }
    }
}

/// An order without a tax record is an answer; a database or a key store that is away is none.
fn no_record(refusal: TaxRecordRefusal) -> Failure {
    match refusal {
        refusal @ TaxRecordRefusal::NotFound => Failure::failed("there is no tax record", refusal),
        TaxRecordRefusal::Database(error) => error.into(),
        TaxRecordRefusal::Keys(error) => {
            Failure::dependency(format!("cannot read the key of the tax record: {error}"))
        }
    }
}

async fn check(db: &PgPool) -> Result<(), Failure> {
    match certificate::check(db).await? {
        Checked::Sound { certificates, head } => {
            say!("{certificates} certificates, head {head}");
            Ok(())
        }
        Checked::Broken(n) => Err(Failure::failed(
            "the log of erasures was tampered with",
            format!("certificate {n} does not follow from the one before it"),
        )),
    }
}

async fn log(db: &PgPool) -> Result<(), Failure> {
    for erased in replay::log(db).await? {
        let (customer, anonymized) = (erased.customer_id, erased.anonymized_id);
        say!(
            "{}",
            json!({ "customerId": customer, "anonymizedId": anonymized, "erasedAt": erased.erased_at })
        );
    }
    Ok(())
}

/// A deleted row stays in its page until something else is written there, and the planner's statistics hold common values. Both are written anew.
async fn scrub(db: &PgPool) -> Result<(), Failure> {
    let mut connection = db.acquire().await?;
    for setting in ["set statement_timeout = 0", "set lock_timeout = '10s'"] {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    for table in rows::PLAIN {
        let statement = format!("-- erasure: scrub\nvacuum (full, analyze) {table}");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await?;
        say!("{table}");
    }
    // Only a superuser may do these.
    for statement in ["vacuum full pg_catalog.pg_statistic", "checkpoint"] {
        match sqlx::query(statement).execute(&mut *connection).await {
            Ok(_) => say!("{statement}"),
            Err(error) => say!("left out: {statement}: {error}"),
        }
    }
    Ok(())
}

/// Destroys the keys first: from then on nobody can read the data, whatever fails afterwards.
async fn again(settings: &Settings, db: PgPool, list: Option<&Path>) -> Result<(), Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let keys = keys::open(&folder, &db).await?;
    let cannot = |error: &dyn std::fmt::Display| Failure::failed("cannot destroy a key", error);
    let destroyed = replay::destroy_again(&db, &keys).await.map_err(|error| cannot(&error))?;
    let mut people: BTreeSet<Uuid> = match list {
        Some(path) => read(path)?,
        None => BTreeSet::new(),
    };
    for &customer in &people {
        keys.destroy(customer).await.map_err(|error| cannot(&error))?;
    }
    let without_key = replay::without_key(&db, &keys).await.map_err(|error| cannot(&error))?;
    people.extend(without_key);
    let people = replay::not_erased(&db, &people.into_iter().collect::<Vec<_>>()).await?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let shop = shop::open(settings, &folder, keys, &gateway, "")?.shop;
    let engine = sagas::engine(&shop, db.clone());
    for &customer in &people {
        let operation = start(&shop, &engine, &db, customer).await?;
        say!("{}", json!({ "customerId": customer, "operationId": operation }));
    }
    say!("{} erased again; {destroyed} keys destroyed again", people.len());
    Ok(())
}

async fn start(shop: &Shop, engine: &Engine, db: &PgPool, customer: Uuid) -> Result<Uuid, Failure> {
    let mut tx = Transaction::from(sessions::begin(db).await?);
    let mut ctx = Context::new(shop, engine, &mut tx, Cause::of_system(Uuid::now_v7()));
    let operation = erase_again(&mut ctx, customer).await.map_err(|error| {
        Failure::failed("a customer cannot be erased again", format!("{customer}: {error}"))
    })?;
    tx.commit().await?;
    Ok(operation)
}

/// The customers of a list.
fn read(path: &Path) -> Result<BTreeSet<Uuid>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--list {}: {error}", path.display())))?;
    let customer = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        line.get("customerId")?.as_str()?.parse().ok()
    };
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, n)| {
            customer(line).ok_or_else(|| {
                Failure::usage(format!(
                    "--list {}: line {n} is not a line of `stepwise erasure log`",
                    path.display()
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_or_a_key_store_that_is_away_does_not_say_that_there_is_no_tax_record() {
        let away = || std::io::Error::other("away");
        let database = no_record(TaxRecordRefusal::Database(sqlx::Error::Io(away())));
        assert_eq!(database.exit_code(), std::process::ExitCode::from(3), "{database}");
        assert!(database.to_string().contains("the database went away"), "{database}");
        let missing = no_record(TaxRecordRefusal::NotFound);
        assert_eq!(missing.exit_code(), std::process::ExitCode::from(1), "{missing}");
    }
}
