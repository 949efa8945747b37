//! The payment methods of the sandbox, each of which behaves or misbehaves in one way, on one operation.

use stepwise_workflows::payment::gateway::MethodToken;

use super::ledger::{LineResult, Op};
use crate::paypal::PREFIX;

/// A way to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SandboxMethod {
    /// Acts at once.
    Ok,
    /// Is declined by the issuer.
    Declined,
    /// Is refused, because this kind of card is not accepted.
    Unsupported,
    /// Acts at once and answers late.
    Slow,
    /// Never acts and never answers.
    TimeoutBefore,
    /// Acts and never answers.
    TimeoutAfter,
    /// Never answers, and acts long after the caller has given up.
    ActsLate,
    /// Acts, and sends its webhook twice.
    Twice,
    /// Needs the customer's approval first.
    Challenge,
    /// A refund is accepted, and done some time later.
    Pending,
    /// A refund is accepted, and fails some time later.
    Fails,
}

impl SandboxMethod {
    /// All methods.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Declined,
        Self::Unsupported,
        Self::Slow,
        Self::TimeoutBefore,
        Self::TimeoutAfter,
        Self::ActsLate,
        Self::Twice,
        Self::Challenge,
        Self::Pending,
        Self::Fails,
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
            Self::Pending => "pending",
            Self::Fails => "fails",
        }
    }

    /// The token that chooses the method: `pm_sandbox_` and its name.
    #[must_use]
    pub fn token(self) -> String {
        Behaviour { method: self, on: self.usual() }.token()
    }

    /// The token that chooses the method on this operation: `pm_sandbox_timeoutAfterOnCapture`. `None` if the method cannot
    /// behave so on that operation.
    #[must_use]
    pub fn token_on(self, on: Op) -> Option<String> {
        self.suits(on).then(|| Behaviour { method: self, on }.token())
    }

    /// The method of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Whether an operation can behave like this.
    pub(super) fn suits(self, on: Op) -> bool {
        match self {
            Self::Ok => true,
            Self::Slow | Self::TimeoutBefore | Self::TimeoutAfter | Self::ActsLate => {
                !matches!(on, Op::Approve | Op::Expire | Op::Settle)
            }
            Self::Declined => matches!(on, Op::Confirm | Op::Capture | Op::Refund),
            Self::Twice => matches!(on, Op::Confirm | Op::Capture | Op::Cancel | Op::Refund),
            Self::Unsupported | Self::Challenge => on == Op::Confirm,
            Self::Pending | Self::Fails => on == Op::Refund,
        }
    }

    /// The operation that behaves like this if the token names none.
    fn usual(self) -> Op {
        if matches!(self, Self::Pending | Self::Fails) { Op::Refund } else { Op::Confirm }
    }

    /// The result of a confirm, if it has one.
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
            | Self::Twice
            | Self::Pending
            | Self::Fails => LineResult::Confirmed,
        }
    }
}

/// The token that chooses the method on its usual operation.
impl From<SandboxMethod> for MethodToken {
    fn from(method: SandboxMethod) -> Self {
        Self(method.token())
    }
}

/// The behaviour of an authorization: one of its operations behaves in a special way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behaviour {
    method: SandboxMethod,
    on: Op,
}

/// The operations that a token can name, with its word for each.
const OPERATIONS: [(&str, Op); 4] = [
    ("OnCreate", Op::Create),
    ("OnCapture", Op::Capture),
    ("OnVoid", Op::Cancel),
    ("OnRefund", Op::Refund),
];

impl Behaviour {
    /// The behaviour of a token. `_` and any text may follow the name, so that every
    /// customer can have a token of their own.
    pub(super) fn from_token(token: &str) -> Option<Self> {
        Self::from_tail(token.strip_prefix("pm_sandbox_")?)
    }

    /// The behaviour of a payment whose method has no token.
    pub(super) const USUAL: Self = Self { method: SandboxMethod::Ok, on: Op::Confirm };

    /// The behaviour of a reference, which consists of `pi_`, the name, `_` and the unique part. One of PayPal has none of its own.
    pub(super) fn from_reference(reference: &str) -> Option<Self> {
        if reference.starts_with(PREFIX) {
            return Some(Self::USUAL);
        }
        Self::from_tail(reference.strip_prefix("pi_")?)
    }

    /// The behaviour of this operation.
    pub(super) fn of(self, op: Op) -> SandboxMethod {
        if self.on == op { self.method } else { SandboxMethod::Ok }
    }

    pub(super) fn name(self) -> String {
        let named = OPERATIONS.iter().find(|(_, op)| *op == self.on && *op != self.method.usual());
        format!("{}{}", self.method.name(), named.map_or("", |(word, _)| word))
    }

    pub(super) fn token(self) -> String {
        format!("pm_sandbox_{}", self.name())
    }

    fn from_tail(tail: &str) -> Option<Self> {
        let name = tail.split('_').next()?;
        let named = OPERATIONS.iter().find_map(|(word, op)| Some((name.strip_suffix(*word)?, *op)));
        let (method, on) = match named {
            Some((name, on)) => (SandboxMethod::named(name)?, on),
            None => SandboxMethod::named(name).map(|method| (method, method.usual()))?,
        };
        method.suits(on).then_some(Self { method, on })
    }
}
