//! The time-out of a step that calls the gateway.

use std::time::Duration;

use stepwise_engine::Terms;

use crate::payment::gateway::OPERATION;

/// The time in which a step reads what it needs, besides the time of its calls.
const READING: Duration = Duration::from_secs(10);

/// The time-out of a step that makes so many calls of the gateway, one after the other. Its probe has the same time-out.
pub(super) fn time_for(calls: u32) -> Duration {
    OPERATION * calls + READING
}

/// The terms of a step that calls the gateway once.
pub(super) fn terms() -> Terms {
    Terms { timeout: time_for(1), ..Terms::new() }
}
