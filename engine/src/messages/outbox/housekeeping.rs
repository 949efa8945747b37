//! The relay's tasks that publishing never waits for.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time::sleep;

use super::{Feed, FeedError, Publisher, lease::Holding, store};
use crate::{
    database::{Listener, trouble::Trouble, within},
    messages::inbox,
};

/// For how long a sender may repeat a message to us.
const REPETITIONS: Duration = Duration::from_secs(30 * 24 * 3600);

const EVERY: Duration = Duration::from_secs(5);

const STATEMENT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_secs(1);

/// Every 5 s: deletes old messages of the feed and the inbox.
pub(super) async fn keep_house(pool: PgPool, holding: Arc<Holding>, keep: Duration) {
    let trouble = Trouble::new("the relay cannot delete old messages");
    loop {
        let kept: Result<(), sqlx::Error> = async {
            let feed = Feed::new(pool.clone());
            let forget = async {
                match feed.forget(&holding.shards(), keep).await {
                    Err(FeedError::Database(error)) => Err(error),
                    Ok(_) | Err(FeedError::NotAPosition | FeedError::Forgotten) => Ok(()),
                }
            };
            within(STATEMENT, forget).await?;
            within(STATEMENT, inbox::forget(&pool, REPETITIONS)).await?;
            Ok(())
        }
        .await;
        match kept {
            Ok(()) => trouble.end(),
            Err(error) => trouble.begin_with(&error),
        }
        sleep(EVERY).await;
    }
}

/// Lets the publisher connect, and connect again.
pub(super) async fn attend(publisher: Arc<dyn Publisher>) {
    loop {
        publisher.attend().await;
        sleep(PAUSE).await;
    }
}

/// Turns notifications from other processes into hints. Without it, messages are found by polling.
pub(super) async fn listen(pool: PgPool) {
    let trouble = Trouble::new("the relay receives no notifications; it polls instead");
    loop {
        let listened: Result<(), sqlx::Error> = async {
            let mut listener = Listener::open(&pool, store::WAKE).await?;
            trouble.end();
            loop {
                listener.next().await?;
                super::hint();
            }
        }
        .await;
        if let Err(error) = listened {
            trouble.begin_with(&error);
        }
        sleep(PAUSE).await;
    }
}
