//! Passwords: which are accepted, and how they are hashed.
//!
//! 15 to 128 characters of any kind (NIST SP 800-63B-4), no rules about their mixture. Refused is
//! what an attacker tries first: common words, keyboard rows, sequences and the person's own name
//! or address, alone or strung together.

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
/// The niceness of the threads: under load a request gets the core ten times as often as a hash.
const NICE: i32 = 10;

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

/// A password that was accepted, normalised. Never shown.
pub struct Password(String);

impl Password {
    /// Accepts or refuses a password; `own` are the person's names and email address.
    pub fn accept(raw: &str, own: &[&str]) -> Result<Self, InvalidPassword> {
        // 128 characters have at most 512 bytes; a megabyte is refused without work.
        if raw.len() > 512 {
            return Err(InvalidPassword::TooLong);
        }
        let password = normalised(raw);
        match password.chars().count() {
            0..15 => return Err(InvalidPassword::TooShort),
            15..=128 => {}
            _ => return Err(InvalidPassword::TooLong),
        }
        if is_guessable(&password.to_lowercase(), own) {
            return Err(InvalidPassword::Guessable);
        }
        Ok(Self(password))
    }
}

fn normalised(raw: &str) -> String {
    raw.nfkc().collect()
}

/// Whether it consists wholly of words that attackers try, digits, and runs of one character.
fn is_guessable(password: &str, own: &[&str]) -> bool {
    let mut words: Vec<String> = COMMON.iter().map(|word| (*word).to_owned()).collect();
    for text in own {
        let text = text.to_lowercase();
        words.extend(text.split(['@', '.', '-', '_', '+', ' ']).map(str::to_owned));
        words.push(text);
    }
    words.retain(|word| word.chars().count() >= 3);
    let bytes = password.as_bytes();
    let mut reached = vec![false; bytes.len() + 1];
    reached[0] = true;
    for start in 0..bytes.len() {
        if !reached[start] || !password.is_char_boundary(start) {
            continue;
        }
        let rest = &password[start..];
        for word in words.iter().filter(|word| rest.starts_with(word.as_str())) {
            reached[start + word.len()] = true;
        }
        let Some(first) = rest.chars().next() else { continue };
        if !first.is_alphabetic() {
            reached[start + first.len_utf8()] = true;
        }
        let run = rest.chars().take_while(|next| *next == first).count();
        if run >= 3 {
            (3..=run).for_each(|length| reached[start + length * first.len_utf8()] = true);
        }
    }
    reached[bytes.len()]
}

/// Words that attackers string together, lower case.
const COMMON: &[&str] = &[
    "password",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "passwort",
    "passphrase",
    "passcode",
    "secret",
    "letmein",
    "welcome",
    "login",
    "admin",
    "administrator",
    "root",
    "user",
    "guest",
    "master",
    "qwerty",
    "qwertyuiop",
    "qwertz",
    "azerty",
    "asdf",
    "asdfgh",
    "asdfghjkl",
    "zxcvbn",
    "zxcvbnm",
    "qazwsx",
    "edcrfv",
    "1qaz2wsx",
    "q1w2e3r4",
    "abc",
    "abcd",
    "abcdef",
    "abcdefg",
    "abcdefghijklmnopqrstuvwxyz",
    "iloveyou",
    "love",
    "lovely",
    "monkey",
    "dragon",
    "football",
    "baseball",
    "basketball",
    "soccer",
    "hockey",
    "sunshine",
    "princess",
    "shadow",
    "superman",
    "batman",
    "spiderman",
    "pokemon",
    "starwars",
    "trustno1",
    "whatever",
    "freedom",
    "flower",
    "hello",
    "helloworld",
    "world",
    "hunter",
    "michael",
    "jordan",
    "jessica",
    "jennifer",
    "ashley",
    "daniel",
    "thomas",
    "charlie",
    "andrew",
    "matthew",
    "robert",
    "nicole",
    "summer",
    "winter",
    "spring",
    "autumn",
    "january",
    "february",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "friday",
    "sunday",
    "computer",
    "internet",
    "google",
    "facebook",
    "amazon",
    "apple",
    "samsung",
    "mustang",
    "ferrari",
    "mercedes",
    "yankees",
    "liverpool",
    "arsenal",
    "chelsea",
    "changeme",
    "change",
    "default",
    "test",
    "testing",
    "demo",
    "example",
    "correct",
    "horse",
    "battery",
    "staple",
    "stepwise",
    "shop",
    "the",
    "and",
    "you",
    "this",
    "is",
    "my",
    "mypassword",
    "access",
    "security",
    "secure",
    "killer",
    "cheese",
    "chocolate",
    "cookie",
    "banana",
    "orange",
    "purple",
    "silver",
    "golden",
    "diamond",
    "angel",
    "baby",
];

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
    // On Linux a thread has a priority of its own. Where it cannot be set, the thread works all the same.
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        let job = waiting.lock().expect("nothing panics while holding it").recv();
        let Ok(job) = job else { return };
        // A panic drops the job's sender, so its caller is answered.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
    }
}

impl PasswordPool {
    /// Hashes an accepted password, with a salt of its own. About 20 ms.
    pub async fn hash(&self, password: Password) -> Result<String, PoolError> {
        self.run(move || {
            Argon2::default()
                .hash_password(password.0.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|_| PoolError::Failed)
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
        Password::accept(raw, &["ada.lovelace@example.org", "Ada", "Lovelace"]).err()
    }

    #[test]
    fn long_passphrases_are_accepted_and_guessable_ones_refused() {
        assert_eq!(refused("fourteen chars"), Some(InvalidPassword::TooShort));
        assert_eq!(refused(&"ab ".repeat(43)), Some(InvalidPassword::TooLong));
        assert_eq!(refused(&"x".repeat(1_000_000)), Some(InvalidPassword::TooLong));
        for guessable in [
            "passwordpassword",
            "PASSWORD-password-1",
            "aaaaaaaaaaaaaaaaaa",
            "123456789012345678",
            "qwertyuiopasdfghjkl",
            "ada.lovelace@example.org",
            "lovelacelovelace1815",
            "correct horse battery staple",
        ] {
            assert_eq!(refused(guessable), Some(InvalidPassword::Guessable), "{guessable}");
        }
        assert_eq!(refused("violet tram over nine bridges"), None);
        let unicode = "žluťoučký kůň pěl ďábelské ódy nad řekou, a pak spal až do rána";
        assert_eq!(refused(unicode), None);
    }

    #[tokio::test]
    async fn a_hash_matches_its_password_only() {
        let pool = PasswordPool::default();
        let password = Password::accept("violet tram over nine bridges", &[]).expect("accepted");
        let hash = pool.hash(password).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let matches = |raw: &'static str, hash: Option<String>| pool.matches(raw, hash);
        assert_eq!(matches("violet tram over nine bridges", Some(hash.clone())).await, Ok(true));
        assert_eq!(matches("violet tram over ten bridges", Some(hash)).await, Ok(false));
        assert_eq!(matches("violet tram over nine bridges", None).await, Ok(false));
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
