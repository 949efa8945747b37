//! How long things are kept: the option `--keep`, and the task that deletes what is older.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use stepwise_adapters::mail;
use stepwise_engine::{
    Engine, Retention as EngineRetention, StartError, Trouble, database::in_time,
    outbox::RelaySettings,
};
use stepwise_workflows::{
    Shop,
    erasure::tax::{self, TaxRecordRefusal},
    purge::{self, RULES},
    sagas::cart_expiry,
};

use super::Failure;

/// How often old things are looked for.
const EVERY: Duration = Duration::from_secs(10);

/// How many files of mails are deleted at once.
const MAILS: usize = 1_000;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long each kind of thing is kept.
#[derive(Debug, Clone)]
pub struct Keep {
    /// The rows of the shop.
    pub(super) rows: purge::Retention,
    /// The files of mails.
    pub(super) mails: Duration,
    /// Published events, which subscribers can read again.
    pub(super) published: Duration,
    /// The engine's journal and finished sagas.
    pub(super) engine: EngineRetention,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            rows: purge::Retention::default(),
            mails: 30 * DAY,
            published: RelaySettings::default().keep,
            engine: EngineRetention::default(),
        }
    }
}

impl Keep {
    /// The defaults, changed by texts such as `parked-events=30d`.
    pub(super) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Failure> {
        let mut keep = Self::default();
        for text in texts {
            let (name, time) = text.split_once('=').unwrap_or((text, ""));
            let Some(time) = time_of(time) else {
                return Err(Failure::usage(format!(
                    "--keep {text}: write a name and a time, such as parked-events=30d (d, h, m or s)"
                )));
            };
            if time < at_least(name) {
                return Err(too_short(text, at_least(name)));
            }
            match name {
                "mail-files" => keep.mails = time,
                "published-events" => keep.published = time,
                "journal" => keep.engine.journal = time,
                "finished-sagas" => keep.engine.finished = time,
                _ => keep.rows.keep(name, time).map_err(|bad| match bad {
                    purge::BadRetention::Unknown => Failure::usage(format!(
                        "--keep {name}: there is no such kind; the kinds are {}",
                        kinds().join(", ")
                    )),
                    purge::BadRetention::TooShort(at_least) => too_short(text, at_least),
                })?,
            }
        }
        Ok(keep)
    }
}

/// The shortest time for what is no row of the shop: a subscriber reads on after an outage, a customer opens a mail, and whoever repeats a request after
/// three days still finds its operation. Nothing but `saga show` needs the journal.
fn at_least(name: &str) -> Duration {
    match name {
        "published-events" | "mail-files" => HOUR,
        "finished-sagas" => 3 * DAY,
        _ => Duration::ZERO,
    }
}

fn too_short(text: &str, at_least: Duration) -> Failure {
    let seconds = at_least.as_secs();
    Failure::usage(format!(
        "--keep {text}: they are needed for {seconds} s, and cannot be kept for less"
    ))
}

fn kinds() -> Vec<&'static str> {
    let rows = RULES.iter().map(|rule| rule.name);
    rows.chain(["mail-files", "published-events", "journal", "finished-sagas"]).collect()
}

/// A time such as `30d`, `72h`, `15m` or `10s`; at most 100 years.
fn time_of(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.as_bytes().last()? {
        b'd' => (text.strip_suffix('d')?, 86_400),
        b'h' => (text.strip_suffix('h')?, 3_600),
        b'm' => (text.strip_suffix('m')?, 60),
        b's' => (text.strip_suffix('s')?, 1),
        _ => return None,
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let time = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?);
    (digits && time <= 36_500 * DAY).then_some(time)
}

/// Again and again: takes up the carts that no saga watches, deletes what is older than it is kept, and destroys the keys of tax records whose statutory
/// time is over. None of them waits for another that fails.
pub(super) async fn run(engine: Engine, shop: &Shop, mails: PathBuf, keep: Keep) {
    let carts = Trouble::new("carts that no saga watches cannot be taken up");
    let rows = Trouble::new("old rows cannot be deleted");
    let files = Trouble::new("old mails cannot be deleted");
    let records = Trouble::new("cannot destroy the keys of tax records whose time is over");
    loop {
        match adopt(&engine, shop).await {
            Ok(()) => carts.end(),
            Err(StartError::Database(error)) => carts.begin_with(&error),
            Err(error) => carts.begin(&error),
        }
        match purge::run(engine.pool(), &keep.rows).await {
            Ok(_) => rows.end(),
            Err(error) => rows.begin_with(&error),
        }
        match mail::delete_old(mails.clone(), keep.mails, MAILS).await {
            Ok(_) => files.end(),
            Err(error) => files.begin(&error),
        }
        match tax::end_retention(engine.pool(), &*shop.keys).await {
            Ok(_) => records.end(),
            Err(TaxRecordRefusal::Database(error)) => records.begin_with(&error),
            Err(error) => records.begin(&error),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Takes up all carts that no saga watches. An earlier release fills such carts while a new one is rolled out.
async fn adopt(engine: &Engine, shop: &Shop) -> Result<(), StartError> {
    let mut from: Option<DateTime<Utc>> = None;
    loop {
        let next = in_time(cart_expiry::adopt(engine, shop, from)).await?;
        // A whole batch may have been used at the same moment: then the rest comes with the next round.
        if next.is_none() || next == from {
            return Ok(());
        }
        from = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_by_name_and_everything_else_is_refused_with_the_reason() {
        let keep = Keep::parse(["mail-files=12h", "journal=7d", "finished-sagas=30d"]);
        let keep = keep.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((keep.mails, keep.engine.journal), (DAY / 2, 7 * DAY));
        assert_eq!(keep.engine.finished, 30 * DAY);
        for (text, says) in [
            ("orders=1d", "the kinds are idempotency-answers, sessions"),
            ("sessions", "write a name and a time"),
            ("sessions=1w", "write a name and a time"),
            ("sessions=-1d", "write a name and a time"),
            ("sessions=+1d", "write a name and a time"),
            ("sessions=99999999999999999999d", "write a name and a time"),
            ("idempotency-answers=71h", "needed for 259200 s"),
            ("published-events=0s", "needed for 3600 s"),
            ("mail-files=59m", "needed for 3600 s"),
            ("finished-sagas=2d", "needed for 259200 s"),
        ] {
            let refused = Keep::parse([text]).err().map(|failure| failure.to_string());
            assert!(refused.as_ref().is_some_and(|text| text.contains(says)), "{refused:?}");
        }
    }
}
