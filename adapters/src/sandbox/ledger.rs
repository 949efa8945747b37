//! The sandbox gateway's book: one JSON object per line, appended and never changed.
//!
//! A line is on the disk before the gateway answers, and the gateway's whole state is what the
//! lines say. Tests and checkers read the same file as a book that the shop cannot write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use stepwise_workflows::money::{Currency, Money};

pub(super) mod writer;

/// One line: something the gateway did, or refused to do late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When, by the gateway's clock.
    #[serde(serialize_with = "with_millis")]
    pub at: DateTime<Utc>,
    /// What was asked.
    pub op: Op,
    /// The idempotency key it was asked under; empty where there was none.
    pub key: String,
    /// The authorization it is about.
    pub reference: String,
    /// The order the authorization was created for, as the shop named it.
    pub order_id: String,
    /// How much this line is about, in the currency's main unit.
    pub amount: Decimal,
    /// Of which currency.
    pub currency: Currency,
    /// What came of it.
    pub result: LineResult,
}

/// What was asked of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Open an authorization; moves no money.
    Create,
    /// Reserve the money.
    Confirm,
    /// The customer decided on the approval page.
    Approve,
    /// Void.
    Cancel,
    /// Take the money.
    Capture,
    /// Give money back.
    Refund,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineResult {
    /// Opened.
    Created,
    /// The money is reserved: the authorization is live.
    Confirmed,
    /// The issuer, or the customer, said no.
    Declined,
    /// This kind of card is not taken.
    Unsupported,
    /// The customer must approve first.
    ApprovalRequired,
    /// A confirm that came after the cancellation; nothing was reserved.
    RefusedCancelled,
    /// Void.
    Cancelled,
    /// Taken.
    Captured,
    /// Given back.
    Refunded,
}

impl Line {
    /// How much the line is about.
    pub fn money(&self) -> Option<Money> {
        Money::new(self.amount, self.currency).ok()
    }
}

/// An authorization as the lines tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// Its reference.
    pub reference: String,
    /// The order it was created for.
    pub order_id: String,
    /// What was asked for.
    pub amount: Decimal,
    /// Whether money was ever reserved.
    pub confirmed: bool,
    /// Whether it was voided.
    pub cancelled: bool,
    /// What was taken; zero where nothing was.
    pub captured: Decimal,
    /// What was given back of it.
    pub refunded: Decimal,
}

impl Booked {
    /// Confirmed, and neither cancelled nor fully refunded: somebody's money is held or taken.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let gone = self.captured > Decimal::ZERO && self.refunded >= self.captured;
        self.confirmed && !self.cancelled && !gone
    }
}

/// All lines of the ledger at `path`. A last line without its end is being written, or was cut
/// short by a crash: it does not count. An absent file has no lines.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    match File::open(path) {
        Ok(file) => read_from(&file).map(|(lines, _)| lines),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All authorizations that `lines` tell of, by reference.
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
        match line.result {
            LineResult::Confirmed => entry.confirmed = true,
            LineResult::Cancelled => entry.cancelled = true,
            LineResult::Captured => entry.captured += line.amount,
            LineResult::Refunded => entry.refunded += line.amount,
            LineResult::Created
            | LineResult::Declined
            | LineResult::Unsupported
            | LineResult::ApprovalRequired
            | LineResult::RefusedCancelled => {}
        }
    }
    booked
}

/// A move of money, as the shop's own book must have it too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The order it was for.
    pub order_id: String,
    /// `authorize`, `void`, `capture` or `refund`.
    pub kind: String,
    /// Our key; empty where the customer approved.
    pub key: String,
    /// The authorization.
    pub reference: String,
    /// How much.
    pub amount: Decimal,
    /// Of which currency.
    pub currency: String,
}

/// The moves of money that `lines` tell of, sorted. Opening, declining and cancelling what was never reserved move none.
#[must_use]
pub fn moves(lines: &[Line]) -> Vec<Move> {
    let mut reserved = BTreeSet::new();
    let mut moves = Vec::new();
    for line in lines {
        let kind = match line.result {
            LineResult::Confirmed => {
                reserved.insert(&line.reference);
                "authorize"
            }
            LineResult::Cancelled if reserved.contains(&line.reference) => "void",
            LineResult::Captured => "capture",
            LineResult::Refunded => "refund",
            LineResult::Cancelled
            | LineResult::Created
            | LineResult::Declined
            | LineResult::Unsupported
            | LineResult::ApprovalRequired
            | LineResult::RefusedCancelled => continue,
        };
        moves.push(Move {
            order_id: line.order_id.clone(),
            kind: kind.to_owned(),
            key: line.key.clone(),
            reference: line.reference.clone(),
            amount: line.amount,
            currency: line.currency.code().to_owned(),
        });
    }
    moves.sort();
    moves
}

/// The live authorizations of each order, by the order's id; orders without one are absent.
pub fn live_by_order(path: &Path) -> io::Result<BTreeMap<String, Vec<Booked>>> {
    let mut live: BTreeMap<String, Vec<Booked>> = BTreeMap::new();
    for booked in authorizations(&read(path)?).into_values().filter(Booked::is_live) {
        live.entry(booked.order_id.clone()).or_default().push(booked);
    }
    Ok(live)
}

/// The lines of a file, and how many bytes they take up.
fn read_from(file: &File) -> io::Result<(Vec<Line>, u64)> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut lines, mut text, mut whole) = (Vec::new(), Vec::new(), 0);
    loop {
        text.clear();
        let length = reader.by_ref().take(64 * 1024).read_until(b'\n', &mut text)?;
        if length == 0 || text.last() != Some(&b'\n') {
            return Ok((lines, whole));
        }
        let line = serde_json::from_slice(&text).map_err(|error| {
            let number = lines.len() + 1;
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {number} of the ledger cannot be read: {error}"),
            )
        })?;
        lines.push(line);
        whole += length as u64;
    }
}

fn with_millis<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
