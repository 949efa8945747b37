//! Races of two that either can win.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};

/// Draws when the second of two racers starts, so that each of them wins about half of the races however fast the machine is.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::testing::{Race, Seed};
///
/// let mut race = Race::new(Seed::new().rng());
/// for _ in 0..40 {
///     let head_start = race.head_start();
///     // Start the first, sleep for `head_start`, start the second, and see who won. Here the first needs 6 ms.
///     race.ended(head_start > Duration::from_millis(6));
/// }
/// let (first, second) = race.close();
/// assert_eq!(first + second, 40);
/// ```
#[derive(Debug)]
pub struct Race {
    random: StdRng,
    within: Duration,
    won: (u32, u32),
    /// How often each had won when `within` was last set.
    learned: (u32, u32),
}

impl Race {
    /// A race whose first racer needs some 10 ms; other times are learned.
    #[must_use]
    pub fn new(random: StdRng) -> Self {
        Self { random, within: Duration::from_millis(12), won: (0, 0), learned: (0, 0) }
    }

    /// How long after the first one the second one starts. If the first one has won most of the races that ended since the last start, that is sooner
    /// from now on, otherwise later.
    pub fn head_start(&mut self) -> Duration {
        let lately = (self.won.0 - self.learned.0, self.won.1 - self.learned.1);
        if lately != (0, 0) {
            let scale = if lately.0 > lately.1 { 0.77 } else { 1.3 };
            self.within = self.within.mul_f64(scale).max(Duration::from_micros(50));
            self.learned = self.won;
        }
        self.within.mul_f64(self.random.random_range(0.0..1.0))
    }

    /// Tells who won a race.
    pub fn ended(&mut self, first_won: bool) {
        let won = if first_won { &mut self.won.0 } else { &mut self.won.1 };
        *won += 1;
    }

    /// How many races each of the two has won.
    ///
    /// # Panics
    /// If one of them won fewer than a twentieth: so few say nothing about it.
    #[must_use]
    pub fn close(self) -> (u32, u32) {
        let (first, second) = self.won;
        assert!(first.min(second) * 20 >= first + second, "one side always won: {:?}", self.won);
        self.won
    }
}
