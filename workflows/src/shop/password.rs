//! Passwords: which are accepted, and how they are hashed.
//!
//! 15 to 128 characters of any kind (NIST SP 800-63B-4), no rules about their mixture. Refused are passwords that an attacker would soon try, by the
//! estimate of `zxcvbn`: it knows some 100,000 common passwords, words and names, keyboard rows, dates, sequences and repetitions, and is told the
//! person's own name and address. It knows no words of other languages than English.

use std::{
    num::NonZero,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, SyncSender},
    },
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;

use crate::refusal::refusals;

/// The most hashes computed at the same time, on a machine of 16 cores or more: each takes 19 MiB and
/// a core for some 20 ms. Smaller machines compute one for every four cores.
const AT_ONCE: usize = 4;
/// Callers that may wait; more are told to come back.
const WAITING: usize = 64;

/// The most characters that are estimated together. The time grows with the square of their number, and with each sign that may stand for a letter (`4` for `a`).
const ESTIMATED: usize = 32;

/// What everybody tries at this shop, and the one passphrase that everybody knows.
const KNOWN: [&str; 3] = ["stepwise", "demo shop", "correct horse battery staple"];

/// Why a password is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    /// Fewer than 15 characters.
    #[error("the password must have at least 15 characters")]
    TooShort,
    /// More than 128 characters.
    #[error("the password must have at most 128 characters")]
    TooLong,
    /// Made of what attackers try first.
    #[error("the password is made of common words, sequences or your own name or address")]
    Guessable,
}

fn normalised(raw: &str) -> String {
    raw.nfkc().collect()
}

/// Whether the length is acceptable: what can be refused before anybody is looked up.
pub fn check_length(raw: &str) -> Result<(), InvalidPassword> {
    accept_length(raw).map(drop)
}

/// The password as it is hashed, if its length is acceptable.
fn accept_length(raw: &str) -> Result<String, InvalidPassword> {
    // 128 characters have at most 512 bytes; a megabyte is refused without work.
    if raw.len() > 512 {
        return Err(InvalidPassword::TooLong);
    }
    let password = normalised(raw);
    match password.chars().count() {
        0..15 => Err(InvalidPassword::TooShort),
        15..=128 => Ok(password),
        _ => Err(InvalidPassword::TooLong),
    }
}

/// Whether an attacker would find it with fewer than 10^10 guesses. It is estimated in pieces, because one piece that is hard to guess makes the
/// whole hard to guess. About 100 ms for 128 signs that may all stand for letters, otherwise a few ms: it belongs on the threads of [`PasswordPool`].
fn is_guessable(password: &str, own: &[String]) -> bool {
    let mut words: Vec<String> = KNOWN.map(without_separators).to_vec();
    for text in own {
        words.push(without_separators(text));
        words.extend(text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
    }
    words.retain(|word| word.chars().count() >= 3);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut password = without_separators(password).to_lowercase();
    // A long name or address would be cut into pieces that the estimate does not recognize.
    for word in words.iter().filter(|word| word.chars().count() > ESTIMATED / 2) {
        password = password.replace(&word.to_lowercase(), "");
    }
    let signs: Vec<char> = password.chars().map(out_of_order).collect();
    !signs.chunks(ESTIMATED).any(|piece| {
        let estimate = zxcvbn::zxcvbn(&piece.iter().collect::<String>(), &words);
        estimate.score() == zxcvbn::Score::Four
    })
}

/// The text without what people put between words, since attackers put it there as well.
fn without_separators(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        let separates = c.is_whitespace() || "-_.,".contains(c);
        if !separates || !kept.ends_with(char::is_alphanumeric) {
            kept.push(c);
        }
    }
    kept
}

/// Another character for an emoji or other sign, a different one for each. The estimate takes neighbours in Unicode for a sequence like `abc`,
/// but nobody knows the signs in that order.
fn out_of_order(c: char) -> char {
    if c.is_ascii() || c.is_alphanumeric() {
        return c;
    }
    // A prime number of private characters: neighbours come to stand far from each other.
    char::from_u32(0xF_0000 + u32::from(c) % 65_521 * 7_919 % 65_521).unwrap_or(c)
}

/// Computes argon2id hashes (19 MiB, 2 passes) on threads of its own, which yield to the threads that
/// serve requests. Clones share the threads; they end with the last clone.
///
/// Neither a connection nor a transaction is needed for it, so none must be held meanwhile.
#[derive(Debug, Clone)]
pub struct PasswordPool {
    jobs: SyncSender<Job>,
}

/// One hash to compute. It sends its own answer, or none if the caller does not wait any more.
type Job = Box<dyn FnOnce() + Send>;

refusals! {
    /// Why a password was not hashed or compared.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum PoolError {
        /// Too many are waiting: come back in a second.
        #[error("too many passwords are being checked: try again in a second")]
        Busy => Unavailable "passwords_busy",
        /// The hash could not be computed: no memory, no random numbers, or a stored hash is damaged.
        #[error("a password could not be hashed")]
        Failed,
    }
}

impl Default for PasswordPool {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (jobs, waiting) = mpsc::sync_channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..(cores / 4).clamp(1, AT_ONCE) {
            let waiting = Arc::clone(&waiting);
            let thread = std::thread::Builder::new().name("passwords".to_owned());
            let started = thread.spawn(move || compute_all(&waiting));
            started.expect("a process that cannot start a thread cannot work at all");
        }
        Self { jobs }
    }
}

/// Computes one hash after the other until nobody can ask for one any more.
fn compute_all(waiting: &Mutex<Receiver<Job>>) {
    yield_to_others();
    loop {
        let job = waiting.lock().expect("nothing panics while holding it").recv();
        let Ok(job) = job else { return };
        // A panic drops the job's sender, so its caller is answered.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
    }
}

/// Has this thread compute only while its core has nothing else to do, and give it up at once (Linux's `SCHED_IDLE`). A niceness is weaker: Linux weighs
/// sessions before it weighs threads, and each backend of Postgres is a session of its own. Where it cannot be set, the thread is like others.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy::Idle, ThreadPriority::Min, ThreadSchedulePolicy::Normal,
            set_thread_priority_and_policy, thread_native_id,
        };
        let _ = set_thread_priority_and_policy(thread_native_id(), Min, Normal(Idle));
    }
}

impl PasswordPool {
    /// Accepts a new password and hashes it with a salt of its own, or refuses it; `own` are the person's names and email address. 20 to 120 ms.
    pub async fn accept(
        &self,
        raw: &str,
        own: &[&str],
    ) -> Result<Result<String, InvalidPassword>, PoolError> {
        let password = match accept_length(raw) {
            Ok(password) => password,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let own: Vec<String> = own.iter().map(|text| (*text).to_owned()).collect();
        self.run(move || {
            if is_guessable(&password, &own) {
                return Ok(Err(InvalidPassword::Guessable));
            }
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| Ok(hash.to_string())).map_err(|_| PoolError::Failed)
        })
        .await
    }

    /// Computes a fingerprint, by which two requests with the same salt can be compared. It is as hard to turn back into the password as the hash of the
    /// account. About 20 ms.
    pub async fn fingerprint(&self, raw: &str, salt: [u8; 32]) -> Result<[u8; 32], PoolError> {
        let password = if raw.len() > 512 { String::new() } else { normalised(raw) };
        self.run(move || {
            let mut fingerprint = [0; 32];
            Argon2::default()
                .hash_password_into(password.as_bytes(), &salt, &mut fingerprint)
                .map_err(|_| PoolError::Failed)?;
            Ok(fingerprint)
        })
        .await
    }

    /// Whether `raw` is the password of `hash`. Without a hash it takes as long and answers no, so
    /// that the time does not tell whether an account exists.
    pub async fn matches(&self, raw: &str, hash: Option<String>) -> Result<bool, PoolError> {
        let password = if raw.len() > 512 { String::new() } else { normalised(raw) };
        self.run(move || {
            let is_known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODYS.to_owned());
            let hash = PasswordHash::new(&hash).map_err(|_| PoolError::Failed)?;
            let is_right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
            Ok(is_known && is_right)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> Result<T, PoolError> + Send + 'static,
    ) -> Result<T, PoolError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !answer.is_closed() {
                drop(answer.send(compute()));
            }
        });
        self.jobs.try_send(job).map_err(|_| PoolError::Busy)?;
        answered.await.unwrap_or(Err(PoolError::Failed))
    }
}

/// A hash like those of real accounts, of a password that nobody has.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$c3RlcHdpc2Utbm9ib2R5$\
                       l8mNl4oiCFG3bFjCC8Ez8bJgVVP8ZNBBOhTPdv2PgJ0";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(raw: &str) -> Option<InvalidPassword> {
        let own = ["ada.lovelace@example.org", "Ada", "Lovelace"].map(str::to_owned);
        let is_guessable = |password: &String| is_guessable(password, &own);
        match accept_length(raw) {
            Ok(password) => is_guessable(&password).then_some(InvalidPassword::Guessable),
            Err(invalid) => Some(invalid),
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_yields_to_everything_else() {
        let pool = PasswordPool::default();
        let policy = pool.run(|| {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells it");
            // The 41st field; the name in brackets is the second.
            let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
            Ok(fields.split(' ').nth(38).map(str::to_owned))
        });
        const SCHED_IDLE: &str = "5";
        assert_eq!(policy.await.expect("it runs").as_deref(), Some(SCHED_IDLE));
    }

    #[test]
    fn long_passphrases_are_accepted_and_guessable_ones_refused() {
        assert_eq!(refused("fourteen chars"), Some(InvalidPassword::TooShort));
        assert_eq!(refused(&"😀".repeat(14)), Some(InvalidPassword::TooShort));
        assert_eq!(refused(&"ab ".repeat(43)), Some(InvalidPassword::TooLong));
        assert_eq!(refused(&"x".repeat(1_000_000)), Some(InvalidPassword::TooLong));
        for guessable in [
            "passwordpassword",
            "PASSWORD-password-1",
            "p@ssw0rdp@ssw0rd",
            "my password is password",
            "chocolatebutterfly",
            "chocolate butterfly",
            "aaaaaaaaaaaaaaaaaa",
            "123456789012345678",
            "qwertyuiopasdfghjkl",
            "ada.lovelace@example.org",
            "lovelacelovelace1815",
            "ada lovelace 1815",
            "correct horse battery staple",
            "CorrectHorseBatteryStaple",
            "stepwisestepwise",
            "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀",
            "               ",
        ] {
            assert_eq!(refused(guessable), Some(InvalidPassword::Guessable), "{guessable}");
        }
        let long = "wolfeschlegelsteinhausenbergerdorff.hubert.blaine@example.org".to_owned();
        assert!(is_guessable(&long.to_uppercase(), std::slice::from_ref(&long)), "the own address");
        let repeated = "password".repeat(16);
        assert_eq!(refused(&repeated), Some(InvalidPassword::Guessable));
        for unicode in [
            "violet tram over nine bridges",
            "žluťoučký kůň pěl ďábelské ódy nad řekou, a pak spal až do rána",
            "eine lange Phrase mit Umlauten äöü und 🦀 darin, zum Merken",
            "правильная лошадь батарея скрепка",
            "😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘😗😚😙",
            "🦀🚲🌵🎻🧊🐙🍋🪁🎲🧭🗿🪐🥨🦔🧶🚀🎈🔭🍉🪴",
        ] {
            assert_eq!(refused(unicode), None, "{unicode}");
        }
    }

    #[test]
    fn signs_in_the_order_of_unicode_are_no_sequence_and_letters_are() {
        let from = |first: u32, count| (first..).take(count).filter_map(char::from_u32);
        assert_eq!(refused(&from(0x1F600, 20).collect::<String>()), None);
        let letters: String = from(u32::from('a'), 20).collect();
        assert_eq!(refused(&letters), Some(InvalidPassword::Guessable));
    }

    #[test]
    fn every_character_of_unicode_can_be_estimated() {
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        let private = |c: &char| (0xF_0000..=0xF_FFFF).contains(&u32::from(out_of_order(*c)));
        let signs = |c: &char| !c.is_ascii() && !c.is_alphanumeric();
        assert!(all.iter().filter(|c| signs(c)).all(private), "each sign has a place");
        // As many as a password may have, from all over Unicode.
        for first in (0..all.len()).step_by(8_009) {
            let password: String = all[first..].iter().step_by(61).take(32).collect();
            refused(&password);
        }
    }

    #[test]
    fn random_passwords_are_accepted_whatever_they_are_made_of() {
        use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
        let mut dice = StdRng::seed_from_u64(20_261_127);
        let lower: Vec<char> = ('a'..='z').collect();
        let printable: Vec<char> = ('!'..='~').collect();
        let digits: Vec<char> = ('0'..='9').collect();
        for (from, count) in [(&digits, 24), (&lower, 15), (&printable, 15), (&printable, 128)] {
            for _ in 0..100 {
                let one = |_| from[dice.random_range(0..from.len())];
                let password: String = (0..count).map(one).collect();
                assert_eq!(refused(&password), None, "{password}");
            }
        }
    }

    #[test]
    fn any_128_characters_are_estimated_in_a_bounded_time() {
        refused("the first estimate reads the word lists");
        for signs in ["4@8({[<3691!|70$5+%2", "a", "ab", "abc4", "1234567890", "😀é", "password"]
        {
            let password: String = signs.chars().cycle().take(128).collect();
            let began = std::time::Instant::now();
            refused(&password);
            let took = began.elapsed();
            println!("{signs}: {took:?}");
            assert!(took.as_millis() < 1_000, "{signs}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_hash_matches_its_password_only() {
        let pool = PasswordPool::default();
        let accepted = pool.accept("violet tram over nine bridges", &[]).await.expect("computed");
        let hash = accepted.expect("it is hard to guess");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let matches = |raw: &'static str, hash: Option<String>| pool.matches(raw, hash);
        assert_eq!(matches("violet tram over nine bridges", Some(hash.clone())).await, Ok(true));
        assert_eq!(matches("violet tram over ten bridges", Some(hash)).await, Ok(false));
        assert_eq!(matches("violet tram over nine bridges", None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_fingerprint_depends_on_password_and_salt() {
        let pool = PasswordPool::default();
        let of = |raw: &'static str, salt: u8| pool.fingerprint(raw, [salt; 32]);
        let first = of("violet tram over nine bridges", 1).await;
        assert_eq!(of("violet tram over nine bridges", 1).await, first);
        assert_ne!(of("violet tram over ten bridges", 1).await, first);
        assert_ne!(of("violet tram over nine bridges", 2).await, first);
    }

    #[tokio::test]
    async fn more_than_can_wait_are_told_to_come_back() {
        let pool = PasswordPool::default();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let busy = || {
            let held = Arc::clone(&held);
            Box::new(move || assert!(held.lock().expect("not poisoned").recv().is_err())) as Job
        };
        // The threads take some of them, the others wait; then there is no place left.
        for _ in 0..AT_ONCE {
            pool.jobs.send(busy()).expect("the threads live");
        }
        while pool.jobs.try_send(busy()).is_ok() {}
        assert_eq!(pool.matches("x", None).await, Err(PoolError::Busy));
        drop(release);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_ends_no_thread() {
        let pool = PasswordPool::default();
        for _ in 0..AT_ONCE + 1 {
            let panicked = pool.run::<()>(|| panic!("on purpose")).await;
            assert_eq!(panicked, Err(PoolError::Failed));
        }
        assert_eq!(pool.matches("x", None).await, Ok(false));
    }
}
