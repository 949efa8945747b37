//! Asks the database once a second, so that a process that is idle knows of trouble as well.

use std::time::Duration;

use sqlx::{PgConnection, postgres::PgConnectOptions};

use super::{Condition, Waits, condition, connect, note, within};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Asks the database once a second how it is, over a connection of its own, until dropped. The result is the process's
/// [`condition`](super::condition()).
pub async fn watch(options: PgConnectOptions) {
    let mut connection = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A connection to a read-only server is given up as well: the next one may lead to the server that has taken over.
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
    let writes = within(ANSWER, condition::ask(&mut connection)).await.ok()?;
    if writes && condition() == Condition::DiskFull {
        within(ANSWER, condition::try_room(&mut connection)).await.ok()?;
    }
    writes.then_some(connection)
}
