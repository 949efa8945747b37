//! The gateway's state: authorizations and used keys, rebuilt from the ledger's lines.
//!
//! [`Book::decide`] decides which line is to be written. Only [`Book::apply`] changes the book, for new lines and for
//! those read at a start.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use stepwise_workflows::money::Money;

use super::ledger::{Line, LineResult, Op};
use super::method::{Behaviour, SandboxMethod};
use crate::paypal::PREFIX;

pub(super) struct Book {
    intents: HashMap<Arc<str>, Intent>,
    keys: HashMap<Box<str>, KeyUse>,
    /// The authorizations by the keys under which they were created, however old.
    created: HashMap<Box<str>, Arc<str>>,
    /// The behaviour of operations for every authorization, until it is switched off.
    pub(super) switched: HashMap<Op, SandboxMethod>,
    /// Reserved money by the time since when it is reserved, oldest first.
    reserved: VecDeque<(DateTime<Utc>, Arc<str>)>,
    /// Refunds that were accepted and are to be settled, with their keys, oldest first.
    pending: VecDeque<(DateTime<Utc>, Arc<str>, Box<str>)>,
    /// The time for which a key is remembered.
    keys_live: TimeDelta,
}

/// An authorization.
pub(super) struct Intent {
    pub(super) reference: Arc<str>,
    pub(super) order_id: Box<str>,
    pub(super) key: Box<str>,
    pub(super) behaviour: Behaviour,
    pub(super) amount: Money,
    pub(super) created_at: DateTime<Utc>,
    pub(super) status: Status,
    /// Whether money was ever reserved.
    pub(super) confirmed: bool,
    /// Whether it was cancelled because it lapsed.
    pub(super) expired: bool,
    pub(super) captured: Money,
    pub(super) refunds: Vec<RefundMade>,
    /// The number of its last line.
    pub(super) line: u64,
}

pub(super) struct RefundMade {
    pub(super) key: Box<str>,
    pub(super) amount: Money,
    pub(super) at: DateTime<Utc>,
    pub(super) status: RefundStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
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
    at: DateTime<Utc>,
    /// Of the request's address and parameters. `None`: not known since a restart.
    fingerprint: Option<u64>,
}

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) op: Op,
    /// The idempotency key; empty if there is none.
    pub(super) key: &'a str,
    pub(super) subject: Subject<'a>,
    /// The amount, if the operation has one. `None` for the whole amount.
    pub(super) amount: Option<Money>,
    /// Of the request's address and parameters. `None` if it did not come over the API.
    pub(super) fingerprint: Option<u64>,
}

/// The subject of a request.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    New {
        behaviour: Behaviour,
        order_id: &'a str,
    },
    /// A new authorization at PayPal, which the customer must approve first.
    PayPal,
    /// An approved authorization at PayPal, and the order for which it is used.
    Named {
        reference: &'a str,
        order_id: &'a str,
    },
    /// An authorization under which nothing was reserved.
    Unreserved(&'a str),
    Reference(&'a str),
    /// The refund of this authorization whose key the request has.
    Refund(&'a str),
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
    /// The issuer said no.
    Declined,
}

impl Book {
    /// An empty book that remembers keys for so long.
    pub(super) fn new(keys_live: TimeDelta) -> Self {
        Self {
            intents: HashMap::new(),
            keys: HashMap::new(),
            created: HashMap::new(),
            switched: HashMap::new(),
            reserved: VecDeque::new(),
            pending: VecDeque::new(),
            keys_live,
        }
    }

    pub(super) fn intent(&self, reference: &str) -> Option<&Intent> {
        self.intents.get(reference)
    }

    /// The reference of the authorization at PayPal that was opened under `key`.
    pub(super) fn opened_under(&self, key: &str) -> Option<&str> {
        let used = self.keys.get(key).filter(|used| used.op == Op::Create)?;
        Some(&*used.reference)
    }

    /// The authorization created under `key`.
    pub(super) fn created_under(&self, key: &str) -> Option<&Intent> {
        self.intents.get(self.created.get(key)?)
    }

    /// The behaviour of a request. `None`: there is no such authorization.
    pub(super) fn method(&self, ask: &Ask<'_>) -> Option<SandboxMethod> {
        let behaviour = match ask.subject {
            Subject::New { behaviour, .. } => behaviour,
            subject => match subject.reference() {
                Some(reference) => self.intents.get(reference)?.behaviour,
                None => Behaviour::USUAL,
            },
        };
        Some(self.switched.get(&ask.op).copied().unwrap_or_else(|| behaviour.of(ask.op)))
    }

    /// The next authorization that has been reserving money since `until` or longer. Each is answered once.
    pub(super) fn lapsed(&mut self, until: DateTime<Utc>) -> Option<Arc<str>> {
        let (_, reference) = self.reserved.pop_front_if(|(since, _)| *since <= until)?;
        Some(reference)
    }

    /// The next refund that has been pending since `until` or longer, with its key. Each is answered once.
    pub(super) fn unsettled(&mut self, until: DateTime<Utc>) -> Option<(Arc<str>, Box<str>)> {
        let (_, reference, key) = self.pending.pop_front_if(|(since, ..)| *since <= until)?;
        Some((reference, key))
    }

    pub(super) fn decide(&self, ask: &Ask<'_>, at: DateTime<Utc>) -> Decision {
        let used = self.keys.get(ask.key).filter(|used| at - used.at < self.keys_live);
        // The gateway's own acts have no keys.
        if let Some(used) = used.filter(|_| !matches!(ask.op, Op::Expire | Op::Settle)) {
            return if self.is_same(used, ask) {
                Decision::Again(Arc::clone(&used.reference), used.result)
            } else {
                Decision::Refuse(Refusal::KeyReused)
            };
        }
        let Some(reference) = ask.subject.reference() else { return create(ask, at) };
        let (Some(intent), Some(method)) = (self.intents.get(reference), self.method(ask)) else {
            return Decision::Refuse(Refusal::Unknown);
        };
        let mut order_id = &*intent.order_id;
        let next = match (ask.op, ask.subject) {
            (Op::Settle, _) => {
                let on = Ask { op: Op::Refund, ..*ask };
                intent.settle(ask.key, self.method(&on))
            }
            (_, Subject::Named { order_id: given, .. }) if intent.status == Status::Created => {
                order_id = given;
                Ok((LineResult::Created, intent.amount))
            }
            (_, Subject::Named { .. }) => Err(Refusal::State),
            (_, Subject::Unreserved(_)) if intent.confirmed => Err(Refusal::State),
            (op, Subject::Approval { granted, .. }) => intent.next(op, method, ask.amount, granted),
            (op, _) => intent.next(op, method, ask.amount, true),
        };
        match next {
            Ok((result, amount)) => Decision::Write(Line {
                at,
                op: ask.op,
                key: ask.key.to_owned(),
                reference: intent.reference.to_string(),
                order_id: order_id.to_owned(),
                amount: amount.amount(),
                currency: amount.currency(),
                result,
            }),
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    fn is_same(&self, used: &KeyUse, ask: &Ask<'_>) -> bool {
        if let (Some(first), Some(second)) = (used.fingerprint, ask.fingerprint) {
            return first == second;
        }
        let same_amount = ask.amount.is_none_or(|amount| amount == used.amount);
        let intent = self.intents.get(&used.reference);
        let same_subject = match ask.subject {
            Subject::New { behaviour, order_id } => intent.is_some_and(|intent| {
                intent.behaviour == behaviour && &*intent.order_id == order_id
            }),
            Subject::PayPal => intent.is_some_and(Intent::is_paypal),
            subject => subject.reference() == Some(&*used.reference),
        };
        used.op == ask.op && same_amount && same_subject
    }

    /// Notes what the request was whose line was just applied, so that another request under its key is told apart.
    pub(super) fn note(&mut self, ask: &Ask<'_>) {
        if let (Some(used), Some(_)) = (self.keys.get_mut(ask.key), ask.fingerprint) {
            used.fingerprint = ask.fingerprint;
        }
    }

    /// Applies line `number`. `None` if the line contradicts earlier lines.
    pub(super) fn apply(&mut self, line: &Line, number: u64) -> Option<()> {
        let amount = line.money()?;
        let known = self.intents.get_mut(line.reference.as_str());
        if let (Op::Create, Some(intent)) = (line.op, known) {
            intent.order_id = line.order_id.as_str().into();
        } else if line.op == Op::Create {
            let reference: Arc<str> = line.reference.as_str().into();
            let intent = Intent::new(line, Arc::clone(&reference), amount, number)?;
            if !line.key.is_empty() && !intent.is_paypal() {
                self.created.insert(line.key.as_str().into(), Arc::clone(&reference));
            }
            self.intents.insert(reference, intent);
        }
        let intent = self.intents.get_mut(line.reference.as_str())?;
        intent.take(line, amount);
        intent.line = number;
        let reference = Arc::clone(&intent.reference);
        match line.result {
            LineResult::Confirmed => self.reserved.push_back((line.at, Arc::clone(&reference))),
            LineResult::RefundPending => {
                let key = line.key.as_str().into();
                self.pending.push_back((line.at, Arc::clone(&reference), key));
            }
            _ => {}
        }
        if !line.key.is_empty() && line.op != Op::Settle {
            let (op, result, at) = (line.op, line.result, line.at);
            let used = KeyUse { op, reference, amount, result, at, fingerprint: None };
            self.keys.insert(line.key.as_str().into(), used);
        }
        Some(())
    }
}

/// The line that opens a new authorization.
fn create(ask: &Ask<'_>, at: DateTime<Utc>) -> Decision {
    let Some(amount) = ask.amount.filter(|amount| amount.amount() > Decimal::ZERO) else {
        return Decision::Refuse(Refusal::Amount);
    };
    let unique = uuid::Uuid::now_v7().simple();
    let (reference, order_id, result) = match ask.subject {
        Subject::New { behaviour, order_id } => {
            (format!("pi_{}_{unique}", behaviour.name()), order_id, LineResult::Created)
        }
        _ => (format!("{PREFIX}{unique:X}"), "", LineResult::ApprovalRequired),
    };
    Decision::Write(Line {
        at,
        op: Op::Create,
        key: ask.key.to_owned(),
        reference,
        order_id: order_id.to_owned(),
        amount: amount.amount(),
        currency: amount.currency(),
        result,
    })
}

impl<'a> Subject<'a> {
    /// The authorization. `None`: it is new.
    pub(super) fn reference(self) -> Option<&'a str> {
        match self {
            Self::New { .. } | Self::PayPal => None,
            Self::Reference(reference)
            | Self::Refund(reference)
            | Self::Unreserved(reference)
            | Self::Named { reference, .. }
            | Self::Approval { reference, .. } => Some(reference),
        }
    }
}

impl Intent {
    /// Whether it is an authorization at PayPal.
    pub(super) fn is_paypal(&self) -> bool {
        self.reference.starts_with(PREFIX)
    }

    fn new(line: &Line, reference: Arc<str>, amount: Money, number: u64) -> Option<Self> {
        Some(Self {
            behaviour: Behaviour::from_reference(&reference)?,
            reference,
            order_id: line.order_id.as_str().into(),
            key: line.key.as_str().into(),
            amount,
            created_at: line.at,
            status: Status::Created,
            confirmed: false,
            expired: false,
            captured: Money::zero(amount.currency()),
            refunds: Vec::new(),
            line: number,
        })
    }

    /// The result that `op` would have now if it behaves like `method`, and its amount.
    fn next(
        &self,
        op: Op,
        method: SandboxMethod,
        amount: Option<Money>,
        granted: bool,
    ) -> Result<(LineResult, Money), Refusal> {
        let whole = |result| Ok((result, self.amount));
        match (op, self.status) {
            (Op::Confirm, Status::Created) => whole(method.result()),
            // This refusal is recorded, because it shows that cancelling the reference works.
            (Op::Confirm, Status::Cancelled) => whole(LineResult::RefusedCancelled),
            (Op::Approve, Status::ApprovalRequired) if granted && self.is_paypal() => {
                whole(LineResult::Approved)
            }
            (Op::Approve, Status::ApprovalRequired) if granted => whole(LineResult::Confirmed),
            (Op::Approve, Status::ApprovalRequired) => whole(LineResult::Declined),
            (Op::Cancel, Status::Captured | Status::Cancelled) => Err(Refusal::State),
            (Op::Cancel, _) => whole(LineResult::Cancelled),
            (Op::Expire, Status::Authorized) => whole(LineResult::Expired),
            (Op::Capture, Status::Authorized) | (Op::Refund, Status::Captured)
                if method == SandboxMethod::Declined =>
            {
                Err(Refusal::Declined)
            }
            (Op::Capture, Status::Authorized) => within(amount.unwrap_or(self.amount), self.amount)
                .map(|a| (LineResult::Captured, a)),
            (Op::Refund, Status::Captured) => {
                let left = self.captured.minus(self.refunded()).ok_or(Refusal::Amount)?;
                let result = match method {
                    SandboxMethod::Pending | SandboxMethod::Fails => LineResult::RefundPending,
                    _ => LineResult::Refunded,
                };
                within(amount.unwrap_or(left), left).map(|a| (result, a))
            }
            _ => Err(Refusal::State),
        }
    }

    /// The end of the pending refund under `key`, and its amount.
    fn settle(
        &self,
        key: &str,
        method: Option<SandboxMethod>,
    ) -> Result<(LineResult, Money), Refusal> {
        let is_it = |made: &&RefundMade| made.status == RefundStatus::Pending && &*made.key == key;
        let made = self.refunds.iter().find(is_it).ok_or(Refusal::State)?;
        Ok(match method {
            Some(SandboxMethod::Fails) => (LineResult::RefundFailed, made.amount),
            _ => (LineResult::RefundSettled, made.amount),
        })
    }

    fn take(&mut self, line: &Line, amount: Money) {
        match line.result {
            LineResult::Created | LineResult::Approved => self.status = Status::Created,
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
            LineResult::Expired => {
                self.status = Status::Cancelled;
                self.expired = true;
            }
            LineResult::Refunded => self.refund(line, amount, RefundStatus::Succeeded),
            LineResult::RefundPending => self.refund(line, amount, RefundStatus::Pending),
            LineResult::RefundSettled => self.settled(&line.key, RefundStatus::Succeeded),
            LineResult::RefundFailed => self.settled(&line.key, RefundStatus::Failed),
        }
    }

    fn refund(&mut self, line: &Line, amount: Money, status: RefundStatus) {
        self.refunds.push(RefundMade {
            key: line.key.as_str().into(),
            amount,
            at: line.at,
            status,
        });
    }

    fn settled(&mut self, key: &str, status: RefundStatus) {
        let is_it =
            |made: &&mut RefundMade| made.status == RefundStatus::Pending && &*made.key == key;
        if let Some(made) = self.refunds.iter_mut().find(is_it) {
            made.status = status;
        }
    }

    /// The refunded amount, with what is pending.
    pub(super) fn refunded(&self) -> Money {
        let zero = Money::zero(self.amount.currency());
        let made = self.refunds.iter().filter(|made| made.status != RefundStatus::Failed);
        made.fold(zero, |sum, refund| sum.plus(refund.amount).unwrap_or(sum))
    }
}

fn within(amount: Money, limit: Money) -> Result<Money, Refusal> {
    let fits = amount.currency() == limit.currency()
        && amount.amount() > Decimal::ZERO
        && amount.amount() <= limit.amount();
    fits.then_some(amount).ok_or(Refusal::Amount)
}
