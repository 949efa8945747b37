//! What is in the database, as plain data: a row that was read ([`row::Row`]) and what one transition writes ([`commit::Commit`]).
//!
//! [`crate::instance`] decides a commit and [`crate::store`] writes it; neither knows the other. No statement is made here. It uses
//! [`crate::base`] only.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod notice;
pub(crate) mod row;
pub(crate) mod watch;
pub(crate) mod words;
