//! A row of `saga.instance` as it is claimed and re-read.

use sqlx::{FromRow, postgres::PgRow};
use uuid::Uuid;

use crate::{
    base::status::Status,
    record::{
        kinds::SagaVersion,
        progress::{Columns, Progress},
    },
};

/// JSON stays text here; [`crate::instance::Instance::from_row`] gives it types.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) progress: Progress,
    pub(crate) shard: i16,
    pub(crate) saga_id: Uuid,
    /// The version that wrote it last.
    pub(crate) saga: SagaVersion,
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) status: Status,
    pub(crate) state: String,
    pub(crate) pending: String,
    pub(crate) undos: String,
    pub(crate) reason: Option<String>,
    pub(crate) epoch: i32,
    pub(crate) seq: i32,
    pub(crate) owner: Option<Uuid>,
    pub(crate) suspect: bool,
    /// The build that wrote it last ([`crate::base::build`]).
    pub(crate) build: i64,
    /// How long the pending step has been failing, in milliseconds of business time.
    pub(crate) failing_ms: Option<i64>,
}

/// The select list that [`Row`] reads, for a table alias `i`.
macro_rules! row_columns {
    () => {
        concat!(
            $crate::record::progress::columns!($crate::record::progress::selected),
            "i.shard, i.saga_id, i.name, i.version, i.subject, i.start_key, i.status, i.state::text, i.pending::text, i.undos::text, \
             i.reason::text, i.epoch, i.seq, i.owner, i.suspect, coalesce(i.build, 0), \
             case when i.failing_since is not null then (select extract(epoch from now() + c.offset_by - i.failing_since) * 1000 from saga.clock c)::bigint end \
             as failing_ms"
        )
    };
}

pub(crate) use row_columns;

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            progress: Progress::read(&mut columns)?,
            shard: columns.take()?,
            saga_id: columns.take()?,
            saga: SagaVersion { name: columns.take()?, version: columns.take()? },
            subject: columns.take()?,
            start_key: columns.take()?,
            status: columns.take()?,
            state: columns.take()?,
            pending: columns.take()?,
            undos: columns.take()?,
            reason: columns.take()?,
            epoch: columns.take()?,
            seq: columns.take()?,
            owner: columns.take()?,
            suspect: columns.take()?,
            build: columns.take()?,
            failing_ms: columns.take()?,
        })
    }
}

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

/// A struct with one lifetime, sent as a row of that type of the schema: its method `write` appends the columns in the type's order. It is what
/// sqlx's own derive makes of a struct, without the struct.
macro_rules! row_type {
    ($sent:ident, $name:literal) => {
        impl sqlx::Encode<'_, sqlx::Postgres> for $sent<'_> {
            fn encode_by_ref(
                &self,
                buffer: &mut sqlx::postgres::PgArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                let mut row = sqlx::postgres::types::PgRecordEncoder::new(buffer);
                self.write(&mut row)?;
                row.finish();
                Ok(sqlx::encode::IsNull::No)
            }
        }

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
