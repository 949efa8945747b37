//! Logs go to standard error: as text on a terminal, as JSON lines everywhere else.

use std::io::IsTerminal;

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::Failure;

/// The modules of libraries that log personal data or passwords, each with the most verbose level that `--log` may give it.
///
/// lapin logs a message that comes back from the broker as unroutable, at WARN with the whole body. At TRACE it logs the frames that
/// it sends, receives or discards, with the bodies and the password in them. sqlx logs the parameters of the database's address
/// that it does not know, such as a client key's password, with their values.
const RESTRICTED: [(&str, LevelFilter); 5] = [
    ("lapin::returned_messages", LevelFilter::OFF),
    ("lapin::io_loop", LevelFilter::DEBUG),
    ("lapin::frames", LevelFilter::DEBUG),
    ("lapin::channels", LevelFilter::DEBUG),
    ("sqlx_postgres::options::parse", LevelFilter::OFF),
];

/// Starts logging with this filter.
pub(super) fn start(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log is not a valid filter: {error}")))?;
    let registry = filtered(filter);
    let started = if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init()
    } else {
        registry.with(fmt::layer().with_writer(std::io::stderr).json()).try_init()
    };
    started.map_err(|error| Failure::failed("cannot start logging", error))
}

/// A registry of the events that the filter selects, without those that may hold personal data or passwords.
fn filtered(
    filter: EnvFilter,
) -> impl Subscriber + for<'span> LookupSpan<'span> + Send + Sync + 'static {
    tracing_subscriber::registry().with(filter).with(filter_fn(may_be_logged))
}

fn may_be_logged(event: &Metadata<'_>) -> bool {
    RESTRICTED.iter().all(|(module, most)| event.target() != *module || event.level() <= most)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, sync::Arc};

    use super::*;

    #[test]
    fn no_filter_lets_bodies_and_passwords_into_the_log() {
        for filter in ["trace", "lapin=trace,sqlx_postgres=trace", "lapin::returned_messages=warn"]
        {
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            let to_log = fmt::layer().with_writer(Arc::new(writer));
            let subscriber = filtered(EnvFilter::new(filter)).with(to_log);
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "lapin::returned_messages", "secret");
                tracing::trace!(target: "lapin::io_loop", "secret");
                tracing::trace!(target: "lapin::frames", "secret");
                tracing::trace!(target: "lapin::channels", "secret");
                tracing::warn!(target: "sqlx_postgres::options::parse", "secret");
                tracing::error!(target: "lapin::channels", "the connection failed");
                tracing::warn!(target: "lapin::returned_messages_of_another", "another module");
            });
            let mut log = String::new();
            reader.read_to_string(&mut log).expect("it ends with the subscriber");
            assert!(!log.contains("secret"), "{filter}: {log}");
            if filter == "trace" {
                assert!(log.contains("the connection failed"), "{log}");
                assert!(log.contains("another module"), "{log}");
            }
        }
    }
}
