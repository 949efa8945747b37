//! Counting round trips.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use stepwise_engine::testing::Statements;
use tracing::Subscriber;

/// Counts the statements whose summaries contain `text`.
pub(crate) fn counting(text: &'static str, count: &Arc<AtomicUsize>) -> impl Subscriber + use<> {
    let count = count.clone();
    Statements(move |summary: &str| {
        count.fetch_add(usize::from(summary.contains(text)), Relaxed);
    })
}
