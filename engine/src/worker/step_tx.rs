//! The transaction in which a tx step or a tx undo runs, and everything else that the engine knows then.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::worker::{
    engine::Engine,
    hand_over::{HandOver, Starts},
};

/// The transaction of a tx step or a tx undo. It derefs to the connection.
///
/// The engine commits it with the transition, or rolls it back. Instances that the step starts in it are driven after that commit.
///
/// ```
/// use stepwise_engine::{StepError, StepTx};
///
/// /// As a tx step may do it: a row that says which instance has written it.
/// async fn hold(tx: &mut StepTx<'_>, guest: i32) -> Result<(), StepError> {
///     let by = tx.instance();
///     sqlx::query("insert into hold (guest, held_by) values ($1, $2)")
///         .bind(guest)
///         .bind(by)
///         .execute(&mut **tx)
///         .await?;
///     Ok(())
/// }
/// ```
pub struct StepTx<'a> {
    pub(crate) connection: &'a mut PgConnection,
    pub(crate) started: &'a mut HandOver,
    pub(crate) engine: &'a Engine,
    pub(crate) about: About<'a>,
}

/// The instance whose step it is.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) id: Uuid,
    pub(crate) subject: &'a str,
    pub(crate) because: Option<&'a str>,
    pub(crate) is_undo: bool,
}

impl<'a> StepTx<'a> {
    /// The instance whose step it is.
    #[must_use]
    pub fn instance(&self) -> Uuid {
        self.about.id
    }

    /// The instance's subject.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        self.about.subject
    }

    /// The text with which the instance was started ([`crate::Start::because`]), or else its parent.
    #[must_use]
    pub fn because(&self) -> Option<&'a str> {
        self.about.because
    }

    /// Is a step taken back, and not done?
    #[must_use]
    pub fn is_undo(&self) -> bool {
        self.about.is_undo
    }

    /// The engine, with which the step starts and signals other instances.
    #[must_use]
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }
}

impl Deref for StepTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for StepTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

impl Starts for StepTx<'_> {
    fn parts(&mut self) -> (&mut PgConnection, &mut HandOver) {
        (&mut *self.connection, &mut *self.started)
    }
}
