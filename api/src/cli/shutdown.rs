//! Ending in good order: SIGTERM, Ctrl-C, a closed terminal or SIGQUIT once, and everything finishes what it has begun.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// Tells all parts of the process when to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Stops at the first SIGTERM, SIGINT, SIGHUP or SIGQUIT; a second one ends the process on the spot.
    pub fn on_signal() -> Result<Self, Failure> {
        let shutdown = Self::default();
        let cannot = |error| Failure::failed("cannot listen for signals", error);
        let mut term = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut int = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut hup = signal(SignalKind::hangup()).map_err(cannot)?;
        let mut quit = signal(SignalKind::quit()).map_err(cannot)?;
        let told = shutdown.0.clone();
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
                tracing::info!("stopping; once more ends at once");
                told.cancel();
            }
        });
        Ok(shutdown)
    }

    /// The token all parts watch.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
