//! The payment methods of the sandbox, each of which behaves or misbehaves in one way.

use super::ledger::LineResult;

/// The behaviour of an authorization on its confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SandboxMethod {
    /// Confirms at once.
    Ok,
    /// Is declined by the issuer.
    Declined,
    /// Is refused, because this kind of card is not accepted.
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
    /// All methods.
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

    /// The method's name.
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

    /// The token that chooses the method: `pm_sandbox_` and its name.
    #[must_use]
    pub fn token(self) -> String {
        format!("pm_sandbox_{}", self.name())
    }

    /// The method of a token. `_` and any text may follow the name, so that every
    /// customer can have a token of their own.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::from_tail(token.strip_prefix("pm_sandbox_")?)
    }

    /// The method of a reference, which consists of `pi_`, the name, `_` and the unique part.
    pub(super) fn from_reference(reference: &str) -> Option<Self> {
        Self::from_tail(reference.strip_prefix("pi_")?)
    }

    /// The result of its confirm, if the confirm has one.
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
