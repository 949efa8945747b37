//! The outside world: a provider with an append-only book of its own, in the process that no fault touches, and a consumer of messages.
//!
//! It deduplicates by key, refuses a key or a reference that was taken back, and otherwise behaves as badly as it is told.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    outside::{Illness, Reply, Request},
    trip::{LATE, LATE_LEG},
};

/// How it treats requests; chances are of 100.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// Refused: surely nothing was done.
    pub(crate) not_done: u32,
    /// The connection ends without an answer, nothing was done.
    pub(crate) silent_before: u32,
    /// It was done, and the connection ends without an answer.
    pub(crate) silent_after: u32,
    /// The connection ends without an answer, and it is done later (third leg of a trip only).
    pub(crate) late: u32,
    /// It was done, and is answered twice.
    pub(crate) twice: u32,
    /// Keys that are declined (fourth and fifth leg, confirmations).
    pub(crate) declines: u32,
    /// Confirmations that need an approval.
    pub(crate) challenges: u32,
    /// How long an answer takes.
    pub(crate) delay: Range<Duration>,
    /// Operations that take longer.
    pub(crate) slow: Option<(&'static str, Duration)>,
}

impl Manners {
    /// It does what it is asked.
    pub(crate) fn good() -> Self {
        Self {
            not_done: 0,
            silent_before: 0,
            silent_after: 0,
            late: 0,
            twice: 0,
            declines: 0,
            challenges: 0,
            delay: Duration::ZERO..Duration::from_millis(1),
            slow: None,
        }
    }

    /// As gateways are on a bad day.
    pub(crate) fn bad() -> Self {
        Self {
            not_done: 4,
            silent_before: 2,
            silent_after: 2,
            late: 5,
            twice: 2,
            declines: 6,
            challenges: 15,
            delay: Duration::ZERO..Duration::from_millis(20),
            ..Self::good()
        }
    }
}

/// One thing done or taken back, in the order of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The operation that was done; `undo` for its taking back.
    pub(crate) op: String,
    /// `{instance}-{step}`, also of an undo.
    pub(crate) key: String,
    pub(crate) reference: String,
}

/// A message as the consumer received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) subject: String,
    pub(crate) sequence: i64,
    pub(crate) id: Uuid,
}

struct Desk {
    random: StdRng,
    manners: Manners,
    book: Vec<Line>,
    answers: HashMap<String, Reply>,
    closed: HashSet<String>,
    cancelled: HashSet<String>,
    ill: HashMap<Uuid, Illness>,
    receipts: Vec<Receipt>,
    asked: Vec<(Instant, Request)>,
    moods: BTreeMap<&'static str, usize>,
}

pub(crate) struct Provider {
    desk: Arc<Mutex<Desk>>,
    open: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    NotDone,
    SilentBefore,
    SilentAfter,
    Late,
    Twice,
}

impl Provider {
    /// Listens there, until dropped.
    pub(crate) fn at(socket: &Path, manners: Manners, seed: u64) -> Self {
        let desk = Arc::new(Mutex::new(Desk {
            random: StdRng::seed_from_u64(seed),
            manners,
            book: Vec::new(),
            answers: HashMap::new(),
            closed: HashSet::new(),
            cancelled: HashSet::new(),
            ill: HashMap::new(),
            receipts: Vec::new(),
            asked: Vec::new(),
            moods: BTreeMap::new(),
        }));
        let listener = UnixListener::bind(socket).expect("the folder is the test's");
        let open = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, desk.clone(), open.clone()));
        Self { desk, open, _serving: serving }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("nobody panics at the desk")
    }

    /// From now on.
    pub(crate) fn behave(&self, manners: Manners) {
        self.desk().manners = manners;
    }

    /// Answers requests of that instance with something that makes the worker's code panic.
    pub(crate) fn infect(&self, id: Uuid, illness: Illness) {
        self.desk().ill.insert(id, illness);
    }

    /// From now on, requests of that instance are done.
    pub(crate) fn cure(&self, id: Uuid) {
        self.desk().ill.remove(&id);
    }

    pub(crate) fn book(&self) -> Vec<Line> {
        self.desk().book.clone()
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.desk().receipts.clone()
    }

    /// How often each mood was in.
    pub(crate) fn moods(&self) -> BTreeMap<&'static str, usize> {
        self.desk().moods.clone()
    }

    /// How many requests to do that operation have come.
    pub(crate) fn asked(&self, wanted: &str) -> usize {
        let is = |request: &Request| matches!(request, Request::Do { op, .. } if op == wanted);
        self.desk().asked.iter().filter(|(_, request)| is(request)).count()
    }

    /// How many questions what became of a key have come.
    pub(crate) fn probes(&self) -> usize {
        self.desk()
            .asked
            .iter()
            .filter(|(_, request)| matches!(request, Request::Ask { .. }))
            .count()
    }

    /// Nobody is being served, and nobody has come for a while in which what is late would have been done.
    pub(crate) fn is_quiet(&self) -> bool {
        let last = self.desk().asked.last().map(|(at, _)| *at);
        self.open.load(Ordering::Relaxed) == 0 && last.is_none_or(|at| at.elapsed() > 2 * LATE)
    }
}

async fn serve(listener: UnixListener, desk: Arc<Mutex<Desk>>, open: Arc<AtomicUsize>) {
    let mut busy = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (desk, open) = (desk.clone(), open.clone());
                open.fetch_add(1, Ordering::Relaxed);
                busy.spawn(async move {
                    // Whoever asked may be dead by now.
                    let _ = attend(stream, &desk).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = busy.join_next(), if !busy.is_empty() => {}
        }
    }
}

async fn attend(stream: UnixStream, desk: &Mutex<Desk>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    // A request that was cut off was not made.
    let Ok(request) = serde_json::from_str::<Request>(&line) else { return Ok(()) };
    let (mood, delay) = desk.lock().expect("nobody panics at the desk").receive(&request);
    tokio::time::sleep(delay).await;
    if mood == Mood::Late {
        drop(stream);
        tokio::time::sleep(LATE).await;
        desk.lock().expect("nobody panics at the desk").act(request);
        return Ok(());
    }
    let reply = match mood {
        Mood::NotDone => Reply::NotDone,
        Mood::SilentBefore => return Ok(()),
        _ => desk.lock().expect("nobody panics at the desk").act(request),
    };
    if mood == Mood::SilentAfter {
        return Ok(());
    }
    let mut answer = serde_json::to_string(&reply).expect("plain data");
    answer.push('\n');
    for _ in 0..if mood == Mood::Twice { 2 } else { 1 } {
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

impl Desk {
    /// Decides how the request is treated.
    fn receive(&mut self, request: &Request) -> (Mood, Duration) {
        self.asked.push((Instant::now(), request.clone()));
        let manners = &self.manners;
        let late = matches!(request, Request::Do { op, .. } if *op == format!("book-{LATE_LEG}"));
        let moods = [
            (Mood::NotDone, "not done", manners.not_done),
            (Mood::SilentBefore, "silent before", manners.silent_before),
            (Mood::SilentAfter, "silent after", manners.silent_after),
            (Mood::Late, "late", if late { manners.late } else { 0 }),
            (Mood::Twice, "twice", manners.twice),
        ];
        let mut delay = self.random.random_range(manners.delay.clone());
        if let (Some((slow, longer)), Request::Do { op, .. }) = (manners.slow, request)
            && op == slow
        {
            delay = longer;
        }
        let mut lot = self.random.random_range(0..100);
        for (mood, name, chance) in moods {
            if lot < chance {
                *self.moods.entry(name).or_default() += 1;
                return (mood, delay);
            }
            lot -= chance;
        }
        (Mood::Well, delay)
    }

    fn act(&mut self, request: Request) -> Reply {
        match request {
            Request::Do { op, key, reference } => self.do_once(op, key, reference),
            Request::Ask { key } => self.answers.get(&key).cloned().unwrap_or(Reply::Nothing),
            Request::Undo { key } => self.undo(key),
            Request::Publish { subject, sequence, id } => {
                self.receipts.push(Receipt { subject, sequence, id });
                Reply::Done(String::new())
            }
        }
    }

    fn do_once(&mut self, op: String, key: String, reference: Option<String>) -> Reply {
        let about = key.get(..36).and_then(|id| Uuid::parse_str(id).ok());
        if let Some(illness) = about.and_then(|id| self.ill.get(&id)) {
            return Reply::Ill(*illness);
        }
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        let dead = self.closed.contains(&key)
            || reference.as_ref().is_some_and(|about| self.cancelled.contains(about));
        let may_decline = matches!(op.as_str(), "book-4" | "book-5" | "confirm");
        let answer = if dead {
            Reply::Declined
        } else if may_decline && self.chance(self.manners.declines) {
            *self.moods.entry("declines").or_default() += 1;
            Reply::Declined
        } else {
            let reference = reference.unwrap_or_else(|| format!("{op}:{key}"));
            self.book.push(Line { op: op.clone(), key: key.clone(), reference: reference.clone() });
            if op == "confirm" && self.chance(self.manners.challenges) {
                *self.moods.entry("challenges").or_default() += 1;
                Reply::Challenged(reference)
            } else {
                Reply::Done(reference)
            }
        };
        self.answers.insert(key, answer.clone());
        answer
    }

    fn undo(&mut self, key: String) -> Reply {
        self.closed.insert(key.clone());
        let Some(done) = self.book.iter().find(|line| line.key == key).cloned() else {
            return Reply::Nothing;
        };
        if self.cancelled.insert(done.reference.clone()) {
            self.book.push(Line { op: "undo".to_owned(), ..done.clone() });
        }
        Reply::Done(done.reference)
    }

    fn chance(&mut self, of_100: u32) -> bool {
        self.random.random_range(0..100) < of_100
    }
}
