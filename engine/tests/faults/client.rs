//! Clients, and the log of what they were told: the first of the three books.
//!
//! A client whose commit was lost asks for its subject before it tries again, as a caller with an idempotency key does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgPool;
use stepwise_engine::{Answer, Engine, Saga, SignalError, Start};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    purchase::{self, Purchase},
    trip::{self, Trip},
};

/// An instance whose start was acknowledged, and what its clients know of it.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) id: Uuid,
    pub(crate) subject: String,
    /// Distinct notes that were applied.
    pub(crate) noted: u32,
    /// Distinct notes of which nobody knows: their commits were lost.
    pub(crate) unsure: u32,
}

/// The answers that clients were given.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) started: Vec<Acknowledged>,
    pub(crate) counts: Counts,
}

/// How often what happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) lost_commits: usize,
    pub(crate) cancelled: usize,
    pub(crate) duplicates: usize,
}

/// Clients at work.
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<()>,
}

/// The kinds of instances that are started, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) clients: usize,
    /// Between two starts of one client.
    pub(crate) pause: Duration,
    /// Of 100 starts so many are purchases, the others trips.
    pub(crate) purchases: u32,
    /// Of 100 instances so many are cancelled at some moment.
    pub(crate) cancels: u32,
    /// Trips too. Not beside a process that is frozen: a booking that it sends when it wakes, after its successor was told "never
    /// heard of it" and unwound, stands for good. Purchases are split in two, so that theirs is refused.
    pub(crate) cancels_trips: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            clients: 2,
            pause: Duration::from_millis(25),
            purchases: 50,
            cancels: 10,
            cancels_trips: true,
        }
    }
}

/// Subjects of one test run never repeat.
static SUBJECTS: AtomicUsize = AtomicUsize::new(0);

impl Load {
    pub(crate) fn begin(engine: &Engine, log: &Arc<Mutex<Log>>, seed: u64, pace: Pace) -> Self {
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for n in 0..pace.clients {
            let random = StdRng::seed_from_u64(seed.wrapping_add(n as u64));
            let client = Client { engine: engine.clone(), log: log.clone(), random, pace };
            clients.spawn(client.run(stop.clone()));
        }
        Self { stop, clients }
    }

    /// Waits until what was begun is known.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while let Some(client) = self.clients.join_next().await {
            client.expect("clients do not panic");
        }
    }
}

struct Client {
    engine: Engine,
    log: Arc<Mutex<Log>>,
    random: StdRng,
    pace: Pace,
}

impl Client {
    async fn run(mut self, stop: CancellationToken) {
        let mut busy = JoinSet::new();
        while !stop.is_cancelled() {
            let n = SUBJECTS.fetch_add(1, Ordering::Relaxed);
            let cancels = self.random.random_range(0..100) < self.pace.cancels;
            let seed = self.random.random();
            if self.random.random_range(0..100) < self.pace.purchases {
                let purchase = format!("purchase-{n}");
                let item = self.random.random_range(0..8);
                let input = purchase::Input { purchase: purchase.clone(), item };
                let id = start::<Purchase>(&self.engine, &self.log, &purchase, input).await;
                let tells = purchase_signals(self.random.random_range(0..100), cancels);
                busy.spawn(tell::<Purchase>(
                    self.engine.clone(),
                    self.log.clone(),
                    id,
                    tells,
                    seed,
                ));
            } else {
                let id = start::<Trip>(&self.engine, &self.log, &format!("trip-{n}"), ()).await;
                let cancels = cancels && self.pace.cancels_trips;
                let tells = trip_signals(self.random.random_range(0..100), cancels);
                busy.spawn(tell::<Trip>(self.engine.clone(), self.log.clone(), id, tells, seed));
            }
            tokio::time::sleep(self.pace.pause).await;
        }
        while let Some(told) = busy.join_next().await {
            told.expect("clients do not panic");
        }
    }
}

/// One that is to be given: its id, how often it is sent, what it says, whether it counts as a note.
type Tell<S> = (&'static str, usize, S, bool);

fn purchase_signals(lot: u32, cancels: bool) -> Vec<Tell<purchase::Signal>> {
    let mut tells = vec![("approved", 2, purchase::Signal::Approved, false)];
    if lot < 40 {
        tells.push(("note", 3, purchase::Signal::Note, true));
    }
    if cancels {
        tells.push(("cancel", 1, purchase::Signal::Cancel, false));
    }
    tells
}

fn trip_signals(lot: u32, cancels: bool) -> Vec<Tell<trip::Signal>> {
    let mut tells = Vec::new();
    if lot < 40 {
        tells.push(("note", 3, trip::Signal::Note, true));
    }
    if cancels {
        tells.push(("cancel", 1, trip::Signal::Cancel, false));
    }
    tells
}

/// Starts until it is acknowledged.
pub(crate) async fn start<S: Saga>(
    engine: &Engine,
    log: &Mutex<Log>,
    subject: &str,
    input: S::Input,
) -> Uuid {
    let id = loop {
        let started: Result<Uuid, stepwise_engine::StartError> = async {
            let mut tx = engine.begin().await?;
            let started = engine.start::<S>(&mut tx, Start::new(subject, input.clone())).await?;
            tx.commit().await?;
            Ok(started.id)
        }
        .await;
        match started {
            Ok(id) => break id,
            Err(_) => log.lock().expect("plain data").counts.lost_commits += 1,
        }
        // All or nothing: it is there, or it was not started.
        if let Some(id) = find(engine.pool(), subject).await {
            break id;
        }
    };
    let acknowledged = Acknowledged { id, subject: subject.to_owned(), noted: 0, unsure: 0 };
    log.lock().expect("plain data").started.push(acknowledged);
    id
}

/// Looks until the database answers.
async fn find(pool: &PgPool, subject: &str) -> Option<Uuid> {
    loop {
        let found = sqlx::query_scalar(
            "-- name: test find\nselect saga_id from saga.instance where subject = $1",
        )
        .bind(subject)
        .fetch_optional(pool)
        .await;
        match found {
            Ok(id) => return id,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Gives the signals at random moments, each as often as told.
async fn tell<S: Saga>(
    engine: Engine,
    log: Arc<Mutex<Log>>,
    id: Uuid,
    tells: Vec<Tell<S::Signal>>,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for (signal_id, times, sent, is_note) in tells {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..120))).await;
        let (mut applied, mut unsure) = (false, false);
        for _ in 0..times {
            // Until it is answered: a lost commit is a reason to send it once more.
            loop {
                match give::<S>(&engine, id, signal_id, sent.clone()).await {
                    Ok(answer) => {
                        let mut log = log.lock().expect("plain data");
                        log.counts.duplicates += usize::from(answer == Answer::Duplicate);
                        applied |= answer == Answer::Applied;
                        log.counts.cancelled +=
                            usize::from(signal_id == "cancel" && answer == Answer::Applied);
                        break;
                    }
                    Err(_) => {
                        unsure = true;
                        log.lock().expect("plain data").counts.lost_commits += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
        if is_note {
            let mut log = log.lock().expect("plain data");
            if let Some(known) = log.started.iter_mut().find(|known| known.id == id) {
                known.noted += u32::from(applied);
                known.unsure += u32::from(!applied && unsure);
            }
        }
    }
}

/// Gives a signal once.
pub(crate) async fn give<S: Saga>(
    engine: &Engine,
    id: Uuid,
    signal_id: &str,
    sent: S::Signal,
) -> Result<Answer, SignalError> {
    let mut tx = engine.begin().await?;
    let answer = engine.signal::<S>(&mut tx, id, signal_id, sent).await?;
    tx.commit().await?;
    Ok(answer)
}
