//! The outside world: a provider that deduplicates by key, keeps a book of its own and misbehaves as it is told.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{AssertSqlSafe, PgConnection};
use stepwise_engine::Cause;
use tokio::sync::Semaphore;

/// How one request is treated.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Acts and answers.
    Acts,
    /// Refuses the connection: surely nothing happened.
    NotDone,
    /// Never acts; the caller cannot know.
    SilentBefore,
    /// Acts; the caller cannot know.
    SilentAfter,
    /// Says no.
    Declines,
    /// Acts, and asks for the customer's approval.
    Challenges,
    /// Says something that nobody expects.
    Babbles,
    /// Answers with a reference of its own.
    Refers(String),
    /// Answers what the database cannot store.
    Poisons,
    /// Answers what makes the saga panic.
    Booms,
    /// A tx step fails with this SQLSTATE.
    Raises(&'static str),
    /// The client library panics.
    Panics,
    /// Holds the request until the gate has a permit, then treats it like the behaviour behind.
    Held(Arc<Semaphore>, Box<Behaviour>),
}

/// One effect or its taking back, as the provider booked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) op: String,
    pub(crate) key: String,
    pub(crate) reference: String,
}

/// The place of the book.
enum Book {
    Memory(Mutex<Vec<Line>>),
    /// Shared with other processes: appended under a file lock.
    File(PathBuf),
}

/// A request as it arrived, before it was treated.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) op: String,
    pub(crate) key: String,
    pub(crate) note: String,
}

pub(crate) struct Provider {
    book: Book,
    script: Mutex<HashMap<String, VecDeque<Behaviour>>>,
    requests: Mutex<Vec<Request>>,
}

/// The answer to a request.
pub(crate) enum Answer {
    Done(String),
    Declined,
    Challenged(String),
    Babble,
    Poison,
    Boom,
    NotDone,
    Silence,
}

impl Provider {
    pub(crate) fn in_memory() -> Arc<Self> {
        Arc::new(Self::with(Book::Memory(Mutex::default())))
    }

    pub(crate) fn in_file(path: PathBuf) -> Arc<Self> {
        Arc::new(Self::with(Book::File(path)))
    }

    fn with(book: Book) -> Self {
        Self { book, script: Mutex::default(), requests: Mutex::default() }
    }

    /// The next requests for `op` are treated so, in this order; later ones as [`Behaviour::Acts`].
    pub(crate) fn script(&self, op: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        let mut script = self.script.lock().expect("no test panics while scripting");
        script.entry(op.to_owned()).or_default().extend(behaviours);
    }

    /// From now on it behaves well.
    pub(crate) fn forget_script(&self) {
        self.script.lock().expect("no test panics while scripting").clear();
    }

    /// The next request for `op` waits at the gate that is returned.
    pub(crate) fn hold(&self, op: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.script(op, [Behaviour::Held(gate.clone(), Box::new(Behaviour::Acts))]);
        gate
    }

    pub(crate) fn requests(&self, op: &str) -> Vec<Request> {
        let requests = self.requests.lock().expect("plain data");
        requests.iter().filter(|request| request.op == op).cloned().collect()
    }

    /// All operations asked for, in order.
    pub(crate) fn operations(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("plain data");
        requests.iter().map(|request| request.op.clone()).collect()
    }

    /// The script of a tx step, which is no request: it may fail, panic or take its time.
    pub(crate) async fn in_tx(&self, op: &str, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut next = self.next(op);
        while let Some(Behaviour::Held(gate, then)) = next {
            gate.acquire().await.expect("gates are never closed").forget();
            next = Some(*then);
        }
        match next {
            Some(Behaviour::Panics) => panic!("scripted"),
            Some(Behaviour::Raises(state)) => {
                sqlx::raw_sql(AssertSqlSafe(format!(
                    "-- name: test raise\ndo $$ begin raise exception 'scripted' using errcode = '{state}'; end $$"
                )))
                .execute(tx)
                .await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn next(&self, op: &str) -> Option<Behaviour> {
        let mut script = self.script.lock().expect("no test panics while scripting");
        script.get_mut(op).and_then(VecDeque::pop_front)
    }

    /// Treats a request: `op` under `key`, about `reference` (a new one is made of the key without).
    pub(crate) async fn ask(
        &self,
        op: &str,
        key: &str,
        reference: Option<&str>,
        note: &str,
    ) -> Answer {
        self.requests.lock().expect("plain data").push(Request {
            op: op.to_owned(),
            key: key.to_owned(),
            note: note.to_owned(),
        });
        let mut behaviour = self.next(op).unwrap_or(Behaviour::Acts);
        while let Behaviour::Held(gate, then) = behaviour {
            gate.acquire().await.expect("gates are never closed").forget();
            behaviour = *then;
        }
        let reference = reference.map_or_else(|| format!("ref-{key}"), str::to_owned);
        match behaviour {
            Behaviour::Acts => self.act(op, key, &reference),
            Behaviour::SilentAfter => {
                self.act(op, key, &reference);
                Answer::Silence
            }
            Behaviour::SilentBefore => Answer::Silence,
            Behaviour::NotDone => Answer::NotDone,
            Behaviour::Declines => Answer::Declined,
            Behaviour::Challenges => match self.act(op, key, &reference) {
                Answer::Done(reference) => Answer::Challenged(reference),
                other => other,
            },
            Behaviour::Babbles => Answer::Babble,
            Behaviour::Refers(reference) => self.act(op, key, &reference),
            Behaviour::Poisons => Answer::Poison,
            Behaviour::Booms => Answer::Boom,
            Behaviour::Raises(_) => unreachable!("for tx steps only"),
            Behaviour::Panics => panic!("scripted"),
            Behaviour::Held(..) => unreachable!("released above"),
        }
    }

    /// Books it once per key; nothing may be done with a cancelled reference.
    fn act(&self, op: &str, key: &str, reference: &str) -> Answer {
        if op.starts_with("probe") {
            return Answer::Done(String::new());
        }
        let line = Line { op: op.to_owned(), key: key.to_owned(), reference: reference.to_owned() };
        let booked = self.book(|lines| {
            if let Some(same) = lines.iter().find(|l| l.op == line.op && l.key == line.key) {
                return (same.reference.clone(), None);
            }
            if line.op != "cancel"
                && lines.iter().any(|l| l.op == "cancel" && l.reference == line.reference)
            {
                return (String::new(), None);
            }
            (line.reference.clone(), Some(line.clone()))
        });
        if booked.is_empty() { Answer::Declined } else { Answer::Done(booked) }
    }

    /// Treats a request that was given up long ago; true if it is refused.
    pub(crate) fn act_late(&self, op: &str, key: &str, reference: &str) -> bool {
        matches!(self.act(op, key, reference), Answer::Declined)
    }

    /// The provider's record of a request with that key.
    pub(crate) fn find(&self, op: &str, key: &str) -> Option<String> {
        self.lines().into_iter().find(|l| l.op == op && l.key == key).map(|l| l.reference)
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut all = Vec::new();
        self.book(|lines| {
            all = lines.to_vec();
            (String::new(), None)
        });
        all
    }

    fn book(&self, decide: impl FnOnce(&[Line]) -> (String, Option<Line>)) -> String {
        match &self.book {
            Book::Memory(lines) => {
                let mut lines = lines.lock().expect("plain data");
                let (answer, more) = decide(&lines);
                lines.extend(more);
                answer
            }
            Book::File(path) => {
                let mut file = OpenOptions::new()
                    .create(true)
                    .read(true)
                    .append(true)
                    .open(path)
                    .expect("the test's own directory can be written");
                file.lock().expect("the file system has locks");
                let (answer, more) = decide(&read(&mut file));
                if let Some(line) = more {
                    let text = format!("{} {} {}\n", line.op, line.key, line.reference);
                    file.write_all(text.as_bytes()).expect("there is space for a line");
                }
                answer
            }
        }
    }
}

fn read(file: &mut File) -> Vec<Line> {
    let mut text = String::new();
    file.read_to_string(&mut text).expect("the book is text");
    text.lines()
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().expect("three words a line");
            Line { op: word(), key: word(), reference: word() }
        })
        .collect()
}

/// Shorthand for causes.
pub(crate) fn cause(text: &str) -> Cause {
    Cause::new(text)
}

/// Retries that a test can wait for.
pub(crate) fn quick() -> stepwise_engine::Retry {
    stepwise_engine::Retry { base: Duration::from_millis(2), cap: Duration::from_millis(10) }
}
