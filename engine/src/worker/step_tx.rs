//! The transaction in which tx steps and tx undos run, and everything else that the engine knows then.

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
    pub(crate) of: StepOf<'a>,
    pub(crate) is_undo: bool,
}

/// The instance whose step it is.
///
/// ```
/// use stepwise_engine::StepOf;
///
/// /// As a step may note why it has written something.
/// fn cause(of: StepOf<'_>) -> String {
///     format!("{} by {}", of.because.unwrap_or(of.subject), of.instance)
/// }
/// let of = StepOf { instance: uuid::Uuid::nil(), subject: "guest 7", because: None };
/// assert!(cause(of).starts_with("guest 7 by 0000"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct StepOf<'a> {
    /// Its id.
    pub instance: Uuid,
    /// Its subject.
    pub subject: &'a str,
    /// The text with which it was started ([`crate::Start::because`]), or else its parent.
    pub because: Option<&'a str>,
}

/// The transaction of tx steps of several instances that are done together. It derefs to the connection.
///
/// The engine commits it with the transitions of all these instances, or rolls it back. After it is rolled back, each instance does its step alone:
/// then the method gets one instance. Instances that the steps start in it are driven after that commit.
///
/// Cost: begin, the statements of the method, 1 statement that writes all transitions, commit; however many instances share it. Errors: an error or
/// a panic of the method harms no other instance, since each is tried alone, and only one whose own step fails is tried again or gets `stuck`.
///
/// The method must heed more than that of a step that is done alone:
/// - Two instances of one call may have the same subject, or change the same row. `update .. from unnest(..)` applies only one of several tuples to a row
///   without an error, so add up the tuples of each row first (`group by`).
/// - Lock rows in one order (`order by` their key, `for update`), whatever the order of the instances is: two calls may run at the same time, in this
///   process or another.
/// - Do not signal another instance of the same call: this changes its row, so the whole call is rolled back each time.
///
/// ```
/// use stepwise_engine::{StepError, StepOf, StepsTx};
/// # #[derive(Clone)] pub enum Event { Held }
///
/// /// As a step that is done together may do it: one statement writes the rows of all guests.
/// async fn hold(tx: &mut StepsTx<'_>, all: &[(StepOf<'_>, &i32)]) -> Result<Vec<Event>, StepError> {
///     let (by, guests): (Vec<_>, Vec<i32>) = all.iter().map(|(of, guest)| (of.instance, **guest)).unzip();
///     sqlx::query("insert into hold (guest, held_by) select * from unnest($1::int[], $2::uuid[])")
///         .bind(guests)
///         .bind(by)
///         .execute(&mut **tx)
///         .await?;
///     Ok(vec![Event::Held; all.len()])
/// }
/// ```
pub struct StepsTx<'a> {
    pub(crate) connection: &'a mut PgConnection,
    pub(crate) started: &'a mut HandOver,
    pub(crate) engine: &'a Engine,
}

impl<'a> StepsTx<'a> {
    /// The engine, with which the steps start and signal other instances.
    #[must_use]
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// The same transaction, as the step of one instance sees it.
    pub(crate) fn of<'b>(&'b mut self, of: StepOf<'b>, is_undo: bool) -> StepTx<'b> {
        let Self { connection, started, engine } = self;
        StepTx { connection, started, engine, of, is_undo }
    }
}

impl<'a> StepTx<'a> {
    /// The instance whose step it is, with all that is known of it.
    #[must_use]
    pub fn of(&self) -> StepOf<'a> {
        self.of
    }

    /// The same transaction, for code that also serves steps that are done together.
    #[must_use]
    pub fn as_steps(&mut self) -> StepsTx<'_> {
        let Self { connection, started, engine, .. } = self;
        StepsTx { connection, started, engine }
    }

    /// The instance whose step it is.
    #[must_use]
    pub fn instance(&self) -> Uuid {
        self.of.instance
    }

    /// The instance's subject.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        self.of.subject
    }

    /// The text with which the instance was started ([`crate::Start::because`]), or else its parent.
    #[must_use]
    pub fn because(&self) -> Option<&'a str> {
        self.of.because
    }

    /// Is a step taken back, and not done?
    #[must_use]
    pub fn is_undo(&self) -> bool {
        self.is_undo
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

impl Deref for StepsTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for StepsTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

impl Starts for StepsTx<'_> {
    fn parts(&mut self) -> (&mut PgConnection, &mut HandOver) {
        (&mut *self.connection, &mut *self.started)
    }
}
