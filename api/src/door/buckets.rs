//! Token buckets that all processes of an installation share.
//!
//! A bucket fills at a steady rate up to a limit, and a request takes one token. The buckets are rows of the database. A process takes
//! tokens in chunks and hands them out by itself, so a busy caller costs a round trip for every chunk, in the background, and no request
//! of that caller waits for one. A process that holds tokens which nobody asks for lets them lapse ten seconds after it has taken them. So the
//! processes admit together what the bucket allows, and a little less while several of them hold a chunk. Only a burst within these ten
//! seconds can be larger: by the tokens that a process still holds, a chunk and a half at most.
//!
//! While the database does not answer, requests are admitted: they fail there anyway, or need nothing of it.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures::FutureExt;
use sqlx::{PgConnection, PgPool, Row};
use stepwise_engine::{
    Trouble,
    database::{self, in_time},
};
use tokio::sync::oneshot;

/// How long a process keeps tokens that nobody asks for.
const LAPSE: Duration = Duration::from_secs(10);
/// How long a request waits for tokens. If the database takes longer, the request is admitted.
const PATIENCE: Duration = Duration::from_millis(250);
/// The maximum number of buckets of which a process holds tokens.
const REMEMBERED: usize = 50_000;
/// The shortest time between two searches for tokens that have lapsed, while there are too many buckets. Every request waits for such a search.
const SEARCH_GAP: Duration = Duration::from_secs(1);

/// The name of a bucket: a keyed hash, so that no address of a person is stored.
pub type Name = [u8; 32];

/// The rate of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Seconds in which the bucket gets one token.
    gap_s: f64,
    /// The most tokens in the bucket.
    burst: u32,
    /// The number of tokens that a process takes at once.
    chunk: u32,
}

impl Rate {
    /// `n` tokens a second, and twice as many in a burst: a page that loads sends many requests at once. `None` for zero.
    pub fn per_second(n: u32) -> Option<Self> {
        let rate =
            Self { gap_s: 1.0 / f64::from(n), burst: n.saturating_mul(2), chunk: (n / 8).max(1) };
        (n > 0).then_some(rate)
    }

    /// `n` tokens a minute, which are counted one by one. `None` for zero.
    pub fn per_minute(n: u32) -> Option<Self> {
        (n > 0).then_some(Self { gap_s: 60.0 / f64::from(n), burst: n, chunk: 1 })
    }

    /// The time in which a bucket gets half a chunk.
    fn half_chunk(self) -> Duration {
        Duration::from_secs_f64(self.gap_s * f64::from((self.chunk / 2).max(1)))
    }
}

/// Tokens that were taken together.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    left: u32,
    lapses: Instant,
}

/// The tokens of one bucket that this process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// The older chunk, which is used first, and the newer one.
    chunks: [Chunk; 2],
    /// The bucket has no more tokens before this time.
    empty_until: Instant,
}

/// The tokens of all buckets that this process holds.
#[derive(Debug, Default)]
struct AllHeld {
    by_name: HashMap<Name, Held>,
    /// The last time when lapsed tokens were forgotten.
    searched: Option<Instant>,
}

type Answer = oneshot::Sender<Result<(), Duration>>;
type Asked = (Name, Rate, Option<Answer>);
type ByName = BTreeMap<Name, (Rate, Vec<Answer>)>;

#[derive(Debug, Default)]
struct Waiting {
    asked: Vec<Asked>,
    /// A task is taking tokens, and will take these next.
    under_way: bool,
}

/// The buckets, as this process sees them.
#[derive(Clone)]
pub struct Buckets(Arc<Inner>);

struct Inner {
    db: PgPool,
    trouble: Trouble,
    held: Mutex<AllHeld>,
    waiting: Mutex<Waiting>,
}

impl Buckets {
    /// Uses the buckets of this database.
    pub fn new(db: PgPool) -> Self {
        let trouble = Trouble::new("requests cannot be counted; they are admitted");
        Self(Arc::new(Inner { db, trouble, held: Mutex::default(), waiting: Mutex::default() }))
    }

    /// Takes a token from the bucket. `Err` is the time until the bucket has one. No round trip if this process holds tokens; otherwise one, which
    /// requests at the same moment share.
    pub async fn take(&self, name: Name, rate: Rate) -> Result<(), Duration> {
        match self.0.take_held(&name, rate) {
            Taken::Token => return Ok(()),
            Taken::LastHalf => {
                self.ask((name, rate, None));
                return Ok(());
            }
            Taken::Empty(wait) => return Err(wait),
            Taken::Nothing => {}
        }
        let (answer, answered) = oneshot::channel();
        self.ask((name, rate, Some(answer)));
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            // The database does not answer.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    fn ask(&self, asked: Asked) {
        let first = {
            let mut waiting = locked(&self.0.waiting);
            waiting.asked.push(asked);
            !std::mem::replace(&mut waiting.under_way, true)
        };
        if first {
            // The tokens are taken in a task of its own, because the first request may be cancelled.
            tokio::spawn(Arc::clone(&self.0).ask_all());
        }
    }

    /// Forgets tokens that have lapsed.
    pub fn tidy(&self) {
        locked(&self.0.held).forget_lapsed(Instant::now());
    }
}

/// The result of asking for a token that this process holds.
enum Taken {
    Token,
    /// A token, and half of a chunk is left: time to take the next chunk.
    LastHalf,
    /// The bucket is empty for so long.
    Empty(Duration),
    /// This process holds no token.
    Nothing,
}

impl Chunk {
    fn left(&self, now: Instant) -> u32 {
        if self.lapses > now { self.left } else { 0 }
    }
}

impl Held {
    fn left(&self, now: Instant) -> u32 {
        self.chunks.iter().fold(0, |sum, chunk| sum.saturating_add(chunk.left(now)))
    }

    fn is_useful(&self, now: Instant) -> bool {
        self.left(now) > 0 || self.empty_until > now
    }

    /// Adds tokens that were taken at this time. If some of both earlier chunks are left, they lapse with the older.
    fn add(&mut self, left: u32, taken: Instant) {
        let [older, newer] = self.chunks;
        let earlier = match (older.left(taken), newer.left(taken)) {
            (0, _) => newer,
            (some, more) => Chunk { left: some.saturating_add(more), ..older },
        };
        self.chunks = [earlier, Chunk { left, lapses: taken + LAPSE }];
    }
}

impl AllHeld {
    /// Keeps tokens of this bucket that were taken at this time. Does nothing while there are too many buckets.
    fn keep(&mut self, name: Name, left: u32, empty_until: Instant, taken: Instant) {
        if self.by_name.len() >= REMEMBERED && !self.by_name.contains_key(&name) {
            if self.searched.is_none_or(|searched| taken >= searched + SEARCH_GAP) {
                self.forget_lapsed(taken);
            }
            if self.by_name.len() >= REMEMBERED {
                return;
            }
        }
        let none = Held { chunks: [Chunk { left: 0, lapses: taken }; 2], empty_until };
        let held = self.by_name.entry(name).or_insert(none);
        held.add(left, taken);
        held.empty_until = empty_until;
    }

    fn forget_lapsed(&mut self, now: Instant) {
        self.by_name.retain(|_, held| held.is_useful(now));
        self.searched = Some(now);
    }
}

impl Inner {
    fn take_held(&self, name: &Name, rate: Rate) -> Taken {
        let now = Instant::now();
        let mut held = locked(&self.held);
        let Some(held) = held.by_name.get_mut(name) else { return Taken::Nothing };
        if let Some(chunk) = held.chunks.iter_mut().find(|chunk| chunk.left(now) > 0) {
            chunk.left -= 1;
            let is_half = rate.chunk > 1 && held.left(now) == rate.chunk / 2;
            return if is_half && held.empty_until <= now { Taken::LastHalf } else { Taken::Token };
        }
        match held.empty_until.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Taken::Empty(wait),
            _ => Taken::Nothing,
        }
    }

    async fn ask_all(self: Arc<Self>) {
        while let Some(asked) = self.next_round() {
            // A panic drops the senders, which admits the requests. The others get their turn.
            drop(AssertUnwindSafe(self.ask_once(asked)).catch_unwind().await);
        }
    }

    /// The requests that are asked for next. `None` if nobody waits: then the next request begins to ask.
    fn next_round(&self) -> Option<Vec<Asked>> {
        let mut waiting = locked(&self.waiting);
        let asked = std::mem::take(&mut waiting.asked);
        waiting.under_way = !asked.is_empty();
        waiting.under_way.then_some(asked)
    }

    async fn ask_once(&self, asked: Vec<Asked>) {
        let mut by_name = ByName::new();
        for (name, rate, answer) in asked {
            by_name.entry(name).or_insert((rate, Vec::new())).1.extend(answer);
        }
        // The tokens lapse a while after they were asked for: the database may grant them long before its answer is here.
        let taken = Instant::now();
        match in_time(database::ask(&self.db, |mut db| {
            let by_name = &by_name;
            async move { take(&mut db, by_name.iter().map(|(n, (r, a))| (n, *r, a.len()))).await }
        }))
        .await
        {
            Ok(granted) => {
                self.trouble.end();
                self.hand_out(by_name, &granted, taken);
            }
            // Dropping the senders admits the requests.
            Err(error) => self.trouble.begin_with(&error),
        }
    }

    /// Answers those who wait for a token, and keeps the tokens that are left.
    fn hand_out(&self, by_name: ByName, granted: &HashMap<Name, Granted>, taken: Instant) {
        let now = Instant::now();
        for (name, (rate, answers)) in by_name {
            let Some(granted) = granted.get(&name) else { continue };
            let waiting = u32::try_from(answers.len()).unwrap_or(u32::MAX);
            let is_empty = granted.tokens < wanted(rate, answers.len());
            let wait = granted.wait(rate).max(rate.half_chunk());
            for (n, answer) in answers.into_iter().enumerate() {
                let admitted = u32::try_from(n).is_ok_and(|n| n < granted.tokens);
                // The request may have been cancelled.
                let _gone = answer.send(if admitted { Ok(()) } else { Err(wait) });
            }
            let left = granted.tokens.saturating_sub(waiting);
            let empty_until = if is_empty { now + wait } else { now };
            locked(&self.held).keep(name, left, empty_until, taken);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while holding it")
}

/// The number of tokens to ask for while so many requests wait.
fn wanted(rate: Rate, waiting: usize) -> u32 {
    u32::try_from(waiting).unwrap_or(u32::MAX).max(rate.chunk).min(rate.burst)
}

/// The tokens that the database has granted.
#[derive(Debug, Clone, Copy)]
struct Granted {
    tokens: u32,
    /// The time in which the bucket is full again.
    full_in_s: f64,
}

impl Granted {
    /// The time until the bucket has a token.
    fn wait(self, rate: Rate) -> Duration {
        let until_one = self.full_in_s - rate.gap_s * f64::from(rate.burst - 1);
        Duration::from_secs_f64(until_one.clamp(0.0, 3600.0))
    }
}

/// When the bucket `b` is full again. It is never emptier than empty: the clock may have been set back since it was written.
macro_rules! full_at {
    () => {
        "least(b.full_at, excluded.full_at
                + make_interval(secs => (excluded.burst - excluded.granted) * excluded.gap_s))"
    };
}

/// Takes tokens from many buckets, in the order of their names. 1 round trip.
async fn take(
    db: &mut PgConnection,
    asked: impl Iterator<Item = (&Name, Rate, usize)>,
) -> Result<HashMap<Name, Granted>, sqlx::Error> {
    let (mut names, mut wants, mut bursts, mut gaps) = (vec![], vec![], vec![], vec![]);
    let most = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    for (name, rate, waiting) in asked {
        names.push(name.to_vec());
        wants.push(most(wanted(rate, waiting)));
        bursts.push(most(rate.burst));
        gaps.push(rate.gap_s);
    }
    let rows = sqlx::query(concat!(
        "-- rate buckets: take
        with clock as materialized (select saga.now() as now),
        taken as (
            insert into shop.rate_bucket as b (name_hash, granted, burst, gap_s, full_at)
            select a.name_hash, a.wanted, a.burst, a.gap_s,
                   clock.now + make_interval(secs => a.wanted * a.gap_s)
            from clock, unnest($1::bytea[], $2::int[], $3::int[], $4::float8[])
                as a (name_hash, wanted, burst, gap_s)
            order by a.name_hash
            on conflict (name_hash) do update
            set granted = shop.rate_grant(",
        full_at!(),
        ", excluded),
                burst = excluded.burst, gap_s = excluded.gap_s,
                full_at = greatest(",
        full_at!(),
        ", excluded.full_at - make_interval(secs => excluded.granted * excluded.gap_s))
                    + make_interval(secs => shop.rate_grant(",
        full_at!(),
        ", excluded) * excluded.gap_s)
            returning name_hash, granted, full_at
        )
        select name_hash, granted, extract(epoch from full_at - clock.now)::float8 as full_in_s
        from taken, clock"
    ))
    .bind(names)
    .bind(wants)
    .bind(bursts)
    .bind(gaps)
    .fetch_all(db)
    .await?;
    let mut granted = HashMap::with_capacity(rows.len());
    for row in rows {
        let name: Vec<u8> = row.try_get("name_hash")?;
        let tokens = u32::try_from(row.try_get::<i32, _>("granted")?).unwrap_or(0);
        let full_in_s = row.try_get("full_in_s")?;
        if let Ok(name) = Name::try_from(name) {
            granted.insert(name, Granted { tokens, full_in_s });
        }
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_lapses_ten_seconds_after_it_was_taken_whatever_is_taken_later() {
        let begin = Instant::now();
        let mut all = AllHeld::default();
        let mut keep = |left, at: Duration| {
            all.keep(Name::default(), left, begin, begin + at);
            let held = all.by_name[&Name::default()];
            move |after: Duration| held.left(begin + after)
        };
        let s = Duration::from_secs;
        let left = keep(3, s(0));
        assert_eq!((left(s(9)), left(LAPSE)), (3, 0));
        let left = keep(5, s(6));
        assert_eq!([6, 9, 10, 15, 16].map(|at| left(s(at))), [8, 8, 5, 5, 0]);
        let left = keep(7, s(8));
        assert_eq!([9, 10, 17, 18].map(|at| left(s(at))), [15, 7, 7, 0], "none later than said");
    }

    #[test]
    fn lapsed_tokens_are_searched_for_at_most_once_a_second() {
        let name = |n: usize| {
            let mut name = Name::default();
            name[..8].copy_from_slice(&n.to_be_bytes());
            name
        };
        let begin = Instant::now();
        let mut all = AllHeld::default();
        for n in 0..REMEMBERED {
            all.keep(name(n), 1, begin, begin);
        }
        assert_eq!((all.by_name.len(), all.searched), (REMEMBERED, None));

        let first = begin + LAPSE - SEARCH_GAP / 2;
        all.keep(name(REMEMBERED), 1, first, first);
        assert_eq!((all.by_name.len(), all.searched), (REMEMBERED, Some(first)), "none has lapsed");
        all.keep(name(0), 1, first, first);
        assert_eq!(all.by_name[&name(0)].left(first), 2, "a bucket that is known is kept");

        let too_early = first + SEARCH_GAP - Duration::from_millis(1);
        all.keep(name(REMEMBERED), 1, too_early, too_early);
        assert_eq!((all.by_name.len(), all.searched), (REMEMBERED, Some(first)));

        let second = first + SEARCH_GAP;
        all.keep(name(REMEMBERED), 1, second, second);
        assert_eq!((all.by_name.len(), all.searched), (2, Some(second)), "the new and the renewed");
    }
}
