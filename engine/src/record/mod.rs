//! The contents of the database as plain data: a row that was read ([`row::Row`]) and what one transition writes ([`commit::Commit`]). Both hold
//! the plain columns of an instance, which are listed once ([`progress::Progress`]).
//!
//! [`crate::instance`] decides a commit and [`crate::store`] writes it; neither knows the other. No statement is made here. It uses
//! [`crate::base`] only.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod kinds;
pub(crate) mod notice;
pub(crate) mod progress;
pub(crate) mod row;
pub(crate) mod watch;
pub(crate) mod words;
