//! The gateway's state: authorizations and used keys, rebuilt from the ledger's lines.
//!
//! [`Book::decide`] decides which line is to be written. Only [`Book::apply`] changes the book, for new lines and for
//! those read at a start.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use stepwise_workflows::money::Money;

use super::ledger::{Line, LineResult, Op};
use super::method::SandboxMethod;

#[derive(Default)]
pub(super) struct Book {
    intents: HashMap<Arc<str>, Intent>,
    keys: HashMap<Box<str>, KeyUse>,
}

/// An authorization.
pub(super) struct Intent {
    pub(super) reference: Arc<str>,
    pub(super) order_id: Box<str>,
    pub(super) key: Box<str>,
    pub(super) method: SandboxMethod,
    pub(super) amount: Money,
    pub(super) created_at: DateTime<Utc>,
    pub(super) status: Status,
    /// Whether money was ever reserved.
    pub(super) confirmed: bool,
    pub(super) captured: Money,
    pub(super) refunds: Vec<RefundMade>,
    /// The number of its last line.
    pub(super) line: u64,
}

pub(super) struct RefundMade {
    pub(super) key: Box<str>,
    pub(super) amount: Money,
    pub(super) at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    ApprovalRequired,
    Authorized,
    Declined,
    Unsupported,
    Captured,
    Cancelled,
}

/// The use of a key: the operation and its result.
struct KeyUse {
    op: Op,
    reference: Arc<str>,
    amount: Money,
    result: LineResult,
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) op: Op,
    /// The idempotency key; empty if there is none.
    pub(super) key: &'a str,
    pub(super) subject: Subject<'a>,
    /// The amount, if the operation has one. `None` for the whole amount.
    pub(super) amount: Option<Money>,
}

/// The subject of a request.
pub(super) enum Subject<'a> {
    New {
        method: SandboxMethod,
        order_id: &'a str,
    },
    Reference(&'a str),
    /// The customer's decision on an approval.
    Approval {
        reference: &'a str,
        granted: bool,
    },
}

/// The decision about a request.
pub(super) enum Decision {
    /// Write this line, apply it and answer.
    Write(Line),
    /// The same key had the same request before: repeat the answer.
    Again(Arc<str>, LineResult),
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The key was used for another request.
    KeyReused,
    /// There is no such authorization.
    Unknown,
    /// The authorization's state does not allow it.
    State,
    /// The amount is zero, or more than is left.
    Amount,
}

impl Book {
    pub(super) fn intent(&self, reference: &str) -> Option<&Intent> {
        self.intents.get(reference)
    }

    /// The authorization created under `key`.
    pub(super) fn created_under(&self, key: &str) -> Option<&Intent> {
        let used = self.keys.get(key).filter(|used| used.op == Op::Create)?;
        self.intents.get(&used.reference)
    }

    /// Whether `key` was used already.
    pub(super) fn knows_key(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn decide(&self, ask: &Ask<'_>, at: DateTime<Utc>) -> Decision {
        if let Some(used) = self.keys.get(ask.key) {
            return if self.is_same(used, ask) {
                Decision::Again(Arc::clone(&used.reference), used.result)
            } else {
                Decision::Refuse(Refusal::KeyReused)
            };
        }
        let (intent, granted) = match ask.subject {
            Subject::New { method, order_id } => return self.create(ask, method, order_id, at),
            Subject::Reference(reference) => (self.intents.get(reference), true),
            Subject::Approval { reference, granted } => (self.intents.get(reference), granted),
        };
        let Some(intent) = intent else { return Decision::Refuse(Refusal::Unknown) };
        match intent.next(ask.op, ask.amount, granted) {
            Ok((result, amount)) => Decision::Write(Line {
                at,
                op: ask.op,
                key: ask.key.to_owned(),
                reference: intent.reference.to_string(),
                order_id: intent.order_id.to_string(),
                amount: amount.amount(),
                currency: amount.currency(),
                result,
            }),
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    fn create(
        &self,
        ask: &Ask<'_>,
        method: SandboxMethod,
        order_id: &str,
        at: DateTime<Utc>,
    ) -> Decision {
        let Some(amount) = ask.amount.filter(|amount| amount.amount() > Decimal::ZERO) else {
            return Decision::Refuse(Refusal::Amount);
        };
        let unique = uuid::Uuid::now_v7().simple();
        Decision::Write(Line {
            at,
            op: Op::Create,
            key: ask.key.to_owned(),
            reference: format!("pi_{}_{unique}", method.name()),
            order_id: order_id.to_owned(),
            amount: amount.amount(),
            currency: amount.currency(),
            result: LineResult::Created,
        })
    }

    fn is_same(&self, used: &KeyUse, ask: &Ask<'_>) -> bool {
        let same_amount = ask.amount.is_none_or(|amount| amount == used.amount);
        let same_subject = match ask.subject {
            Subject::New { method, order_id } => self
                .intents
                .get(&used.reference)
                .is_some_and(|intent| intent.method == method && &*intent.order_id == order_id),
            Subject::Reference(reference) | Subject::Approval { reference, .. } => {
                &*used.reference == reference
            }
        };
        used.op == ask.op && same_amount && same_subject
    }

    /// Applies line `number`. `None` if the line contradicts earlier lines.
    pub(super) fn apply(&mut self, line: &Line, number: u64) -> Option<()> {
        let amount = line.money()?;
        if line.op == Op::Create {
            let reference: Arc<str> = line.reference.as_str().into();
            let intent = Intent::new(line, Arc::clone(&reference), amount, number)?;
            self.intents.insert(reference, intent);
        }
        let intent = self.intents.get_mut(line.reference.as_str())?;
        intent.take(line, amount);
        intent.line = number;
        if !line.key.is_empty() {
            let used = KeyUse {
                op: line.op,
                reference: Arc::clone(&intent.reference),
                amount,
                result: line.result,
            };
            self.keys.insert(line.key.as_str().into(), used);
        }
        Some(())
    }
}

impl Intent {
    fn new(line: &Line, reference: Arc<str>, amount: Money, number: u64) -> Option<Self> {
        Some(Self {
            method: SandboxMethod::from_reference(&reference)?,
            reference,
            order_id: line.order_id.as_str().into(),
            key: line.key.as_str().into(),
            amount,
            created_at: line.at,
            status: Status::Created,
            confirmed: false,
            captured: Money::zero(amount.currency()),
            refunds: Vec::new(),
            line: number,
        })
    }

    /// The result that `op` would have now, and its amount.
    fn next(
        &self,
        op: Op,
        amount: Option<Money>,
        granted: bool,
    ) -> Result<(LineResult, Money), Refusal> {
        let whole = |result| Ok((result, self.amount));
        match (op, self.status) {
            (Op::Confirm, Status::Created) => whole(self.method.result()),
            // This refusal is recorded, because it shows that cancelling the reference works.
            (Op::Confirm, Status::Cancelled) => whole(LineResult::RefusedCancelled),
            (Op::Approve, Status::ApprovalRequired) if granted => whole(LineResult::Confirmed),
            (Op::Approve, Status::ApprovalRequired) => whole(LineResult::Declined),
            (Op::Cancel, Status::Captured | Status::Cancelled) => Err(Refusal::State),
            (Op::Cancel, _) => whole(LineResult::Cancelled),
            (Op::Capture, Status::Authorized) => within(amount.unwrap_or(self.amount), self.amount)
                .map(|a| (LineResult::Captured, a)),
            (Op::Refund, Status::Captured) => {
                let left = self.captured.minus(self.refunded()).ok_or(Refusal::Amount)?;
                within(amount.unwrap_or(left), left).map(|a| (LineResult::Refunded, a))
            }
            _ => Err(Refusal::State),
        }
    }

    fn take(&mut self, line: &Line, amount: Money) {
        match line.result {
            LineResult::Created => self.status = Status::Created,
            LineResult::Confirmed => {
                self.status = Status::Authorized;
                self.confirmed = true;
            }
            LineResult::Declined => self.status = Status::Declined,
            LineResult::Unsupported => self.status = Status::Unsupported,
            LineResult::ApprovalRequired => self.status = Status::ApprovalRequired,
            LineResult::RefusedCancelled => {}
            LineResult::Cancelled => self.status = Status::Cancelled,
            LineResult::Captured => {
                self.status = Status::Captured;
                self.captured = amount;
            }
            LineResult::Refunded => {
                let refund = RefundMade { key: line.key.as_str().into(), amount, at: line.at };
                self.refunds.push(refund);
            }
        }
    }

    /// The refunded amount.
    pub(super) fn refunded(&self) -> Money {
        let zero = Money::zero(self.amount.currency());
        self.refunds.iter().fold(zero, |sum, refund| sum.plus(refund.amount).unwrap_or(sum))
    }
}

fn within(amount: Money, limit: Money) -> Result<Money, Refusal> {
    let fits = amount.currency() == limit.currency()
        && amount.amount() > Decimal::ZERO
        && amount.amount() <= limit.amount();
    fits.then_some(amount).ok_or(Refusal::Amount)
}
