//! Graceful shutdown. At the first SIGTERM, Ctrl-C, closed terminal or SIGQUIT all parts of the process finish their work and end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// The signal to all parts of the process to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Stops the process at the first SIGTERM, SIGINT, SIGHUP or SIGQUIT. A second signal ends the process immediately.
    pub fn on_signal() -> Result<Self, Failure> {
        let shutdown = Self::default();
        let cannot = |error| Failure::failed("cannot listen for signals", error);
        let mut term = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut int = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut hup = signal(SignalKind::hangup()).map_err(cannot)?;
        let mut quit = signal(SignalKind::quit()).map_err(cannot)?;
        let stop = shutdown.0.clone();
        tokio::spawn(async move {
            for count in 1.. {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                    _ = hup.recv() => {}
                    _ = quit.recv() => {}
                }
                if count > 1 {
                    std::process::exit(130);
                }
                tracing::info!("stopping; a second signal ends the process at once");
                stop.cancel();
            }
        });
        Ok(shutdown)
    }

    /// The token that all parts watch.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
