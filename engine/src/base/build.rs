//! The build of the program that this process runs.

use std::{sync::OnceLock, time::UNIX_EPOCH};

/// When the executable was made, in seconds since 1970; 0 where nobody can tell, which is older than any.
///
/// In a rolling deploy it tells which process is newer. A row that an older process cannot read was written by a newer one, so it waits for a newer
/// process instead of an operator.
pub(crate) fn made_at() -> i64 {
    static MADE_AT: OnceLock<i64> = OnceLock::new();
    *MADE_AT.get_or_init(|| {
        let made = std::env::current_exe().and_then(std::fs::metadata).and_then(|of| of.modified());
        let since = made.ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
    })
}
