//! The switches of the engine's own tests: stop a worker dead at a site, leave the fence out.
//!
//! The switches exist with the cargo feature `testing` only. A build without it has nothing that could be switched, and does nothing at a site.

#[cfg(feature = "testing")]
use std::{fmt, sync::Arc};

use sqlx::PgConnection;

use crate::store::commit::Mode;

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

/// This build has no switches.
#[cfg(not(feature = "testing"))]
#[derive(Debug, Clone, Default)]
pub struct Hooks {}

#[cfg(not(feature = "testing"))]
impl Hooks {
    pub(crate) async fn at(&self, _: Site) {}

    pub(crate) async fn before_commit(&self, _: &mut PgConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }

    pub(crate) fn gives_up(&self, _attempt: i16) -> bool {
        false
    }

    pub(crate) fn mode(&self) -> Mode {
        Mode::Skipping
    }
}

/// Switches for tests; all off by default.
#[cfg(feature = "testing")]
#[derive(Clone, Default)]
pub struct Hooks {
    /// Asked at every site; `true` stops the driver there for ever, as a crash would.
    pub stops_at: Option<Arc<dyn Fn(Site) -> bool + Send + Sync>>,
    /// Asked before a transition's own transaction commits; `true` has the database refuse it, once, as in a deadlock.
    pub refuses_commit: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// Sabotage: commit batches do not test (epoch, seq), and an instance that was taken over is not noticed. Tests of the fence must fail.
    pub without_fence: bool,
    /// Sabotage: a step is given up after so many attempts, whoever did not answer. Tests of outages must fail.
    pub gives_up_after: Option<i16>,
}

#[cfg(feature = "testing")]
impl Hooks {
    pub(crate) async fn at(&self, site: Site) {
        if let Some(stops_at) = &self.stops_at
            && stops_at(site)
        {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn before_commit(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.refuses_commit.as_ref().is_some_and(|refuses| refuses()) {
            let refusal =
                "do $$ begin raise exception 'refused by a test' using errcode = '40001'; end $$";
            sqlx::raw_sql(refusal).execute(tx).await?;
        }
        self.at(Site::BeforeCommit).await;
        Ok(())
    }

    pub(crate) fn gives_up(&self, attempt: i16) -> bool {
        self.gives_up_after.is_some_and(|most| attempt >= most)
    }

    /// How batchers commit.
    pub(crate) fn mode(&self) -> Mode {
        if self.without_fence { Mode::Unfenced } else { Mode::Skipping }
    }
}

#[cfg(feature = "testing")]
impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks(stops: {}, fence: {})", self.stops_at.is_some(), !self.without_fence)
    }
}
