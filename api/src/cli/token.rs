//! `stepwise token`: manages the keys of people and programs that are not customers.

use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum, builder::PossibleValuesParser};
use stepwise_workflows::text::{self, BadText};
use uuid::Uuid;

use super::{Failure, database, output::say, settings::Settings};
use crate::door::{
    caller::SCOPES,
    tokens::{NewKey, make_key},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a key. It is printed once and cannot be shown again.
    Create {
        /// Role of the holder
        #[arg(long)]
        role: Role,
        /// Name of the holder, shown in audits: one line of at most 100 characters
        #[arg(long, value_parser = one_line)]
        name: String,
        /// Permissions of a service, such as inventory:write
        #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(SCOPES))]
        scopes: Vec<String>,
        /// Days until it expires [default: never]
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=36_500))]
        days: Option<i32>,
    },
    /// List the keys' ids, roles and holders; the keys themselves are not shown.
    List,
    /// Revoke a key. It stops working within a second.
    Revoke {
        /// The key's id, as `token list` shows it
        id: Uuid,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    Admin,
    Operator,
    Viewer,
    Service,
}

/// Reads the name of somebody, which is shown in logs and on terminals.
pub(super) fn one_line(name: &str) -> Result<String, BadText> {
    text::line(name, 100)
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Service => "service",
        }
    }
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<(), Failure> {
    let db = database::connect(settings, 1).await?;
    match verb {
        Verb::Create { role, name, scopes, days } => {
            let new = NewKey { role: role.word(), name: &name, scopes: &scopes, lives_days: days };
            say!("{}", make_key(&db, &settings.environment, new).await?);
        }
        Verb::List => list(&db).await?,
        Verb::Revoke { id } => {
            let revoked = sqlx::query(
                "-- access_key_revoke
                update shop.access_key set revoked_at = saga.now()
                where id = $1 and revoked_at is null",
            )
            .bind(id)
            .execute(&db)
            .await?;
            if revoked.rows_affected() == 0 {
                return Err(Failure::usage(format!("there is no live key {id}; see `token list`")));
            }
            say!("revoked; every process refuses it within a second");
        }
    }
    Ok(())
}

async fn list(db: &sqlx::PgPool) -> Result<(), Failure> {
    type Row = (Uuid, String, String, Vec<String>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let rows: Vec<Row> = sqlx::query_as(
        "-- access_key_list
        select id, role, name, scopes,
               case when expires_at < '9999-01-01' then expires_at
                    when expires_at is not null then '9999-01-01 00:00+00' end,
               revoked_at
        from shop.access_key order by id",
    )
    .fetch_all(db)
    .await?;
    for (id, role, name, scopes, expires_at, revoked_at) in rows {
        let state = match (revoked_at, expires_at) {
            (Some(at), _) => format!("revoked {}", at.format("%F")),
            (None, Some(at)) => format!("expires {}", at.format("%F")),
            (None, None) => "does not expire".to_owned(),
        };
        say!("{id}  {role:<8}  {name}  {state}  {}", scopes.join(","));
    }
    Ok(())
}
