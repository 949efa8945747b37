//! `stepwise doctor`: one line for each thing an installation needs, with what to do about it.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;
use sqlx::PgPool;
use stepwise_adapters::keystore::FileKeyStore;
use stepwise_engine::inspect;
use tokio::net::TcpStream;

use super::{Failure, broker, database, folder::Folder, settings::Settings, shop::GatewayAddress};

/// Connections that one `serve`, one `work` and one `relay` need together.
const CONNECTIONS_NEEDED: i64 = 60;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was looked at, how it is, and what to do about it.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, detail: detail.into() }
    }

    fn warn(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Warn, detail: detail.into() }
    }

    fn fail(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fail, detail: detail.into() }
    }

    fn from(what: &'static str, found: Result<String, Failure>) -> Self {
        match found {
            Ok(detail) => Self::ok(what, detail),
            Err(failure) => Self::fail(what, failure.to_string()),
        }
    }
}

/// Looks at everything. Exit code 1 if anything fails; warnings do not count.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let mut findings = folder(settings);
    match database::connect(settings, 2).await {
        Ok(db) => findings.extend(database_findings(&db).await),
        Err(failure) => findings.push(Finding::fail("database", failure.to_string())),
    }
    findings.push(gateway(settings).await);
    findings.push(broker_finding(settings).await);
    for Finding { what, verdict, detail } in &findings {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        match args.json {
            true => println!("{}", json!({"what": what, "verdict": word, "detail": detail})),
            false => println!("{word:<4}  {what:<12}  {detail}"),
        }
    }
    let failed = findings.iter().filter(|found| found.verdict == Verdict::Fail).count();
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed("not everything is well", format!("{n} of the above failed"))),
    }
}

fn folder(settings: &Settings) -> Vec<Finding> {
    let folder = match Folder::open(&settings.data_dir) {
        Ok(folder) => folder,
        Err(failure) => return vec![Finding::fail("data folder", failure.to_string())],
    };
    let keys = match FileKeyStore::open(&folder.join("keys")) {
        Ok(_) => Finding::ok("key store", "opens"),
        Err(error) => Finding::fail("key store", format!("{error}; restore it from its backup")),
    };
    vec![Finding::ok("data folder", settings.data_dir.display().to_string()), keys]
}

async fn database_findings(db: &PgPool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let engine = stepwise_engine::migrations::verify(db).await;
    let shop = stepwise_workflows::migrations::verify(db).await;
    let fits = engine.and(shop).map(|()| "fit this version".to_owned()).map_err(Failure::from);
    findings.push(Finding::from("migrations", fits));
    findings.push(forgotten(db).await);
    findings.push(unbalanced(db).await);
    match looked_at(db).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::fail("database", Failure::from(error).to_string())),
    }
    findings
}

async fn forgotten(db: &PgPool) -> Finding {
    match inspect::forgotten(db).await {
        Ok(none) if none.is_empty() => {
            Finding::ok("forgotten", "every open saga will be looked at")
        }
        Ok(some) => Finding::fail(
            "forgotten",
            format!("{} sagas, such as {}: {}", some.len(), some[0].saga_id, some[0].why),
        ),
        Err(error) => Finding::fail("forgotten", Failure::from(error).to_string()),
    }
}

async fn unbalanced(db: &PgPool) -> Finding {
    let standing = match inspect::unbalanced(db).await {
        Ok(standing) => standing,
        Err(error) => return Finding::fail("effects", Failure::from(error).to_string()),
    };
    let (waived, left): (Vec<_>, Vec<_>) =
        standing.into_iter().partition(inspect::Standing::is_answered_for);
    match left.first() {
        None => Finding::ok("effects", format!("net to zero; persons answer for {}", waived.len())),
        Some(one) => Finding::fail(
            "effects",
            format!(
                "{} stand although all was taken back, such as {} of saga {}, step {}; take them \
                 back at the provider",
                left.len(),
                one.kind,
                one.saga_id,
                one.step_no
            ),
        ),
    }
}

async fn looked_at(db: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    type Row = (String, String, String, String, i64, bool, f64, f64);
    let before = std::time::SystemTime::now();
    let (version, fsync, commit, pages, connections, vacuums, oldest_s, now_s): Row =
        sqlx::query_as(
            "-- doctor
            select current_setting('server_version'), current_setting('fsync'),
                current_setting('synchronous_commit'), current_setting('full_page_writes'),
                current_setting('max_connections')::bigint, current_setting('autovacuum')::boolean,
                coalesce((select extract(epoch from max(clock_timestamp() - xact_start))::float8
                    from pg_stat_activity where datname = current_database()), 0),
                extract(epoch from clock_timestamp())::float8",
        )
        .fetch_one(db)
        .await?;
    let ours = before.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let skew_s = (now_s - ours).abs();
    let durable = fsync == "on" && commit != "off" && pages == "on";
    let judged = |what, fine: bool, detail: String, otherwise: &str| match fine {
        true => Finding::ok(what, detail),
        false => Finding::warn(what, format!("{detail}; {otherwise}")),
    };
    Ok(vec![
        Finding::ok("database", format!("Postgres {version}")),
        match durable {
            true => Finding::ok("durability", "every commit is on the disk"),
            false => Finding::fail(
                "durability",
                format!(
                    "fsync {fsync}, synchronous_commit {commit}, full_page_writes {pages}: a crash \
                     loses orders; switch them on"
                ),
            ),
        },
        judged(
            "connections",
            connections >= CONNECTIONS_NEEDED,
            format!("{connections} allowed"),
            "raise max_connections to 60 or more for each set of processes",
        ),
        judged("autovacuum", vacuums, format!("on: {vacuums}"), "switch it on"),
        judged(
            "transactions",
            oldest_s < 300.0,
            format!("the oldest is {oldest_s:.0} s old"),
            "end it: it keeps vacuum from cleaning up",
        ),
        judged(
            "clocks",
            skew_s < 2.0,
            format!("{skew_s:.1} s apart"),
            "synchronise this machine with the database's",
        ),
    ])
}

async fn gateway(settings: &Settings) -> Finding {
    let Ok(folder) = Folder::open(&settings.data_dir) else {
        return Finding::warn("gateway", "not looked for without a data folder");
    };
    let address = match GatewayAddress::given_or_noted(settings, &folder) {
        Ok(address) => address,
        Err(_) => return Finding::warn("gateway", "none is known; `stepwise up` brings a sandbox"),
    };
    let (host, port) = address.host_and_port();
    let reached = TcpStream::connect((host.as_str(), port));
    match tokio::time::timeout(Duration::from_secs(2), reached).await {
        Ok(Ok(_)) => Finding::ok("gateway", format!("answers at {host}:{port}")),
        _ => Finding::warn(
            "gateway",
            format!("nobody answers at {host}:{port}; orders wait until somebody does"),
        ),
    }
}

async fn broker_finding(settings: &Settings) -> Finding {
    let address = match broker::address(settings) {
        Ok(Some(address)) => address,
        Ok(None) => return Finding::ok("broker", "none: events go out on /v1/events/stream only"),
        Err(failure) => return Finding::fail("broker", failure.to_string()),
    };
    let keys = match Folder::open(&settings.data_dir) {
        Ok(folder) => FileKeyStore::open(&folder.join("keys")),
        Err(failure) => return Finding::fail("broker", failure.to_string()),
    };
    let Ok(keys) = keys else { return Finding::fail("broker", "not asked without a key store") };
    match broker::open(Some(address), std::sync::Arc::new(keys)).await {
        Ok(broker) if broker.is_connected() => Finding::ok("broker", "takes events"),
        Ok(_) => Finding::warn("broker", "cannot be reached; events wait for it"),
        Err(failure) => Finding::fail("broker", failure.to_string()),
    }
}
