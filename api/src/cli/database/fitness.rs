//! Checks at the start whether this program can work on a database. Its error names each fault that the program cannot correct itself.

use sqlx::{FromRow, PgConnection, Row as _};
use stepwise_engine::database::{self, Waits};

use super::{Database, FIRST, Failure, Role, within};

/// The oldest Postgres that is supported.
const OLDEST: u32 = 15;

/// Refuses a server that is too old, an encoding that cannot hold every name, and a pooler that runs one session's
/// statements in several sessions of the server.
pub(super) async fn check(database: &Database, open: &mut PgConnection) -> Result<(), Failure> {
    let at = database.place();
    let major = open.server_version_num().unwrap_or(0) / 10_000;
    if major < OLDEST {
        return Err(Failure::version(format!(
            "the database at {at} is Postgres {major}; {OLDEST} or newer is needed"
        )));
    }
    // This query is not prepared: behind a pooler that shares sessions, another client's statement may have the same name.
    let asking = sqlx::raw_sql(
        "-- name: encoding and session
        select current_setting('server_encoding'), pg_backend_pid(), current_setting('lock_timeout')",
    )
    .fetch_one(&mut *open);
    let found = within(FIRST, asking).await?;
    let (encoding, session, lock_timeout) = <(String, i32, String)>::from_row(&found)?;
    if encoding != "UTF8" {
        return Err(Failure::dependency(format!(
            "the database at {at} has the encoding {encoding}, which cannot hold every name and address; make one with encoding UTF8"
        )));
    }
    if lock_timeout != format!("{}s", Waits::USUAL.lock.as_secs()) {
        return Err(pooler(&at));
    }
    if shares_sessions(database, open, session).await {
        return Err(pooler(&at));
    }
    Ok(())
}

/// The error for a connection pooler. pgbouncer drops the settings of a session in each of its modes.
pub(super) fn pooler(at: &str) -> Failure {
    Failure::dependency(format!(
        "a connection pooler answers at {at}, and behind it sessions lose their settings, or their locks and notifications; give the address \
         of Postgres itself"
    ))
}

/// Whether a second connection, which is inside a transaction, uses the first connection's session or has changed it.
async fn shares_sessions(database: &Database, first: &mut PgConnection, session: i32) -> bool {
    const SESSION: &str = "-- name: session\nselect pg_backend_pid()";
    let second = async {
        let mut second = database::connect(database.options.clone(), Waits::USUAL).await?;
        sqlx::raw_sql("-- name: session in use\nbegin").execute(&mut second).await?;
        let other = sqlx::raw_sql(SESSION).fetch_one(&mut second).await?.try_get::<i32, _>(0)?;
        Ok::<_, sqlx::Error>((second, other))
    };
    // If this fails (for lack of connections, say), a later check reports the cause.
    let Ok((_second, other)) = within(FIRST, second).await else { return false };
    let now = sqlx::raw_sql(SESSION).fetch_one(first);
    match tokio::time::timeout(FIRST, now).await {
        Ok(now) => now
            .and_then(|now| now.try_get::<i32, _>(0))
            .is_ok_and(|now| now != session || other == session),
        // Both share one session: the first connection waits for the end of the second's transaction.
        Err(_) => true,
    }
}

#[derive(Debug, FromRow)]
struct Allowed {
    server: i64,
    /// The limit of the role; null means no limit. So does `base`, the limit of the database.
    role: Option<i64>,
    base: Option<i64>,
}

/// Refuses a database whose server, role or own limit allows fewer connections than a process of this role may need.
pub(super) async fn check_room(
    database: &Database,
    open: &mut PgConnection,
    role: Role,
) -> Result<(), Failure> {
    let asking = sqlx::query_as(
        "-- name: connections allowed
        select current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                - coalesce(current_setting('reserved_connections', true)::bigint, 0) as server,
            case when r.rolconnlimit >= 0 and not r.rolsuper then r.rolconnlimit::bigint end as role,
            case when d.datconnlimit >= 0 and not r.rolsuper then d.datconnlimit::bigint end as base
        from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()",
    )
    .fetch_one(open);
    let allowed: Allowed = within(FIRST, asking).await?;
    let limits = [
        ("the server's max_connections", Some(allowed.server)),
        ("the role's connection limit", allowed.role),
        ("the database's connection limit", allowed.base),
    ];
    let needed = i64::from(role.connections());
    for (whose, limit) in limits {
        if let Some(limit) = limit.filter(|limit| *limit < needed) {
            return Err(Failure::dependency(format!(
                "the database at {} allows {limit} connections, and this process may need {needed}; raise {whose}",
                database.place()
            )));
        }
    }
    Ok(())
}
