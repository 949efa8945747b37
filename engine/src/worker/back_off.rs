//! How long to wait between failed tries.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// How long to wait before the next try after so many failed ones in a row: 2 ms at first, twice as long each time, a second at most.
pub(crate) fn back_off(tries: u32) -> Duration {
    Duration::from_millis(2 << tries.min(9)).min(Duration::from_secs(1))
}

/// Waits for at most [`back_off`]: until the process has run for a whole multiple of it. Drivers that wait equally long continue at the same
/// moment, so that one commit serves all of them.
pub(crate) async fn back_off_together(tries: u32) {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let (wait, run) = (back_off(tries).as_millis(), BEGUN.elapsed().as_millis());
    let left = u64::try_from(wait - run % wait).unwrap_or(1_000);
    tokio::time::sleep(Duration::from_millis(left)).await;
}
