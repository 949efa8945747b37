//! Graceful shutdown. At the first SIGTERM, Ctrl-C, closed terminal or SIGQUIT all parts of the process finish their work and end.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// Signals that come sooner after the first one are the same stop: a terminal that closes hangs up twice, by its shell and by the kernel, and
/// `timeout` terminates its child and its group.
const SAME_STOP: Duration = Duration::from_secs(1);

/// The signal to all parts of the process to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Stops the process at the first SIGTERM, SIGINT, SIGHUP or SIGQUIT. A second signal, a second
    /// later or more, ends the process immediately.
    pub fn on_signal() -> Result<Self, Failure> {
        let shutdown = Self::default();
        let cannot = |error| Failure::failed("cannot listen for signals", error);
        let mut term = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut int = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut hup = signal(SignalKind::hangup()).map_err(cannot)?;
        let mut quit = signal(SignalKind::quit()).map_err(cannot)?;
        let stop = shutdown.0.clone();
        tokio::spawn(async move {
            let mut told: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                    _ = hup.recv() => {}
                    _ = quit.recv() => {}
                }
                match told {
                    Some(first) if first.elapsed() < SAME_STOP => {}
                    Some(_) => std::process::exit(130),
                    None => {
                        told = Some(Instant::now());
                        tracing::info!("stopping; a second signal ends the process at once");
                        stop.cancel();
                    }
                }
            }
        });
        Ok(shutdown)
    }

    /// The token that all parts watch.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
