//! `stepwise events`: integration events on a terminal, one CloudEvent a line.

use std::sync::Arc;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use futures::StreamExt;
use stepwise_engine::outbox::{Feed, FeedError};
use stepwise_workflows::cloud_event::Envelopes;

use super::{Failure, Shutdown, database, folder::Folder, keys, output::say, settings::Settings};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What was published and what comes, until Ctrl-C.
    #[command(after_help = "Example: stepwise events tail --from newest | jq .type")]
    Tail {
        /// Where to begin.
        #[arg(long, default_value = "oldest")]
        from: From,
        /// End after so many
        #[arg(long, value_name = "N")]
        count: Option<usize>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    Oldest,
    Newest,
}

pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let Verb::Tail { from, count } = args.verb;
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let db = database::connect(settings, 2).await?;
    let envelopes = Envelopes::new(Arc::new(keys::open(&folder, &db).await?));
    let feed = Feed::new(db);
    let position = match from {
        From::Oldest => feed.oldest().await,
        From::Newest => feed.newest().await,
    };
    let position = position.map_err(unread)?;
    let events = feed.tail(position).take_until(shutdown.token().cancelled_owned());
    let mut events = Box::pin(events.take(count.unwrap_or(usize::MAX)));
    while let Some(published) = events.next().await {
        let message = published.map_err(unread)?.message;
        let event = match envelopes.wrap(&message).await {
            Ok(event) => event,
            Err(error) if error.is_temporary() => {
                return Err(Failure::failed("the key store does not answer", error));
            }
            Err(error) => {
                tracing::error!(id = %message.message_id, %error, "an event cannot be shown");
                continue;
            }
        };
        let line = serde_json::to_string(&event).expect("an event is plain data");
        say!("{line}");
    }
    Ok(())
}

fn unread(error: FeedError) -> Failure {
    match error {
        FeedError::Database(error) => error.into(),
        FeedError::NotAPosition | FeedError::Forgotten => {
            Failure::failed("events cannot be read from there", error)
        }
    }
}
