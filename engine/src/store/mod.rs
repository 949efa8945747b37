//! The SQL of instances: reading a row, writing a commit with all that goes with it (one file for each part of it), notices, the schema.
//!
//! It writes what it is given and decides nothing; no saga's types are known here. It uses [`crate::record`] and below. Workers, callers and
//! operators use it.

pub(crate) mod commit;
pub(crate) mod effect;
pub(crate) mod family;
pub(crate) mod instance;
pub(crate) mod join;
pub mod migrations;
pub(crate) mod new_instance;
pub mod notice;
pub(crate) mod signal;
pub(crate) mod wake;
pub(crate) mod watch;

pub(crate) use self::{
    effect::{reference, references, take_effects_back},
    instance::{instance, instances, leave, lock_instance, stick},
    signal::{insert_signal, kept_signals, note_signal, refuse_kept_signals, take_signals},
};
