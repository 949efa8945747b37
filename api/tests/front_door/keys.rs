//! Who is let in.

use crate::house::{House, send};

#[tokio::test]
async fn a_key_is_stored_only_as_its_hash() {
    let house = House::open().await;
    let token = house.key("operator", &[]).await;
    let stored: String = sqlx::query_scalar("select row_to_json(k)::text from shop.access_key k")
        .fetch_one(house.database.pool())
        .await
        .expect("one key");
    let secret = token.split('_').next_back().expect("a key has parts");
    assert!(!stored.contains(secret));
    send(house.get("/healthz")).await.is(200);
    house.close().await;
}
