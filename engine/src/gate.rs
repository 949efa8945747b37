//! The deploy gate: which open instances could this binary not go on with?
//!
//! It needs the sagas' types only, neither how their steps are done nor a worker, and changes nothing. Run it with a new binary before the old one
//! is stopped: what it names would wait as `version` (an unknown saga, a newer version) or get `stuck` (no upcast, JSON that does not fit).

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    instance::Instance,
    row::{Row, row_columns},
    saga::Saga,
    store,
    upcast::{self, Misfit},
};

/// So many instances are read by one round trip.
const PAGE: usize = 1_000;
/// So many instances of each mismatch are named.
const NAMED: usize = 5;

/// A kept signal: its id, its event as JSON, the version that stored it.
type Kept = (String, String, i16);

struct Kind {
    version: u16,
    reads: fn(Row, &[Kept]) -> Result<(), Misfit>,
}

/// The sagas that a binary knows.
#[derive(Default)]
pub struct Gate {
    kinds: BTreeMap<&'static str, Kind>,
}

/// Open instances that cannot be continued, all for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Their saga.
    pub name: String,
    /// The version that wrote them last.
    pub version: i16,
    /// Why they cannot be continued.
    pub why: String,
    /// How many there are.
    pub count: u64,
    /// Some of them, at most 5.
    pub samples: Vec<Uuid>,
}

impl Gate {
    /// One that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The binary knows this saga.
    #[must_use]
    pub fn knows<S: Saga>(mut self) -> Self {
        self.kinds.insert(S::NAME, Kind { version: S::VERSION, reads: reads::<S> });
        self
    }

    /// How many sagas it knows.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// Reads every open instance, in pages by the index of open instances, and answers what does not fit, by name, version and reason; empty: the
    /// binary can go on with everything. Instances that move meanwhile are read before or after. Round trips: 1 per 1,000 open
    /// instances and 1 for each that keeps signals.
    ///
    /// # Errors
    /// The database's.
    pub async fn check(&self, pool: &PgPool) -> Result<Vec<Mismatch>, sqlx::Error> {
        let mut found: BTreeMap<(String, i16, String), Mismatch> = BTreeMap::new();
        let mut after = (-1_i16, String::new(), String::new(), String::new());
        loop {
            let page: Vec<Row> = sqlx::query_as(concat!(
                "-- name: read open instances\nselect ",
                row_columns!(),
                " from saga.instance i
                where i.status not in ('completed', 'unwound', 'abandoned')
                    and (i.shard, i.name, i.subject, i.start_key) > ($1, $2, $3, $4)
                order by i.shard, i.name, i.subject, i.start_key limit 1000"
            ))
            .bind(after.0)
            .bind(&after.1)
            .bind(&after.2)
            .bind(&after.3)
            .fetch_all(pool)
            .await?;
            let last = page.len() < PAGE;
            if let Some(row) = page.last() {
                after = (row.shard, row.name.clone(), row.subject.clone(), row.start_key.clone());
            }
            for row in page {
                let kept = match row.kept {
                    0 => Vec::new(),
                    _ => store::early_signals(pool, row.shard, row.saga_id).await?,
                };
                let (id, name, version) = (row.saga_id, row.name.clone(), row.version);
                let Some(why) = self.misfit(row, &kept) else { continue };
                let mismatch = found
                    .entry((name.clone(), version, why.clone()))
                    .or_insert(Mismatch { name, version, why, count: 0, samples: Vec::new() });
                mismatch.count += 1;
                if mismatch.samples.len() < NAMED {
                    mismatch.samples.push(id);
                }
            }
            if last {
                return Ok(found.into_values().collect());
            }
        }
    }

    fn misfit(&self, row: Row, kept: &[Kept]) -> Option<String> {
        let Some(kind) = self.kinds.get(row.name.as_str()) else {
            return Some("this binary does not know the saga".to_owned());
        };
        if row.version.cast_unsigned() > kind.version {
            return Some(format!("this binary knows versions up to {} only", kind.version));
        }
        let read = catch_unwind(AssertUnwindSafe(|| (kind.reads)(row, kept)));
        match read {
            Ok(Ok(())) => None,
            Ok(Err(misfit)) => Some(reason(&misfit)),
            Err(_) => Some("reading it panicked".to_owned()),
        }
    }
}

/// Without the place in the text, so that the same misfit of many instances reads the same.
fn reason(misfit: &Misfit) -> String {
    let why = misfit.to_string();
    why.split(" at line ").next().unwrap_or(&why).to_owned()
}

fn reads<S: Saga>(row: Row, kept: &[Kept]) -> Result<(), Misfit> {
    Instance::<S>::from_row(row)?;
    for (_, event, version) in kept {
        upcast::event::<S>(*version, event)?;
    }
    Ok(())
}
