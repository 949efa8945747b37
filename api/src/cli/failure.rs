//! The failure of a command: a message and an exit code.

use std::{fmt, process::ExitCode};

use stepwise_engine::{database::is_out_of_files, migrations::MigrationError};

/// A failure: one line for a person and an exit code for a script.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    line: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed = 1,
    Usage = 2,
    Dependency = 3,
    Version = 4,
}

impl Failure {
    /// Exit code 1: the command failed.
    pub fn failed(what: &str, why: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, format!("{what}: {why}"))
    }

    /// Exit code 2: wrong usage or configuration.
    pub fn usage(line: impl Into<String>) -> Self {
        Self::new(Kind::Usage, line.into())
    }

    /// Exit code 3: something needed is missing or cannot be reached.
    pub fn dependency(line: impl Into<String>) -> Self {
        Self::new(Kind::Dependency, line.into())
    }

    /// Exit code 4: versions do not fit.
    pub fn version(line: impl Into<String>) -> Self {
        Self::new(Kind::Version, line.into())
    }

    fn new(kind: Kind, line: String) -> Self {
        // A library's message may have several lines.
        Self { kind, line: line.lines().map(str::trim).collect::<Vec<_>>().join(" ") }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

/// A failure of the database while the command was using it.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            error if is_out_of_files(&error) => Self::dependency(format!(
                "this process has no file descriptor left for a connection to the database ({error}); raise its limit (ulimit -n)"
            )),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::dependency(format!(
                    "the database went away ({error}); start it and try again"
                ))
            }
            other => Self::failed("the database refused a statement", other),
        }
    }
}

impl From<MigrationError> for Failure {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Newer { .. }
            | MigrationError::Behind { .. }
            | MigrationError::Changed { .. } => Self::version(error.to_string()),
            MigrationError::Database(error) => error.into(),
            MigrationError::Refused { .. } | MigrationError::Library(_) => {
                Self::new(Kind::Failed, error.to_string())
            }
        }
    }
}
