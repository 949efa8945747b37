//! Doctor's checks of the database: whether it answers, belongs to this installation, is durable and can be written.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::{FromRow, PgPool, postgres::PgConnectOptions};
use stepwise_workflows::{
    customer::attempts::Wrong,
    erasure::certificate::{self, Checked},
    privacy::belonging::{self, Stranger},
};

use super::{
    super::{
        Failure, broker,
        database::{self, Role},
        settings::{Settings, is_this_machine},
    },
    Finding, key_store, sagas,
};

/// The number of newest customers whose keys are checked.
const NEWEST: i64 = 1_000;

/// Runs all checks that need the database.
pub(super) async fn look(settings: &Settings) -> Vec<Finding> {
    let db = match database::connect(settings, 4).await {
        Ok(db) => db,
        Err(failure) => return vec![Finding::fail("database", failure.to_string())],
    };
    let (mut findings, migrations, keys, erasures, log_ins, sagas, broker) = tokio::join!(
        server(settings, &db),
        migrations(&db),
        keys_of_customers(settings, &db),
        erasures(&db),
        log_ins(&db),
        sagas::look(&db),
        no_broker(settings, &db)
    );
    findings.extend([migrations, keys, erasures, log_ins]);
    findings.extend(sagas);
    findings.extend(broker);
    findings
}

async fn migrations(db: &PgPool) -> Finding {
    let engine = stepwise_engine::migrations::verify(db).await;
    let shop = match engine {
        Ok(()) => stepwise_workflows::migrations::verify(db).await,
        Err(error) => Err(error),
    };
    Finding::from(
        "migrations",
        shop.map(|()| "the migrations fit this version".to_owned()).map_err(Failure::from),
    )
}

async fn erasures(db: &PgPool) -> Finding {
    const WHAT: &str = "erasures";
    match certificate::check(db).await {
        Ok(Checked::Sound { certificates, .. }) => {
            Finding::ok(WHAT, format!("the log of {certificates} certificates is whole"))
        }
        Ok(Checked::Broken(n)) => Finding::fail(
            WHAT,
            format!(
                "certificate {n} was changed, or one before it is missing; restore the log from a backup"
            ),
        ),
        Err(error) => Finding::fail(WHAT, Failure::from(error).to_string()),
    }
}

/// Without the address of a broker, checks that the database publishes to none. With one, the broker itself is checked elsewhere.
async fn no_broker(settings: &Settings, db: &PgPool) -> Option<Finding> {
    const WHAT: &str = "broker";
    let Ok(None) = broker::address(settings) else { return None };
    Some(match broker::in_use(db).await {
        Ok(None) => Finding::ok(WHAT, "no broker: events are published on /v1/events/stream only"),
        Ok(Some(known)) => Finding::fail(WHAT, broker::not_given(&known)),
        Err(error) => Finding::fail(WHAT, Failure::from(error).to_string()),
    })
}

async fn log_ins(db: &PgPool) -> Finding {
    const WHAT: &str = "log-ins";
    match Wrong::read(db).await {
        Ok(wrong) => Finding::judged(
            WHAT,
            !wrong.have_risen(),
            format!(
                "{} wrong ones in the last 15 minutes, {:.0} usually",
                wrong.lately, wrong.usually
            ),
            "somebody may be trying passwords at many accounts: look for the networks in the log of the proxy, and block them there",
        ),
        Err(error) => Finding::fail(WHAT, Failure::from(error).to_string()),
    }
}

async fn keys_of_customers(settings: &Settings, db: &PgPool) -> Finding {
    const WHAT: &str = "keys";
    let store = match key_store(settings).await {
        Ok(store) => store,
        Err(reason) => return Finding::fail(WHAT, reason),
    };
    let recorded = match belonging::recorded(db).await {
        Ok(recorded) => recorded,
        Err(error) => return Finding::fail(WHAT, Failure::from(error).to_string()),
    };
    match (store, recorded) {
        (None, None) => Finding::ok(WHAT, "no keys yet: the first process creates the key store"),
        (None, Some(_)) => Finding::fail(
            WHAT,
            "the customers' keys are not in this data folder; give the --data-dir that has them, or restore their backup",
        ),
        (Some(store), Some(known)) if store.fingerprint() != known => Finding::fail(
            WHAT,
            "the keys in this data folder belong to another database; give the right --data-dir or --database-url",
        ),
        (Some(store), _) => match belonging::first_without_key(db, &store, NEWEST).await {
            Ok(None) => Finding::ok(WHAT, "the customers' keys are there"),
            Ok(Some(customer)) => Finding::fail(
                WHAT,
                format!(
                    "the key of customer {customer} is missing; restore the keys from their backup"
                ),
            ),
            Err(Stranger::Database(error)) => Finding::fail(WHAT, Failure::from(error).to_string()),
            Err(error) => Finding::fail(WHAT, error.to_string()),
        },
    }
}

#[derive(Debug, Default, FromRow)]
struct Server {
    version: String,
    fsync: String,
    commit: String,
    pages: String,
    autovacuum: bool,
    encoding: String,
    isolation: String,
    is_standby: bool,
    is_read_only: bool,
    allowed: i64,
    others: i64,
    oldest_s: f64,
    now_s: f64,
    is_encrypted: bool,
}

async fn server(settings: &Settings, db: &PgPool) -> Vec<Finding> {
    let before = SystemTime::now();
    let asked = sqlx::query_as(
        "-- name: doctor
        select current_setting('server_version') as version, current_setting('fsync') as fsync,
            current_setting('synchronous_commit') as commit, current_setting('full_page_writes') as pages,
            current_setting('autovacuum')::boolean as autovacuum, current_setting('server_encoding') as encoding,
            coalesce((select reset_val from pg_settings where name = 'default_transaction_isolation'), '') as isolation,
            pg_is_in_recovery() as is_standby, current_setting('transaction_read_only')::boolean as is_read_only,
            current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint as allowed,
            (select count(*) from pg_stat_activity
                where backend_type = 'client backend' and datname is distinct from current_database()) as others,
            coalesce((select extract(epoch from max(clock_timestamp() - xact_start))::float8
                from pg_stat_activity where datname = current_database()), 0) as oldest_s,
            extract(epoch from clock_timestamp())::float8 as now_s,
            coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as is_encrypted",
    )
    .fetch_one(db)
    .await;
    let found: Server = match asked {
        Ok(found) => found,
        Err(error) => return vec![Finding::fail("database", Failure::from(error).to_string())],
    };
    let ours = before.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut findings = vec![Finding::ok("database", format!("Postgres {}", found.version))];
    findings.extend(durable_and_writable(&found));
    findings.extend(roomy_and_tidy(&found, ours));
    findings.push(encrypted(settings, &db.connect_options(), &found));
    findings
}

fn durable_and_writable(found: &Server) -> Vec<Finding> {
    let Server { fsync, commit, pages, encoding, isolation, .. } = found;
    vec![
        Finding::judged(
            "durability",
            fsync == "on" && commit != "off" && pages == "on",
            format!("fsync {fsync}, synchronous_commit {commit}, full_page_writes {pages}"),
            "a crash loses orders: switch them on",
        ),
        match (found.is_standby, found.is_read_only) {
            (true, _) => Finding::fail(
                "writing",
                "the server is a standby: no order can be placed; give the address of the primary, or promote it",
            ),
            (false, true) => Finding::fail(
                "writing",
                "the server is read-only: no order can be placed; set default_transaction_read_only to off",
            ),
            (false, false) => Finding::ok("writing", "the server accepts writes"),
        },
        Finding::judged(
            "encoding",
            encoding == "UTF8",
            encoding.clone(),
            "it cannot hold every name and address: make a database with encoding UTF8 and move to it",
        ),
        Finding::judged(
            "isolation",
            isolation == "read committed",
            isolation.clone(),
            "set default_transaction_isolation to 'read committed'",
        ),
    ]
}

/// The number of connections that one `serve`, one `work` and one `relay` need together.
fn connections_needed() -> i64 {
    let set = [Role::FrontDoor, Role::Worker, Role::Relay];
    set.map(|role| i64::from(role.connections())).iter().sum()
}

fn roomy_and_tidy(found: &Server, ours_s: f64) -> Vec<Finding> {
    let Server { allowed, others, autovacuum, oldest_s, now_s, .. } = found;
    let (skew_s, needed) = ((now_s - ours_s).abs(), connections_needed());
    vec![
        Finding::judged(
            "connections",
            allowed - others >= needed,
            format!("{allowed} allowed, {others} used by other databases, {needed} needed"),
            &format!("raise max_connections by {needed} for each set of processes"),
        ),
        Finding::judged("autovacuum", *autovacuum, format!("on: {autovacuum}"), "switch it on"),
        Finding::judged(
            "transactions",
            *oldest_s < 300.0,
            format!("the oldest is {oldest_s:.0} s old"),
            "end it: it keeps vacuum from removing old rows",
        ),
        Finding::judged(
            "clocks",
            skew_s < 2.0,
            format!("{skew_s:.1} s apart"),
            "synchronise this machine with the database's",
        ),
    ]
}

/// Checks whether the connection to the database is encrypted or stays on this machine.
///
/// The options decide, not the text of `--database-url`: its parameters `host` and `hostaddr` replace its host, and so does `PGHOST` if it
/// has none.
fn encrypted(settings: &Settings, options: &PgConnectOptions, found: &Server) -> Finding {
    let is_here = options.get_socket().is_some() || is_this_machine(Some(options.get_host()));
    Finding::judged(
        "network",
        found.is_encrypted || is_here || settings.plain_network,
        match (found.is_encrypted, is_here) {
            (true, _) => "the connection to the database is encrypted".to_owned(),
            (false, true) => "the database is on this machine".to_owned(),
            (false, false) => "the connection to the database is not encrypted".to_owned(),
        },
        "add sslmode=verify-full to --database-url, or give --plain-network if the network is private",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::Options;

    #[test]
    fn too_few_connections_are_named_with_what_to_do() {
        let verdict = |allowed, others| {
            let found = Server { allowed, others, ..Server::default() };
            let line = roomy_and_tidy(&found, 0.0).into_iter().find(|it| it.what == "connections");
            line.expect("the line is printed")
        };
        assert!(verdict(97, 20).is_fine);
        // 25, less three for superusers; then enough, but other databases use them.
        for (allowed, others) in [(22, 0), (97, 80)] {
            let line = verdict(allowed, others);
            assert!(!line.is_fine && line.detail.contains("max_connections"), "{}", line.detail);
        }
    }

    #[test]
    fn a_standby_and_a_connection_in_clear_are_named() {
        let standby = Server { is_standby: true, is_read_only: true, ..Server::default() };
        let lines = durable_and_writable(&standby);
        let writing = lines.iter().find(|it| it.what == "writing").expect("the line is printed");
        assert!(!writing.is_fine && writing.detail.contains("standby"), "{}", writing.detail);
        let judged = |plain_network, found| {
            let settings = Settings { plain_network, ..settings() };
            encrypted(&settings, &options("postgres://me@db.example/shop"), found).is_fine
        };
        assert!(!judged(false, &standby));
        assert!(judged(true, &standby));
        assert!(judged(false, &Server { is_encrypted: true, ..Server::default() }));
    }

    #[test]
    fn a_database_is_on_this_machine_only_if_the_connection_goes_there() {
        let is_here = |options: &PgConnectOptions| {
            encrypted(&settings(), options, &Server::default()).is_fine
        };
        for here in [
            "postgres://me@127.0.0.1/shop",
            "postgres://me@localhost:5433/shop",
            "postgres://me@[::1]/shop",
            "postgres://me@%2Frun%2Fpostgresql/shop",
            "postgres:///shop?host=/run/postgresql",
            "postgres://me@192.0.2.2/shop?host=/run/postgresql",
            "postgres://me@192.0.2.2/shop?host=127.0.0.1",
        ] {
            assert!(is_here(&options(here)), "{here}");
        }
        for elsewhere in [
            "postgres://me@192.0.2.2/shop",
            "postgres://me@127.0.0.1/shop?host=192.0.2.2&port=18432",
            "postgres://me@127.0.0.1:18432/shop?hostaddr=192.0.2.2",
            "postgres:///shop?host=192.0.2.2",
        ] {
            assert!(!is_here(&options(elsewhere)), "{elsewhere}");
        }
        // `PGHOST` sets the host before the address is read.
        assert!(!is_here(&PgConnectOptions::new().host("192.0.2.2")));
        assert!(is_here(&PgConnectOptions::new().host("/run/postgresql")));
    }

    fn options(url: &str) -> PgConnectOptions {
        url.parse().expect("it is a Postgres address")
    }

    fn settings() -> Settings {
        Options::default().into_settings().unwrap_or_else(|error| panic!("{error}"))
    }
}
