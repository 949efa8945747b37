//! Logs go to standard error: as text on a terminal, as JSON lines everywhere else.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::Failure;

/// Starts logging with this filter.
pub(super) fn start(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log is not a valid filter: {error}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init()
    } else {
        registry.with(fmt::layer().with_writer(std::io::stderr).json()).try_init()
    };
    started.map_err(|error| Failure::failed("cannot start logging", error))
}
