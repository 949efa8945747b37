//! The statements that a test sends.

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A subscriber that passes the summary of each SQL statement on, to tests that count round trips. sqlx reports a statement once it has been answered.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
/// use stepwise_engine::testing::Statements;
///
/// let sent = Arc::new(AtomicUsize::new(0));
/// let counted = sent.clone();
/// let counting = Statements(move |_: &str| {
///     counted.fetch_add(1, Relaxed);
/// });
/// let _listening = tracing::subscriber::set_default(counting);
/// // Run a command here.
/// println!("{} round trips", sent.load(Relaxed));
/// ```
#[derive(Debug)]
pub struct Statements<F>(pub F);

impl<F: Fn(&str) + Send + Sync + 'static> Subscriber for Statements<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Summary(&self.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Reads the summary of a statement from the driver's log event.
struct Summary<'a, F>(&'a F);

impl<F: Fn(&str)> Visit for Summary<'_, F> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            (self.0)(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
