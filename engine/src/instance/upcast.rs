//! Stored data of earlier versions, brought up to the version that this binary knows.
//!
//! A row of an earlier version is converted when it is read ([`Saga::upcast`], one version at a time), and its next commit stores the new form. A row
//! of this binary's version costs one comparison. Data that cannot be converted or does not fit is a [`Misfit`]: the instance gets stuck, and the
//! worker continues.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    base::{build, limits::Unstorable},
    record::kinds::SagaVersion,
    record::row::Row,
    saga::{
        Done, Saga,
        upcast::{Part, UpcastError},
    },
};

/// Why a row could not be read, or its new form not be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Stored(#[from] Misfit),
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Why this binary cannot read stored data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("{0} is not known here")]
    Unknown(SagaVersion),
    #[error("the stored {part} does not fit: {error}")]
    Json { part: &'static str, error: serde_json::Error },
    #[error(transparent)]
    Upcast(#[from] UpcastError),
    #[error("upcast from {from} to {} panicked for {part}", from + 1)]
    Panicked { from: u16, part: Part },
    #[error("a newer build wrote it, and this one cannot read it: {0}")]
    OfNewerBuild(String),
}

impl Misfit {
    /// The same for a row that this build wrote last.
    pub(crate) fn of_build(self, build: i64) -> Self {
        match self {
            Self::Unknown(_) | Self::OfNewerBuild(_) => self,
            misfit if build > build::made_at() => Self::OfNewerBuild(misfit.to_string()),
            misfit => misfit,
        }
    }
}

/// Gives a type to JSON of this binary's version.
pub(crate) fn read<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, Misfit> {
    serde_json::from_str(text).map_err(|error| Misfit::Json { part, error })
}

/// A signal that was stored by `version`.
pub(crate) fn signal<S: Saga>(version: i16, text: &str) -> Result<S::Signal, Misfit> {
    let from = version.cast_unsigned();
    if from >= S::VERSION {
        return read("signal", text);
    }
    read("signal", &up::<S>(from, Part::Signal, read("signal", text)?)?.to_string())
}

/// A step that was stored by `version`.
pub(crate) fn step<S: Saga>(version: i16, text: &str) -> Result<S::Step, Misfit> {
    let json = up::<S>(version.cast_unsigned(), Part::Step, read("step", text)?)?;
    read("step", &json.to_string())
}

/// Reads the step that a watched effect's undo takes back: `undo` is `"step"`, or the undo itself as an earlier release recorded it.
pub(crate) fn watched<S: Saga>(
    version: i16,
    step: &str,
    undo: &str,
) -> Result<Done<S::Step>, Misfit> {
    let mut recorded: Value = read("undo", undo)?;
    let undo =
        ["/tx", "/activity"].into_iter().find_map(|at| recorded.pointer_mut(at).map(Value::take));
    let Some(undo) = undo else { return Ok(Done::Step(self::step::<S>(version, step)?)) };
    let undo = up::<S>(version.cast_unsigned(), Part::CallerStep, undo)?;
    Ok(Done::Caller(read("undo", &undo.to_string())?))
}

/// The row of an earlier version with its JSON in the shape of this one.
pub(crate) fn row<S: Saga>(mut row: Row) -> Result<Row, Misfit> {
    let from = row.saga.version.cast_unsigned();
    row.state = up::<S>(from, Part::State, read("state", &row.state)?)?.to_string();
    if let Some(reason) = &mut row.reason {
        *reason = up::<S>(from, Part::Reason, read("reason", reason)?)?.to_string();
    }
    let mut pending: Value = read("pending step", &row.pending)?;
    for (at, part) in [
        ("/run/step", Part::Step),
        ("/call/activity", Part::Step),
        ("/timer/event", Part::Event),
        ("/event/event", Part::Event),
    ] {
        up_at::<S>(&mut pending, at, from, part)?;
    }
    row.pending = pending.to_string();
    let mut undos: Vec<Value> = read("open undos", &row.undos)?;
    for undo in &mut undos {
        up_at::<S>(undo, "/step", from, Part::Step)?;
        for at in ["/caller", "/by/tx", "/by/activity"] {
            up_at::<S>(undo, at, from, Part::CallerStep)?;
        }
    }
    row.undos = Value::Array(undos).to_string();
    row.saga.version = S::VERSION.cast_signed();
    Ok(row)
}

fn up_at<S: Saga>(json: &mut Value, at: &str, from: u16, part: Part) -> Result<(), Misfit> {
    if let Some(place) = json.pointer_mut(at) {
        *place = up::<S>(from, part, place.take())?;
    }
    Ok(())
}

/// Converts one version after the other. A panic of the saga's code must not end the worker.
pub(crate) fn up<S: Saga>(from: u16, part: Part, mut json: Value) -> Result<Value, Misfit> {
    for from in from..S::VERSION {
        json = catch_unwind(AssertUnwindSafe(|| S::upcast(from, part, json)))
            .map_err(|_| Misfit::Panicked { from, part })??;
    }
    Ok(json)
}
