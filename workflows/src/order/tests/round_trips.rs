//! The round trips that the documentation promises, counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tracing::{Event, Metadata, Subscriber, span};

use super::*;

/// Counts the statements that the driver reports.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicUsize>);

impl Statements {
    /// How many since it was asked last.
    fn taken(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn round_trips_do_not_depend_on_the_number_of_lines() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let mut products = Vec::new();
    for _ in 0..20 {
        products.push((product(&mut db, 1000, 100).await, 1));
    }
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    // Threads of other tests may have said that nobody listens.
    tracing::callsite::rebuild_interest_cache();
    for lines in [1, 20] {
        let buyer = customer(&shop, &mut db).await;
        put(&shop, &mut db, &buyer, &products[..lines]).await;

        statements.taken();
        let placing = begin(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
        assert_eq!(statements.taken(), 5, "begin, {lines} lines");
        complete(&mut db, placing.order_id, &authorized(&placing)).await.expect("done");
        assert_eq!(statements.taken(), 4, "complete, {lines} lines");
        let command = cancelling(placing.order_id, &buyer);
        let begun = cancel::begin(&shop, &mut db, &command).await.expect("begun");
        assert!(matches!(begun, Cancelling::Refund(_)));
        assert_eq!(statements.taken(), 6, "cancel, {lines} lines");

        put(&shop, &mut db, &buyer, &products[..lines]).await;
        statements.taken();
        let placing = begin(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
        assert_eq!(statements.taken(), 5, "begin, {lines} lines");
        let ending = Ending::Failed(PaymentFailure::Unsupported);
        release(&mut db, placing.order_id, &ending).await.expect("released");
        assert_eq!(statements.taken(), 6, "release, {lines} lines");
    }
    drop(db);
    database.close().await;
}
