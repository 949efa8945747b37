//! TODO

use super::*;
use crate::{store::migrations::migrations, testing::Database};

#[tokio::test]
async fn a_message_is_new_once_unless_its_handler_rolls_back() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();

    let mut failed = pool.begin().await.expect("begin");
    assert!(first_time(&mut failed, "gateway", "evt_1").await.expect("insert"));
    failed.rollback().await.expect("rollback");

    let mut first = pool.begin().await.expect("begin");
    assert!(first_time(&mut first, "gateway", "evt_1").await.expect("insert"));
    let copy = async {
        let mut copy = pool.begin().await.expect("begin");
        first_time(&mut copy, "gateway", "evt_1").await.expect("insert")
    };
    let (copy_is_new, ()) = tokio::join!(copy, async {
        first.commit().await.expect("commit");
    });
    assert!(!copy_is_new, "the copy waits for the first and then does nothing");

    let mut other = pool.begin().await.expect("begin");
    assert!(first_time(&mut other, "partner", "evt_1").await.expect("insert"), "another sender");
    drop(other);
    assert_eq!(forget(pool, Duration::from_secs(3600)).await.expect("forget"), 0);
    assert_eq!(forget(pool, Duration::ZERO).await.expect("forget"), 1);
    database.close().await;
}
