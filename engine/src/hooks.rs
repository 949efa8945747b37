//! Where tests of the engine get in: stop a worker dead at a site, leave the fence out. Switched off they cost one look at an `Option`.

use std::{fmt, sync::Arc};

/// A point at which a process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// An instance was claimed, nothing was done with it yet.
    Claimed,
    /// An activity, a probe or an undo is about to be called.
    BeforeCall,
    /// It answered; nobody has written that down.
    AfterCall,
    /// A transition is about to become durable (its own transaction, if it has one, is written but not committed).
    BeforeCommit,
    /// A transition is durable; the driver does not know it yet.
    AfterCommit,
}

/// Asked at every site; `true` stops the driver there for ever, as a crash would.
pub type StopsAt = Arc<dyn Fn(Site) -> bool + Send + Sync>;

/// Switches for tests; all off by default.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Where to stop dead.
    pub stops_at: Option<StopsAt>,
    /// Sabotage: commits of a lane do not test (epoch, seq), and who was taken over is not noticed. Tests of the fence must fail.
    pub without_fence: bool,
}

impl Hooks {
    pub(crate) async fn at(&self, site: Site) {
        if let Some(stops_at) = &self.stops_at
            && stops_at(site)
        {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks(stops: {}, fence: {})", self.stops_at.is_some(), !self.without_fence)
    }
}
