//! Whether the server lives, and whether it can work.

use poem_openapi::{Object, OpenApi};

use super::Group;
use crate::door::{caller::Anyone, problem::Problem, reply::Done};

/// The operations about the server itself.
pub struct System;

/// That a question was answered at all.
#[derive(Debug, Object)]
pub struct Health {
    /// Always `ok`: what is not ok is a problem.
    pub status: String,
    /// The version of the program.
    pub version: String,
}

impl Health {
    fn ok() -> Self {
        Self { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

#[OpenApi(tag = "Group::System")]
impl System {
    /// Whether the process lives. Asks nobody.
    #[oai(path = "/healthz", method = "get", operation_id = "health")]
    async fn health(&self, _by: Anyone) -> Result<Done<Health>, Problem> {
        Ok(Done::new(&Health::ok()))
    }

    /// Whether the process can work: the database answers.
    #[oai(path = "/readyz", method = "get", operation_id = "ready")]
    async fn ready(&self, by: Anyone) -> Result<Done<Health>, Problem> {
        sqlx::query("-- ready\nselect 1").execute(&by.door.db).await?;
        Ok(Done::new(&Health::ok()))
    }
}
