//! Seeds, which make a random run one that can be run again.

use std::fmt;

use rand::{SeedableRng as _, rngs::StdRng};

/// The seed of a random run: `STEPWISE_SEED` if that is set, else a new one. It is printed, so that a failed run says how it is replayed.
///
/// ```
/// use rand::RngExt as _;
/// use stepwise_engine::testing::Seed;
///
/// let seed = Seed::new(); // prints it: set the variable to run the same again
/// let lines: u32 = seed.rng().random_range(1..=5);
/// assert_eq!(lines, seed.rng().random_range(1..=5), "{seed} decides");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Takes or draws the seed, and prints it.
    ///
    /// # Panics
    /// When `STEPWISE_SEED` is no number: the run it is to replay would be another one.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the environment and prints")]
    pub fn new() -> Self {
        let seed = match std::env::var("STEPWISE_SEED") {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("STEPWISE_SEED is a number below 2^64, not {text:?}")),
            Err(_) => rand::random(),
        };
        println!("STEPWISE_SEED={seed}");
        Self(seed)
    }

    /// The random numbers that follow from it: the same ones each time it is asked.
    #[must_use]
    pub fn rng(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "STEPWISE_SEED={}", self.0)
    }
}
