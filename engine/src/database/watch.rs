//! The look at the database once a second, so that trouble is known also to a process that has nothing to do with it just now.

use std::time::Duration;

use sqlx::{PgConnection, postgres::PgConnectOptions};

use super::{Waits, condition, connect, note, within};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks once a second how the database is, over a connection of its own, until dropped. What it finds is the process's
/// [`condition`](super::condition()).
pub async fn watch(options: PgConnectOptions) {
    let mut connection = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // One that says it is read-only is left as well: the next may lead to the server that has taken over.
        connection = look(&options, connection.take()).await;
    }
}

async fn look(options: &PgConnectOptions, open: Option<PgConnection>) -> Option<PgConnection> {
    let mut connection = match open {
        Some(open) => open,
        None => match connect(options.clone(), Waits::USUAL).await {
            Ok(fresh) => fresh,
            Err(error) => {
                note(&error);
                return None;
            }
        },
    };
    match within(ANSWER, condition::ask(&mut connection)).await {
        Ok(true) => Some(connection),
        Ok(false) | Err(_) => None,
    }
}
