//! A row of `saga.instance` as it is claimed and re-read.

use sqlx::{FromRow, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::base::status::Status;

/// JSON stays text here; [`crate::instance::Instance::from_row`] gives it types.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) shard: i16,
    pub(crate) saga_id: Uuid,
    pub(crate) name: String,
    pub(crate) version: i16,
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) status: Status,
    pub(crate) state: String,
    pub(crate) pending: String,
    pub(crate) undos: String,
    pub(crate) reason: Option<String>,
    pub(crate) past_pivot: bool,
    pub(crate) attempt: i16,
    /// Answers of the provider that the pending step was not done: the column `unknowns`.
    pub(crate) answers: i16,
    pub(crate) unsettled: bool,
    pub(crate) kept: i16,
    pub(crate) last_error: Option<String>,
    pub(crate) epoch: i32,
    pub(crate) seq: i32,
    pub(crate) owner: Option<Uuid>,
    pub(crate) timer_due: bool,
    pub(crate) parent: Option<Uuid>,
    pub(crate) suspect: bool,
    pub(crate) held: bool,
    pub(crate) ended: bool,
    pub(crate) in_queue: bool,
    /// That wrote it last ([`crate::base::build`]).
    pub(crate) build: i64,
    /// How long the pending step has been failing, in milliseconds of business time.
    pub(crate) failing_ms: Option<i64>,
    pub(crate) slow: bool,
}

/// The select list that [`Row`] reads, for a table alias `i`. What `saga.now()` says is written out in hot statements: its body would be
/// planned again for each.
macro_rules! row_columns {
    () => {
        "i.shard, i.saga_id, i.name, i.subject, i.status, i.state::text, i.pending::text, i.undos::text, \
         i.reason::text, i.past_pivot, i.attempt, i.unknowns, i.unsettled, i.kept, i.last_error, i.epoch, i.seq, i.owner, \
         coalesce(i.timer_at <= (select now() + c.offset_by from saga.clock c), false) as timer_due, i.held, i.ended_at is not null as ended, i.version, i.start_key, i.parent_id, \
         i.queue_key is not null as in_queue, i.suspect, coalesce(i.build, 0), \
         case when i.failing_since is not null then (select extract(epoch from now() + c.offset_by - i.failing_since) * 1000 from saga.clock c)::bigint end \
         as failing_ms, i.slow"
    };
}

pub(crate) use row_columns;

/// A time, null included, as it can be read and shown: what lies before the year 1 or after 9999, or is infinite, is shown as the first or last day
/// of those. Postgres knows times that Rust cannot read; one of them must not keep a whole list from being read.
macro_rules! readable_time {
    ($column:literal) => {
        concat!(
            "case when ",
            $column,
            " is not null then greatest(least(",
            $column,
            ", '9999-12-31Z'), '0001-01-01Z') end"
        )
    };
}

pub(crate) use readable_time;

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            shard: row.try_get(0)?,
            saga_id: row.try_get(1)?,
            name: row.try_get(2)?,
            subject: row.try_get(3)?,
            status: row.try_get(4)?,
            state: row.try_get(5)?,
            pending: row.try_get(6)?,
            undos: row.try_get(7)?,
            reason: row.try_get(8)?,
            past_pivot: row.try_get(9)?,
            attempt: row.try_get(10)?,
            answers: row.try_get(11)?,
            unsettled: row.try_get(12)?,
            kept: row.try_get(13)?,
            last_error: row.try_get(14)?,
            epoch: row.try_get(15)?,
            seq: row.try_get(16)?,
            owner: row.try_get(17)?,
            timer_due: row.try_get(18)?,
            held: row.try_get(19)?,
            ended: row.try_get(20)?,
            version: row.try_get(21)?,
            start_key: row.try_get(22)?,
            parent: row.try_get(23)?,
            in_queue: row.try_get(24)?,
            suspect: row.try_get(25)?,
            build: row.try_get(26)?,
            failing_ms: row.try_get(27)?,
            slow: row.try_get(28)?,
        })
    }
}

/// Says what row type of the schema a struct with one lifetime is sent as; its fields stand in the type's order.
macro_rules! row_type {
    ($sent:ident, $name:literal) => {
        impl sqlx::Type<sqlx::Postgres> for $sent<'_> {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::with_name($name)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $sent<'_> {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::array_of($name)
            }
        }
    };
}

pub(crate) use row_type;
