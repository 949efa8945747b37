//! The deploy gate: which open instances, watched effects, waits for an end and schedules could this binary not go on with?
//!
//! It needs the sagas' types only, neither how their steps are done nor a worker, and changes nothing. Run it with a new binary before the old one
//! is stopped: what it names would wait as `version` (an unknown saga, a newer version) or get `stuck` (no upcast, JSON that does not fit).

use std::{
    collections::BTreeMap,
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::Value;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    instance::{
        Instance,
        upcast::{self, Misfit},
    },
    record::{
        kinds::SagaVersion,
        row::{Row, row_columns},
    },
    saga::{Saga, start::Start},
    store,
};

/// The number of instances that one round trip reads.
const PAGE: usize = 1_000;

/// The number of instances of each mismatch that are named.
const NAMED: usize = 5;

/// A kept signal: its id, its event as JSON, the version that stored it.
type Kept = (String, String, i16);

#[derive(FromRow)]
struct Watched {
    saga_id: Uuid,
    /// The version that stored it.
    #[sqlx(flatten)]
    saga: SagaVersion,
    /// The step that was called, as JSON.
    activity: String,
    /// The undo, as JSON.
    undo: String,
}

/// A wait for the end of another instance.
#[derive(FromRow)]
struct Awaiting {
    waiter_id: Uuid,
    /// The waiter's saga, at the version that stored the signal.
    #[sqlx(flatten)]
    saga: SagaVersion,
    /// The signal that the waiter gets then, as JSON.
    event: String,
}

struct Kind {
    version: u16,
    reads: fn(Row, &[Kept]) -> Result<(), Misfit>,
    reads_signal: fn(i16, &str) -> Result<(), Misfit>,
    reads_watch: fn(&Watched) -> Result<(), Misfit>,
    starts: fn(Value) -> Result<(), String>,
}

/// The sagas that a binary knows.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
/// # async fn f(pool: &sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let misfits = Gate::new().knows::<Seat>().check(pool).await?;
/// for Mismatch { saga, why, count, .. } in &misfits {
///     println!("{count} of {saga} cannot be continued: {why}");
/// }
/// assert!(misfits.is_empty(), "do not deploy this binary");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Gate {
    kinds: BTreeMap<&'static str, Kind>,
}

/// Open instances, watched effects, waits for an end or schedules that cannot be gone on with, all for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The version that wrote them last; of a schedule, whose input has none, the one that this binary knows, or 0.
    pub saga: SagaVersion,
    /// Why they cannot be continued.
    pub why: String,
    /// How many there are.
    pub count: u64,
    /// Some of the instances, at most 5; none of a schedule, which the reason names.
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
        let kind = Kind {
            version: S::VERSION,
            reads: reads::<S>,
            reads_signal: |version, event| upcast::signal::<S>(version, event).map(|_| ()),
            reads_watch: reads_watch::<S>,
            starts: starts::<S>,
        };
        self.kinds.insert(S::NAME, kind);
        self
    }

    /// How many sagas it knows.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// Reads every open instance, in pages by the index of open instances, every watched effect, every wait for an end and every schedule, and answers
    /// what does not fit, by name, version and reason; empty: the binary can go on with everything. Instances that move meanwhile are read before or
    /// after. Round trips: 4, 1 per 1,000 open instances and 1 for each that keeps signals.
    ///
    /// # Errors
    /// The database's.
    pub async fn check(&self, pool: &PgPool) -> Result<Vec<Mismatch>, sqlx::Error> {
        let mut found = Found::default();
        self.check_watches(pool, &mut found).await?;
        self.check_end_waits(pool, &mut found).await?;
        self.check_schedules(pool, &mut found).await?;
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
                after =
                    (row.shard, row.saga.name.clone(), row.subject.clone(), row.start_key.clone());
            }
            for row in page {
                let kept = match row.progress.kept {
                    0 => Vec::new(),
                    _ => store::kept_signals(pool, row.shard, row.saga_id).await?,
                };
                let (id, saga) = (row.saga_id, row.saga.clone());
                let why = self.asked(&saga, |kind| (kind.reads)(row, &kept));
                let Some(why) = why else { continue };
                found.add(saga, why, Some(id));
            }
            if last {
                return Ok(found.0.into_values().collect());
            }
        }
    }

    async fn check_watches(&self, pool: &PgPool, found: &mut Found) -> Result<(), sqlx::Error> {
        let watches: Vec<Watched> = sqlx::query_as(
            "-- name: read watched effects
            select i.name, w.saga_id, w.version, w.activity::text, w.undo::text
            from saga.watch w join saga.instance i on i.shard = w.shard and i.saga_id = w.saga_id",
        )
        .fetch_all(pool)
        .await?;
        for watched in watches {
            let why = self.asked(&watched.saga, |kind| (kind.reads_watch)(&watched));
            if let Some(why) = why {
                let Watched { saga, saga_id, .. } = watched;
                found.add(saga, format!("a watched effect: {why}"), Some(saga_id));
            }
        }
        Ok(())
    }

    async fn check_end_waits(&self, pool: &PgPool, found: &mut Found) -> Result<(), sqlx::Error> {
        let waits: Vec<Awaiting> = sqlx::query_as(
            "-- name: read waits for an end
            select waiter_id, saga as name, version, event::text from saga.end_wait",
        )
        .fetch_all(pool)
        .await?;
        for Awaiting { waiter_id, saga, event } in waits {
            let why = self.asked(&saga, |kind| (kind.reads_signal)(saga.version, &event));
            let Some(why) = why else { continue };
            // A waiter that has ended is not signalled any more.
            let waiter = store::instance(pool, shard_in(waiter_id), waiter_id).await?;
            if waiter.is_some_and(|row| !row.status.is_final()) {
                found.add(saga, format!("a wait for an end: {why}"), Some(waiter_id));
            }
        }
        Ok(())
    }

    async fn check_schedules(&self, pool: &PgPool, found: &mut Found) -> Result<(), sqlx::Error> {
        let schedules: Vec<(String, String, Value)> =
            sqlx::query_as("-- name: read schedules\nselect name, saga, start from saga.schedule")
                .fetch_all(pool)
                .await?;
        for (schedule, saga, start) in schedules {
            let version = self.kinds.get(saga.as_str()).map_or(0, |kind| kind.version);
            let saga = SagaVersion { name: saga, version: version.cast_signed() };
            let why = self.asked(&saga, |kind| (kind.starts)(start));
            if let Some(why) = why {
                found.add(saga, format!("schedule {schedule}: {why}"), None);
            }
        }
        Ok(())
    }

    /// Why this binary cannot read what that version of a saga has stored.
    fn asked<E: Display>(
        &self,
        saga: &SagaVersion,
        reads: impl FnOnce(&Kind) -> Result<(), E>,
    ) -> Option<String> {
        let Some(kind) = self.kinds.get(saga.name.as_str()) else {
            return Some("this binary does not know the saga".to_owned());
        };
        if saga.version.cast_unsigned() > kind.version {
            return Some(format!("this binary knows versions up to {} only", kind.version));
        }
        match catch_unwind(AssertUnwindSafe(|| reads(kind))) {
            Ok(Ok(())) => None,
            Ok(Err(misfit)) => Some(reason(&misfit)),
            Err(_) => Some("reading it panicked".to_owned()),
        }
    }
}

/// Mismatches by saga, version and reason.
#[derive(Default)]
struct Found(BTreeMap<(SagaVersion, String), Mismatch>);

impl Found {
    fn add(&mut self, saga: SagaVersion, why: String, sample: Option<Uuid>) {
        let mismatch = self.0.entry((saga.clone(), why.clone())).or_insert(Mismatch {
            saga,
            why,
            count: 0,
            samples: Vec::new(),
        });
        mismatch.count += 1;
        if mismatch.samples.len() < NAMED {
            mismatch.samples.extend(sample);
        }
    }
}

/// Without the place in the text, so that the same misfit of many instances reads the same.
fn reason(misfit: &impl Display) -> String {
    let why = misfit.to_string();
    why.split(" at line ").next().unwrap_or(&why).to_owned()
}

fn reads_watch<S: Saga>(watched: &Watched) -> Result<(), Misfit> {
    let Watched { saga, activity, undo, .. } = watched;
    upcast::step::<S>(saga.version, activity)?;
    upcast::watched::<S>(saga.version, activity, undo).map(|_| ())
}

fn starts<S: Saga>(start: Value) -> Result<(), String> {
    let start = serde_json::from_value::<Start<Value>>(start).map_err(|error| error.to_string())?;
    let fits = start.try_map(serde_json::from_value::<S::Input>);
    fits.map(|_| ()).map_err(|error| format!("its input does not fit: {error}"))
}

fn reads<S: Saga>(row: Row, kept: &[Kept]) -> Result<(), Misfit> {
    Instance::<S>::from_row(row)?;
    for (_, signal, version) in kept {
        upcast::signal::<S>(*version, signal)?;
    }
    Ok(())
}
