//! Whether trying again helps when the database has failed. SQLSTATEs are judged here and nowhere else.

use sqlx::{
    Error,
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};

/// The kind of an error of the database, by which a caller knows whether trying again helps.
///
/// ```
/// use stepwise_engine::database::Failure;
///
/// assert!(Failure::of(&sqlx::Error::PoolTimedOut).is_worth_retrying());
/// assert!(!Failure::of(&sqlx::Error::ColumnNotFound("price".to_owned())).is_worth_retrying());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The transaction lost a race: a deadlock or a serialization failure; or a partition or a column came while it was under way. Run again as a
    /// whole it may succeed, and need not wait.
    LostRace,
    /// A lock was not free in time.
    Locked,
    /// The server takes no writes for now: it was switched to read-only, or is a standby.
    ReadOnly,
    /// The server has no room on its disk for what is to be written.
    DiskFull,
    /// The server does not answer, or takes no connections.
    Away,
    /// The server or the pool has no connection, memory or time left for it, or an operator has stopped it.
    Overloaded,
    /// The statement does not fit the schema or the rights of the role: a missing column, another type. The same again fails until somebody
    /// deploys something, whatever the data.
    Schema,
    /// The database refuses these very data (a constraint, a number out of range), or what it answers is not what the code expects.
    Refused,
}

impl Failure {
    /// Judges an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Database(refusal) => Self::of_refusal(refusal.as_ref()),
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::WorkerCrashed
            | Error::BeginFailed => Self::Away,
            Error::PoolTimedOut | Error::PoolClosed => Self::Overloaded,
            Error::ColumnNotFound(_)
            | Error::ColumnDecode { .. }
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::TypeNotFound { .. } => Self::Schema,
            _ => Self::Refused,
        }
    }

    /// The classes of SQLSTATE: 08 connection, 40 rollback, 53 resources, 57 intervention, 58 system, XX internal; 28 login, 3D database,
    /// 3F schema, 42 names, types and rights.
    fn of_refusal(refusal: &dyn DatabaseError) -> Self {
        let code = refusal.code().unwrap_or_default();
        let class = code.get(..2).unwrap_or_default();
        match (class, &*code) {
            ("40", _) => Self::LostRace,
            (_, "23514") if is_of_new_partition(refusal) => Self::LostRace,
            (_, "0A000") if is_of_stale_plan(refusal) => Self::LostRace,
            (_, "55P03") => Self::Locked,
            (_, "25006") => Self::ReadOnly,
            (_, "53100") => Self::DiskFull,
            ("XX", _) if ends_session(refusal) => Self::Away,
            ("08", _) | (_, "53300") => Self::Away,
            (_, code) if code.starts_with("57P") => Self::Away,
            ("53" | "57" | "58", _) | (_, "25P03" | "25P04") => Self::Overloaded,
            ("28" | "3D" | "3F" | "42", _) => Self::Schema,
            _ => Self::Refused,
        }
    }

    /// May the same succeed later, without anybody changing the code, the schema or the data?
    #[must_use]
    pub fn is_worth_retrying(self) -> bool {
        !matches!(self, Self::Schema | Self::Refused)
    }
}

/// The partition of a journal row was attached while the statement waited to write the row into the default partition: Postgres reports a check
/// violation of a constraint that has no name.
fn is_of_new_partition(refusal: &dyn DatabaseError) -> bool {
    refusal.constraint().is_none()
        && refusal.table().is_some_and(|table| table.starts_with("journal"))
}

/// The server ends the session with this error, or never began it.
fn ends_session(refusal: &dyn DatabaseError) -> bool {
    refusal
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|refusal| matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// A column came since this connection prepared the statement: "cached plan must not change result type".
fn is_of_stale_plan(refusal: &dyn DatabaseError) -> bool {
    refusal
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|refusal| refusal.routine() == Some("RevalidateCachedQuery"))
}
