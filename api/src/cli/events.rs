//! `stepwise events`: prints integration events, one CloudEvent a line.

use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use futures::StreamExt;
use stepwise_engine::outbox::{Feed, FeedError};
use stepwise_workflows::cloud_event::Envelopes;

use super::{
    Failure, Shutdown, database, folder::Folder, keys, output::say, parts, settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print published events, and new ones as they come, until Ctrl-C.
    #[command(after_help = "Example: stepwise events tail --from newest | jq .type")]
    Tail {
        /// The position of the first event to print
        #[arg(long, default_value = "oldest")]
        from: From,
        /// End after this many events
        #[arg(long, value_name = "N")]
        count: Option<usize>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum From {
    Oldest,
    Newest,
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<(), Failure> {
    let Verb::Tail { from, count } = verb;
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let db = database::connect(settings, 2).await?;
    let envelopes =
        Envelopes::new(Arc::new(keys::open(&folder, &db).await?), &parts::shop_url(settings));
    let feed = Feed::new(db);
    let position = match from {
        From::Oldest => feed.oldest().await,
        From::Newest => feed.newest().await,
    };
    let position = position.map_err(into_failure)?;
    let events = feed.tail(position).take_until(shutdown.token().cancelled_owned());
    let mut events = Box::pin(events.take(count.unwrap_or(usize::MAX)));
    while let Some(published) = events.next().await {
        let message = published.map_err(into_failure)?.message;
        let event = match envelopes.wrap(&message).await {
            Ok(event) => event,
            Err(error) if error.is_temporary() => {
                return Err(Failure::failed("the key store does not answer", error));
            }
            Err(error) => {
                tracing::error!(id = %message.message_id, %error, "cannot show an event");
                continue;
            }
        };
        let line = serde_json::to_string(&event).expect("an event is plain data");
        say!("{line}");
    }
    Ok(())
}

fn into_failure(error: FeedError) -> Failure {
    match error {
        FeedError::Database(error) => error.into(),
        FeedError::NotAPosition | FeedError::Forgotten => {
            Failure::failed("cannot read events from that position", error)
        }
    }
}
