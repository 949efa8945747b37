//! The sandbox gateway's ledger: one JSON object per line, appended and never changed.
//!
//! A line is on the disk before the gateway answers, and the gateway's whole state can be rebuilt from the lines.
//! Tests and checkers read the same file as a record that the shop cannot write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use stepwise_workflows::money::{Currency, Money};

use crate::paypal::PREFIX;

pub(super) mod writer;

/// One line: an operation of the gateway, or its refusal of a late one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The time, by the gateway's clock.
    #[serde(serialize_with = "with_millis")]
    pub at: DateTime<Utc>,
    /// The requested operation.
    pub op: Op,
    /// The idempotency key of the request; empty if it had none.
    pub key: String,
    /// The reference of the authorization.
    pub reference: String,
    /// The order for which the authorization was created, as the shop named it.
    pub order_id: String,
    /// The amount of this operation, in the currency's main unit.
    pub amount: Decimal,
    /// The currency of the amount.
    pub currency: Currency,
    /// The result of the operation.
    pub result: LineResult,
}

/// An operation of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Open an authorization, or name the order for which an approved one is used. Moves no money.
    Create,
    /// Reserve the money.
    Confirm,
    /// Record the customer's decision on the approval page.
    Approve,
    /// Void the authorization.
    Cancel,
    /// Take reserved money.
    Capture,
    /// Give money back.
    Refund,
    /// Release money that was reserved too long. The gateway's own act.
    Expire,
    /// Complete a pending refund, or fail it. The gateway's own act, under the refund's key.
    Settle,
}

/// The result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineResult {
    /// The authorization was opened.
    Created,
    /// The money is reserved: the authorization is live.
    Confirmed,
    /// The issuer or the customer declined.
    Declined,
    /// This kind of card is not accepted.
    Unsupported,
    /// The customer must approve first.
    ApprovalRequired,
    /// The customer has approved. Nothing is reserved yet.
    Approved,
    /// A confirm came after the cancellation. Nothing was reserved.
    RefusedCancelled,
    /// The authorization was voided.
    Cancelled,
    /// Money was taken.
    Captured,
    /// Money was given back.
    Refunded,
    /// The reserved money was released, because nobody captured it in time.
    Expired,
    /// A refund was accepted.
    RefundPending,
    /// An accepted refund was done.
    RefundSettled,
    /// An accepted refund failed: the money stays taken.
    RefundFailed,
}

impl Line {
    /// The amount of the line, with its currency.
    pub fn money(&self) -> Option<Money> {
        Money::new(self.amount, self.currency).ok()
    }
}

/// An authorization, as rebuilt from the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// The authorization's reference.
    pub reference: String,
    /// The order for which it was created.
    pub order_id: String,
    /// The authorized amount.
    pub amount: Decimal,
    /// Whether money was ever reserved.
    pub confirmed: bool,
    /// Whether it was voided.
    pub cancelled: bool,
    /// The captured amount; zero if nothing was captured.
    pub captured: Decimal,
    /// The refunded amount.
    pub refunded: Decimal,
}

impl Booked {
    /// Whether a customer's money is held or taken: confirmed, and neither cancelled nor fully refunded.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let gone = self.captured > Decimal::ZERO && self.refunded >= self.captured;
        self.confirmed && !self.cancelled && !gone
    }
}

/// Reads all lines of the ledger at `path`. An incomplete last line is being written, or was cut
/// off by a crash; it does not count. A missing file has no lines.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    match File::open(path) {
        Ok(file) => read_from(&file).map(|(lines, _)| lines),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All authorizations in `lines`, by reference.
#[must_use]
pub fn authorizations(lines: &[Line]) -> BTreeMap<String, Booked> {
    let mut booked = BTreeMap::new();
    for line in lines {
        let entry = booked.entry(line.reference.clone()).or_insert_with(|| Booked {
            reference: line.reference.clone(),
            order_id: line.order_id.clone(),
            amount: line.amount,
            confirmed: false,
            cancelled: false,
            captured: Decimal::ZERO,
            refunded: Decimal::ZERO,
        });
        if line.op == Op::Create {
            entry.order_id.clone_from(&line.order_id);
        }
        match line.result {
            LineResult::Confirmed => entry.confirmed = true,
            LineResult::Cancelled | LineResult::Expired => entry.cancelled = true,
            LineResult::Captured => entry.captured += line.amount,
            LineResult::Refunded | LineResult::RefundPending => entry.refunded += line.amount,
            LineResult::RefundFailed => entry.refunded -= line.amount,
            LineResult::Created
            | LineResult::RefundSettled
            | LineResult::Declined
            | LineResult::Unsupported
            | LineResult::ApprovalRequired
            | LineResult::Approved
            | LineResult::RefusedCancelled => {}
        }
    }
    booked
}

/// A movement of money, which the shop's own records must also have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The order for which the money moved.
    pub order_id: String,
    /// `authorize`, `void`, `capture` or `refund`.
    pub kind: String,
    /// The shop's idempotency key; empty if the customer approved.
    pub key: String,
    /// The authorization's reference; for a refund its own.
    pub reference: String,
    /// The amount.
    pub amount: Decimal,
    /// The currency of the amount.
    pub currency: String,
}

/// The movements of money in `lines`, sorted. Opening or declining an authorization moves no money, nor does cancelling one that was never confirmed.
/// A refund that failed has moved none either.
#[must_use]
pub fn moves(lines: &[Line]) -> Vec<Move> {
    let mut reserved = BTreeSet::new();
    let mut refunds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pending: Vec<(&str, &str, String)> = Vec::new();
    let mut moves: Vec<Move> = Vec::new();
    for line in lines {
        let mut reference = line.reference.clone();
        let kind = match line.result {
            LineResult::Confirmed => {
                reserved.insert(&line.reference);
                "authorize"
            }
            LineResult::Cancelled if reserved.contains(&line.reference) => "void",
            LineResult::Expired => "void",
            LineResult::Captured => "capture",
            LineResult::Refunded | LineResult::RefundPending => {
                let made = refunds.entry(&line.reference).or_default();
                reference = refund_id(&line.reference, *made);
                *made += 1;
                if line.result == LineResult::RefundPending {
                    pending.push((&line.reference, &line.key, reference.clone()));
                }
                "refund"
            }
            LineResult::RefundSettled | LineResult::RefundFailed => {
                let is_it = |(of, key, _): &(&str, &str, String)| {
                    (*of, *key) == (line.reference.as_str(), line.key.as_str())
                };
                let settled = pending.iter().position(is_it).map(|at| pending.remove(at));
                if let (Some((.., id)), LineResult::RefundFailed) = (settled, line.result) {
                    moves.retain(|made| made.reference != id);
                }
                continue;
            }
            LineResult::Cancelled
            | LineResult::Created
            | LineResult::Declined
            | LineResult::Unsupported
            | LineResult::ApprovalRequired
            | LineResult::Approved
            | LineResult::RefusedCancelled => continue,
        };
        moves.push(Move {
            order_id: line.order_id.clone(),
            kind: kind.to_owned(),
            key: line.key.clone(),
            reference,
            amount: line.amount,
            currency: line.currency.code().to_owned(),
        });
    }
    moves.sort();
    moves
}

/// The id of an authorization's refund, counted from 0.
pub(super) fn refund_id(authorization: &str, index: usize) -> String {
    if let Some(order) = authorization.strip_prefix(PREFIX) {
        return format!("{order}R{}", index + 1);
    }
    let unique = authorization.rsplit('_').next().unwrap_or_default();
    format!("re_{}_{unique}", index + 1)
}

/// The live authorizations of each order, by the order's id; orders without one are absent.
pub fn live_by_order(path: &Path) -> io::Result<BTreeMap<String, Vec<Booked>>> {
    let mut live: BTreeMap<String, Vec<Booked>> = BTreeMap::new();
    for booked in authorizations(&read(path)?).into_values().filter(Booked::is_live) {
        live.entry(booked.order_id.clone()).or_default().push(booked);
    }
    Ok(live)
}

/// The complete lines of a file, and their length in bytes.
fn read_from(file: &File) -> io::Result<(Vec<Line>, u64)> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut lines, mut text, mut whole) = (Vec::new(), Vec::new(), 0);
    loop {
        text.clear();
        let length = reader.by_ref().take(64 * 1024).read_until(b'\n', &mut text)?;
        if length == 0 || text.last() != Some(&b'\n') {
            return Ok((lines, whole));
        }
        let damaged = |why: String| {
            let number = lines.len() + 1;
            let why = format!("line {number} of the ledger cannot be read: {why}");
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        let line: Line =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        // The sum of amounts that are none may not fit.
        if line.money().is_none() {
            return Err(damaged(format!("{} is no amount of {}", line.amount, line.currency)));
        }
        lines.push(line);
        whole += length as u64;
    }
}

fn with_millis<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_line_whose_amount_is_none_is_refused_by_its_number() {
        let folder = Folder::new();
        let path = folder.path().join("ledger.jsonl");
        let read = |amounts: [&str; 2]| {
            let lines = amounts.map(|amount| {
                format!(
                    r#"{{"at":"9999-12-31T23:59:59Z","op":"capture","key":"k","reference":"pi_1","orderId":"1","amount":"{amount}","currency":"USD","result":"captured"}}"#
                ) + "\n"
            });
            std::fs::write(&path, lines.concat()).expect("writable");
            live_by_order(&path).map(|live| live.len()).map_err(|error| error.to_string())
        };
        assert_eq!(read(["999999999999.99", "999999999999.99"]), Ok(0));
        for amount in [
            "79228162514264337593543950335",
            "-79228162514264337593543950335",
            "1000000000000",
            "-0.01",
            "0.001",
        ] {
            let refused = read([amount, amount]).expect_err(amount);
            assert!(refused.contains("line 1 of the ledger"), "{refused}");
        }
    }
}
