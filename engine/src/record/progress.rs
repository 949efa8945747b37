//! How far an instance has come, beside its state and steps: the plain columns of its row. [`columns`] names each of them, and nothing else does.
//!
//! A row that was read, the instance in memory and the commit of a transition hold the same [`Progress`]. A new column is a line in the list and a
//! migration. If transitions write it, the migration makes a new row type for them, with the column in the place that it has here.

use sqlx::{
    Decode, Postgres, Row as _, Type,
    error::BoxDynError,
    postgres::{PgRow, types::PgRecordEncoder},
};
use uuid::Uuid;

/// Hands the list to a macro: each column with its field, its type, and how SQL names or makes it. `i` is the row of the table.
macro_rules! columns {
    ($($to:tt)+) => {
        $($to)+! {
            written by transitions {
                /// It only goes forward.
                past_pivot: bool = "past_pivot",
                /// Failed attempts at the pending step.
                attempt: i16 = "attempt",
                /// The number of times that the provider answered that the pending step was not done.
                answers: i16 = "unknowns",
                /// The pending call may have been done: the provider is asked first.
                unsettled: bool = "unsettled",
                /// Signals that came early and are kept.
                kept: i16 = "kept",
                last_error: Option<String> = "last_error",
            }
            only read {
                /// The instance whose child it is.
                parent: Option<Uuid> = "i.parent_id",
                /// Its parent may still take it back. The column is called `held`.
                bound_to_parent: bool = "i.held",
                /// It has ended, or waits at its end for its parent.
                ended: bool = "i.ended_at is not null",
                /// It waited or waits its turn: others may wait for its end.
                in_queue: bool = "i.queue_key is not null",
                // Hot statements write out the body of `saga.now()`: a call costs twice as much.
                timer_due: bool = "coalesce(i.timer_at <= (select now() + c.offset_by from saga.clock c), false)",
                /// The text with which it was started, or else its parent ([`crate::Start::because`]).
                because: Option<String> = "i.because",
                /// Operators were told that the pending step takes long.
                slow: bool = "i.slow",
            }
        }
    };
}

macro_rules! progress {
    (
        written by transitions { $($(#[$about:meta])* $written:ident: $written_as:ty = $column:literal,)* }
        only read { $($(#[$about_read:meta])* $read:ident: $read_as:ty = $sql:literal,)* }
    ) => {
        /// The plain columns of an instance, as they were read or are to be written.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Progress {
            $($(#[$about])* pub(crate) $written: $written_as,)*
            $($(#[$about_read])* pub(crate) $read: $read_as,)*
        }

        impl Progress {
            /// Takes what [`selected`] lists.
            pub(crate) fn read(columns: &mut Columns<'_>) -> sqlx::Result<Self> {
                Ok(Self { $($written: columns.take()?,)* $($read: columns.take()?,)* })
            }

            /// Appends what transitions write to a row that is sent.
            pub(crate) fn write(&self, row: &mut PgRecordEncoder<'_>) -> Result<(), BoxDynError> {
                $(row.encode(&self.$written)?;)*
                Ok(())
            }
        }
    };
}

columns!(progress);

/// The beginning of a select list.
macro_rules! selected {
    (
        written by transitions { $($(#[$_about:meta])* $_written:ident: $_type:ty = $column:literal,)* }
        only read { $($(#[$_about_read:meta])* $_read:ident: $_read_as:ty = $sql:literal,)* }
    ) => {
        concat!($("i.", $column, ", ",)* $($sql, ", ",)*)
    };
}

/// The beginning of what an update sets, from a row `f` of the type that transitions are sent as.
macro_rules! assigned {
    (
        written by transitions { $($(#[$_about:meta])* $_written:ident: $_type:ty = $column:literal,)* }
        only read { $($_read:tt)* }
    ) => {
        concat!($($column, " = f.", $column, ", ",)*)
    };
}

pub(crate) use {assigned, columns, selected};

/// Takes the columns of a row one after the other, in the order of the select list.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    pub(crate) fn take<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> sqlx::Result<T> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }
}
