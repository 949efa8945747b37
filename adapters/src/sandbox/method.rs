//! The payment methods of the sandbox: which way each of them behaves, or misbehaves.

use super::ledger::LineResult;

/// How an authorization behaves on its confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SandboxMethod {
    /// Confirms at once.
    Ok,
    /// The issuer says no.
    Declined,
    /// This kind of card is not taken.
    Unsupported,
    /// Confirms at once and answers late.
    Slow,
    /// Never acts and never answers.
    TimeoutBefore,
    /// Confirms and never answers.
    TimeoutAfter,
    /// Never answers, and confirms long after the caller has given up.
    ActsLate,
    /// Confirms, and sends its webhook twice.
    Twice,
    /// Needs the customer's approval first.
    Challenge,
}

impl SandboxMethod {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Declined,
        Self::Unsupported,
        Self::Slow,
        Self::TimeoutBefore,
        Self::TimeoutAfter,
        Self::ActsLate,
        Self::Twice,
        Self::Challenge,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Declined => "declined",
            Self::Unsupported => "unsupported",
            Self::Slow => "slow",
            Self::TimeoutBefore => "timeoutBefore",
            Self::TimeoutAfter => "timeoutAfter",
            Self::ActsLate => "actsLate",
            Self::Twice => "twice",
            Self::Challenge => "challenge",
        }
    }

    /// The token that chooses it: `pm_sandbox_` and its name.
    #[must_use]
    pub fn token(self) -> String {
        format!("pm_sandbox_{}", self.name())
    }

    /// The method behind a token; after the name, `_` and anything may follow, so that every
    /// customer can have a token of their own.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::from_tail(token.strip_prefix("pm_sandbox_")?)
    }

    /// The method behind a reference: `pi_`, its name, `_` and the unique part.
    pub(super) fn from_reference(reference: &str) -> Option<Self> {
        Self::from_tail(reference.strip_prefix("pi_")?)
    }

    /// What its confirm comes to, when it comes to anything.
    pub(super) fn result(self) -> LineResult {
        match self {
            Self::Declined => LineResult::Declined,
            Self::Unsupported => LineResult::Unsupported,
            Self::Challenge => LineResult::ApprovalRequired,
            Self::Ok
            | Self::Slow
            | Self::TimeoutBefore
            | Self::TimeoutAfter
            | Self::ActsLate
            | Self::Twice => LineResult::Confirmed,
        }
    }

    fn from_tail(tail: &str) -> Option<Self> {
        let name = tail.split('_').next()?;
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}
