//! The checker: joins what clients were told, what the provider booked and what the database says, and names every difference.
//!
//! The names I2 to I11 are those of docs/faults.md.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::{
    client::Acknowledged,
    provider::{Line, Receipt},
    trip::LEGS,
};

/// A row of `saga.instance`.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Seen {
    pub(crate) saga_id: Uuid,
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) status: String,
    pub(crate) last_error: Option<String>,
    pub(crate) seq: i32,
    pub(crate) epoch: i32,
    pub(crate) noted: Option<i32>,
}

/// A row of `saga.journal`.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Entry {
    saga_id: Uuid,
    seq: i32,
    epoch: i32,
    kind: String,
    step_no: Option<i32>,
    /// Of an attempt: `unknown`, `not_done`, ...
    outcome: Option<String>,
}

#[derive(Debug, Clone, FromRow)]
struct EffectRow {
    saga_id: Uuid,
    step_no: i32,
    reference: Option<String>,
    status: String,
}

/// All three books, after quiet.
pub(crate) struct Books {
    acknowledged: Vec<Acknowledged>,
    ledger: Vec<Line>,
    receipts: Vec<Receipt>,
    instances: Vec<Seen>,
    journal: HashMap<Uuid, Vec<Entry>>,
    effects: Vec<EffectRow>,
    /// (item, reserved, reserved by open purchases).
    stock: Vec<(i32, i64, i64)>,
    /// (subject, status).
    purchases: HashMap<String, String>,
    messages: Vec<(String, i64, Uuid)>,
}

impl Books {
    /// Reads the database; the other books are given.
    pub(crate) async fn join(
        pool: &PgPool,
        acknowledged: Vec<Acknowledged>,
        ledger: Vec<Line>,
        receipts: Vec<Receipt>,
    ) -> Result<Self, sqlx::Error> {
        let entries: Vec<Entry> = sqlx::query_as(
            "-- name: test journal
            select saga_id, seq, epoch, kind, step_no, case when kind = 'attempt' then event->>'outcome' end as outcome
            from saga.journal order by saga_id, seq, at",
        )
        .fetch_all(pool)
        .await?;
        let mut journal: HashMap<Uuid, Vec<Entry>> = HashMap::new();
        for entry in entries {
            journal.entry(entry.saga_id).or_default().push(entry);
        }
        Ok(Self {
            acknowledged,
            ledger,
            receipts,
            journal,
            instances: instances(pool).await?,
            effects: sqlx::query_as("-- name: test effects\nselect saga_id, step_no, reference, status from saga.effect")
                .fetch_all(pool)
                .await?,
            stock: sqlx::query_as(
                "-- name: test stock
                select s.item, s.reserved::bigint, count(p.subject) from test.stock s
                left join test.purchase p on p.item = s.item and p.status = 'open' group by s.item, s.reserved",
            )
            .fetch_all(pool)
            .await?,
            purchases: sqlx::query_as("-- name: test purchases\nselect subject, status from test.purchase")
                .fetch_all(pool)
                .await?
                .into_iter()
                .collect(),
            messages: sqlx::query_as(
                "-- name: test messages
                select subject, sequence, message_id from saga.outbox union all select subject, sequence, message_id from saga.feed",
            )
            .fetch_all(pool)
            .await?,
        })
    }

    /// How many instances have that status.
    pub(crate) fn count(&self, status: &str) -> usize {
        self.instances.iter().filter(|seen| seen.status == status).count()
    }

    /// Every difference, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.acknowledged_are_there(&mut faults);
        let ledger = by_instance(&self.ledger);
        for seen in &self.instances {
            let lines = ledger.get(&seen.saga_id).map_or(&[][..], Vec::as_slice);
            let journal = self.journal.get(&seen.saga_id).map_or(&[][..], Vec::as_slice);
            let mut own = Vec::new();
            ended(seen, &mut own);
            live_effects(seen, lines, &mut own);
            undone_in_reverse(lines, &mut own);
            legal_journal(seen, journal, &mut own);
            undos_in_reverse(journal, &mut own);
            self.domain(seen, &mut own);
            faults.extend(
                own.into_iter().map(|fault| format!("{} {}: {fault}", seen.subject, seen.saga_id)),
            );
        }
        self.effects_agree(&mut faults);
        for (item, reserved, open) in &self.stock {
            if reserved != open {
                faults.push(format!(
                    "I4: {reserved} of item {item} are reserved, {open} purchases are open"
                ));
            }
        }
        self.messages_arrived(&mut faults);
        faults
    }

    /// I9: what was acknowledged is there, once; notes count once.
    fn acknowledged_are_there(&self, faults: &mut Vec<String>) {
        let by_id: HashMap<_, _> = self.instances.iter().map(|seen| (seen.saga_id, seen)).collect();
        let mut subjects = HashMap::new();
        for seen in &self.instances {
            *subjects.entry(seen.subject.as_str()).or_insert(0) += 1;
        }
        for known in &self.acknowledged {
            match by_id.get(&known.id) {
                Some(seen) if seen.subject == known.subject => {
                    let noted = seen.noted.and_then(|noted| u32::try_from(noted).ok()).unwrap_or(0);
                    if noted < known.noted || noted > known.noted + known.unsure {
                        faults.push(format!(
                            "I9: {} counted {noted} notes of {} that were applied ({} unsure)",
                            known.subject, known.noted, known.unsure
                        ));
                    }
                }
                _ => {
                    faults.push(format!("I9: {} was acknowledged and is not there", known.subject))
                }
            }
            if subjects.get(known.subject.as_str()).is_some_and(|count| *count > 1) {
                faults.push(format!("I9: {} was started twice", known.subject));
            }
        }
    }

    /// The domain's rows agree with how the instance ended.
    fn domain(&self, seen: &Seen, faults: &mut Vec<String>) {
        if seen.name != "purchase" {
            return;
        }
        let status = self.purchases.get(&seen.subject).map(String::as_str);
        let messages =
            self.messages.iter().filter(|(subject, ..)| *subject == seen.subject).count();
        let (placed, published) = (status == Some("placed"), messages == 1);
        if (seen.status == "completed") != placed || placed != published || messages > 1 {
            faults.push(format!(
                "I5: it is {}, the purchase {status:?}, with {messages} messages",
                seen.status
            ));
        }
    }

    /// Our ledger says what the provider's says.
    fn effects_agree(&self, faults: &mut Vec<String>) {
        let booked: HashMap<_, _> = self
            .ledger
            .iter()
            .filter(|line| line.op != "undo")
            .map(|line| (line.key.as_str(), line))
            .collect();
        let undone: HashSet<_> = self
            .ledger
            .iter()
            .filter(|line| line.op == "undo")
            .map(|line| line.reference.as_str())
            .collect();
        let status: HashMap<_, _> =
            self.instances.iter().map(|seen| (seen.saga_id, seen.status.as_str())).collect();
        for effect in &self.effects {
            let line = booked.get(format!("{}-{}", effect.saga_id, effect.step_no).as_str());
            let live = line.is_some_and(|line| !undone.contains(line.reference.as_str()));
            let is = |wanted: &str| status.get(&effect.saga_id) == Some(&wanted);
            let agrees = match effect.status.as_str() {
                "confirmed" => {
                    line.is_some_and(|line| effect.reference.as_ref() == Some(&line.reference))
                }
                "undone" => line.is_some() && !live,
                // A booking that a frozen worker creates when it wakes is known to nobody: it is never confirmed, and moves nothing.
                "refuted" => {
                    !live || (is("unwound") && line.is_some_and(|line| line.op == "create"))
                }
                // Only a person can say what becomes of it.
                _ => is("stuck"),
            };
            if !agrees {
                faults.push(format!(
                    "I2: our ledger has {effect:?}, the provider {line:?}, live: {live}"
                ));
            }
        }
    }

    /// I5, I6, I7: every message is received, all copies have its id, first receipts are in order.
    fn messages_arrived(&self, faults: &mut Vec<String>) {
        if self.receipts.is_empty() {
            // No relay was at work.
            return;
        }
        let written: HashMap<_, _> = self
            .messages
            .iter()
            .map(|(subject, sequence, id)| ((subject.as_str(), *sequence), *id))
            .collect();
        let mut received: BTreeMap<(&str, i64), Uuid> = BTreeMap::new();
        let mut last: HashMap<&str, i64> = HashMap::new();
        for receipt in &self.receipts {
            let place = (receipt.subject.as_str(), receipt.sequence);
            if written.get(&place) != Some(&receipt.id) {
                faults.push(format!("I5/I6: {receipt:?} was never written like this"));
            }
            if received.insert(place, receipt.id).is_none() {
                let before = last.insert(place.0, place.1).unwrap_or(0);
                if place.1 != before + 1 {
                    faults.push(format!("I7: {receipt:?} came first after sequence {before}"));
                }
            }
        }
        let lost = written.keys().filter(|place| !received.contains_key(*place)).count();
        if lost > 0 {
            faults.push(format!("I5: {lost} messages were never received"));
        }
    }
}

/// The instances of a database.
pub(crate) async fn instances(pool: &PgPool) -> Result<Vec<Seen>, sqlx::Error> {
    sqlx::query_as(
        "-- name: test instances
        select saga_id, name, subject, status, last_error, seq, epoch,
            case when json_typeof(state) = 'object' then (state->>'noted')::integer end as noted
        from saga.instance",
    )
    .fetch_all(pool)
    .await
}

fn by_instance(ledger: &[Line]) -> HashMap<Uuid, Vec<Line>> {
    let mut lines: HashMap<Uuid, Vec<Line>> = HashMap::new();
    for line in ledger {
        let id = line.key.get(..36).and_then(|id| Uuid::parse_str(id).ok());
        lines.entry(id.expect("keys begin with an instance")).or_default().push(line.clone());
    }
    lines
}

/// I8: it has ended, or is stuck and says why.
fn ended(seen: &Seen, faults: &mut Vec<String>) {
    match seen.status.as_str() {
        "completed" | "unwound" => {}
        "stuck" if seen.last_error.is_some() => {}
        other => faults.push(format!("I8: it is {other}")),
    }
}

/// I2: what stands outside is what its end says, each once.
fn live_effects(seen: &Seen, lines: &[Line], faults: &mut Vec<String>) {
    let undone: HashSet<_> =
        lines.iter().filter(|line| line.op == "undo").map(|line| line.reference.as_str()).collect();
    let mut live: Vec<_> = lines
        .iter()
        .filter(|line| line.op != "undo" && !undone.contains(line.reference.as_str()))
        .map(|line| line.op.clone())
        .collect();
    live.sort();
    let expected: Vec<String> = match (seen.name.as_str(), seen.status.as_str()) {
        ("trip", "completed") => (1..=LEGS).map(|leg| format!("book-{leg}")).collect(),
        ("letter", "completed") => ["frank", "post"].map(str::to_owned).to_vec(),
        ("purchase", "completed") => ["confirm", "create", "send"].map(str::to_owned).to_vec(),
        ("purchase", "unwound") => {
            // A payment that was created and never confirmed moves nothing.
            live.retain(|op| op != "create");
            Vec::new()
        }
        (_, "stuck") => {
            let twice = live.windows(2).any(|pair| pair[0] == pair[1]);
            if twice {
                faults.push(format!("I2: {live:?} stands outside"));
            }
            return;
        }
        _ => Vec::new(),
    };
    if live != expected {
        faults.push(format!("I2: it is {}, {live:?} stands outside", seen.status));
    }
}

/// I11, as the provider saw it: undos come in the reverse order of what they take back.
fn undone_in_reverse(lines: &[Line], faults: &mut Vec<String>) {
    let place = |line: &Line| {
        lines.iter().position(|done| done.op != "undo" && done.reference == line.reference)
    };
    let order: Vec<_> = lines.iter().filter(|line| line.op == "undo").map(place).collect();
    if order.windows(2).any(|pair| pair[0] <= pair[1]) {
        faults.push(format!("I11: taken back in the order {order:?}"));
    }
}

/// I10: seq without gap, epoch never down, at most one outcome a step.
fn legal_journal(seen: &Seen, journal: &[Entry], faults: &mut Vec<String>) {
    let seqs: Vec<_> = journal.iter().map(|entry| entry.seq).collect();
    if seqs != (1..=seen.seq).collect::<Vec<_>>() {
        faults.push(format!("I10: it has come to {}, its journal says {seqs:?}", seen.seq));
    }
    if journal.first().is_none_or(|entry| entry.kind != "start") {
        faults.push("I10: its journal does not begin with its start".to_owned());
    }
    if journal.windows(2).any(|pair| pair[1].epoch < pair[0].epoch)
        || journal.last().is_some_and(|entry| entry.epoch > seen.epoch)
    {
        let epochs: Vec<_> = journal.iter().map(|entry| entry.epoch).collect();
        faults.push(format!("I10: epochs go back: {epochs:?}, now {}", seen.epoch));
    }
    let mut settled = HashSet::new();
    let mut undone = HashSet::new();
    for entry in journal {
        let once = match entry.kind.as_str() {
            "outcome" | "settled" | "dropped" | "tx" | "timer" => settled.insert(entry.step_no),
            "undo" => undone.insert(entry.step_no),
            _ => true,
        };
        if !once {
            faults.push(format!(
                "I10: step {:?} has two outcomes, the second is {}",
                entry.step_no, entry.kind
            ));
        }
    }
}

/// I11, as we say: undos last first, of steps that were done or may have been.
fn undos_in_reverse(journal: &[Entry], faults: &mut Vec<String>) {
    let undos: Vec<_> = journal.iter().filter(|entry| entry.kind == "undo").collect();
    if undos.windows(2).any(|pair| pair[0].step_no <= pair[1].step_no) {
        let order: Vec<_> = undos.iter().map(|entry| entry.step_no).collect();
        faults.push(format!("I11: undone in the order {order:?}"));
    }
    for undo in undos {
        let done = journal.iter().any(|entry| {
            entry.step_no == undo.step_no
                && entry.seq < undo.seq
                && (matches!(entry.kind.as_str(), "outcome" | "settled" | "dropped" | "tx")
                    || entry.outcome.as_deref() == Some("unknown"))
        });
        if !done {
            faults.push(format!("I11: step {:?} was undone and never done", undo.step_no));
        }
    }
}
