//! No task of a relay waits for another.

use super::*;

/// Publishing and attending want the same lock, as those who share a connection do.
#[derive(Default)]
struct Entangled {
    recorder: Recorder,
    connection: tokio::sync::Mutex<()>,
    attended: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl Publisher for Entangled {
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
        let connection = self.connection.lock().await;
        tokio::task::yield_now().await;
        drop(connection);
        self.recorder.publish(message).await
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }

    async fn attend(&self) {
        let connection = self.connection.lock().await;
        self.attended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        drop(connection);
    }
}

#[tokio::test]
async fn attending_and_publishing_never_wait_for_each_other_for_good() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let publisher = Arc::new(Entangled::default());
    let relay = start(pool, &publisher, brisk());
    let subjects: Vec<String> = (0..60).map(|number| format!("order-{number}")).collect();
    let attended = || publisher.attended.load(std::sync::atomic::Ordering::Relaxed);
    // Messages are on their way again and again while the publisher is attended to.
    for sequence in 1.. {
        write(pool, &subjects.iter().map(|one| message(one, sequence)).collect::<Vec<_>>()).await;
        drained(pool).await;
        if attended() > 2 {
            break;
        }
    }
    relay.stop().await;
    database.close().await;
}

/// Never comes back from attending, nor from publishing what concerns `stuck`; and panics at `bomb`.
#[derive(Default)]
struct Unruly(Recorder);

#[async_trait]
impl Publisher for Unruly {
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
        match message.subject.as_str() {
            "stuck" => std::future::pending().await,
            "bomb" => panic!("a publisher's mistake"),
            _ => self.0.publish(message).await,
        }
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }

    async fn attend(&self) {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_publisher_that_hangs_or_panics_costs_one_subject() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("stuck", 1), message("bomb", 1), message("fine", 1)]).await;
    let publisher = Arc::new(Unruly::default());
    let relay = start(pool, &publisher, brisk());
    write(pool, &[message("fine", 2)]).await;
    until("the others go on", || async { publisher.0.sequences("fine") == [1, 2] }).await;
    until("the panic stands on its row", || async {
        let failing = failing(pool, 10).await.expect("readable");
        failing.iter().any(|one| one.subject == "bomb" && one.error.contains("panicked"))
    })
    .await;
    assert_eq!(relay.health.report().state, RelayState::Working);
    assert_eq!(relay.health.report().restarts, 0);
    relay.kill().await;
    database.close().await;
}

#[tokio::test]
async fn housekeeping_that_waits_for_a_lock_stops_no_message() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let mut lock = pool.begin().await.expect("begin");
    sqlx::query("-- test: nobody keeps house\nlock table saga.inbox in access exclusive mode")
        .execute(&mut *lock)
        .await
        .expect("locked");
    let publisher = Arc::new(Recorder::default());
    let relay = start(pool, &publisher, brisk());
    waits_for_a_lock(pool, "inbox: forget").await;
    write(pool, &[message("a", 1), message("a", 2)]).await;
    drained(pool).await;
    assert_eq!(relay.health.report().state, RelayState::Working);
    lock.rollback().await.expect("rollback");
    relay.stop().await;
    database.close().await;
}

#[tokio::test]
async fn a_relay_that_cannot_renew_within_its_lease_says_so_and_starts_again() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let publisher = Arc::new(Recorder::default());
    let relay = start(pool, &publisher, brisk());
    write(pool, &[message("a", 1)]).await;
    drained(pool).await;
    let mut lock = pool.begin().await.expect("begin");
    sqlx::query("-- test: nobody renews\nlock table saga.outbox_relay in access exclusive mode")
        .execute(&mut *lock)
        .await
        .expect("locked");
    until("it says so", || async {
        matches!(relay.health.report().state, RelayState::Hindered { .. })
    })
    .await;
    until("it starts again", || async { relay.health.report().restarts > 0 }).await;
    lock.rollback().await.expect("rollback");
    until("it works", || async { relay.health.report().state == RelayState::Working }).await;
    write(pool, &[message("a", 2)]).await;
    drained(pool).await;
    let health = relay.health.clone();
    relay.stop().await;
    assert_eq!(health.report().state, RelayState::Stopped);
    assert_eq!(fed(pool).await["a"], [1, 2]);
    database.close().await;
}
