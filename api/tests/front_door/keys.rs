//! Access keys: which callers are admitted, and the answers to those who are not.

use stepwise::door::caller::token_hash;
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::Shopper,
};

const GUARDED: &str = "/v1/admin/sagas";

#[tokio::test]
async fn a_missing_a_garbled_and_an_unknown_token_are_told_apart() {
    let house = House::open().await;
    let missing = send(house.get(GUARDED)).await;
    assert_eq!(missing.problem(), refusal(401, "token_missing"));
    assert!(missing.header("www-authenticate").starts_with("Bearer"));
    for garbled in ["Basic eDp5", "Bearer", "Bearer ", "abc", "Bearer \u{e9}"] {
        let answer = send(house.get(GUARDED).header("authorization", garbled)).await;
        assert_eq!(answer.problem(), refusal(401, "token_invalid"), "{garbled}");
    }
    let long = "x".repeat(10_000);
    for unknown in ["operator_none", "sk_test_1_2", long.as_str()] {
        let answer = send(house.get(GUARDED).bearer_auth(unknown)).await;
        assert_eq!(answer.problem(), refusal(401, "token_invalid"));
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    house.close().await;
}

#[tokio::test]
async fn each_kind_of_caller_gets_in_only_where_it_is_served() {
    let house = House::open().await;
    for (role, status) in [("admin", 200), ("operator", 200), ("viewer", 200), ("service", 403)] {
        let key = house.key(role, &["events:read"]).await;
        let answer = send(house.get(GUARDED).bearer_auth(&key)).await;
        answer.is(status);
        if status == 403 {
            assert_eq!(answer.problem(), refusal(403, "forbidden"));
        }
    }
    house.close().await;
}

#[tokio::test]
async fn a_service_key_of_another_environment_is_unknown() {
    let house = House::open().await;
    let key = house.key("service", &["events:read"]).await.replace("sk_test_", "sk_live_");
    let answer = send(house.get(GUARDED).bearer_auth(&key)).await;
    assert_eq!(answer.problem(), refusal(401, "token_invalid"));
    house.close().await;
}

#[tokio::test]
async fn an_expired_key_says_so_and_a_revoked_one_is_dead_within_a_second() {
    let house = House::open().await;
    let db = house.database.pool();
    let key = house.key("viewer", &[]).await;
    send(house.get(GUARDED).bearer_auth(&key)).await.is(200);
    sqlx::query("update shop.access_key set revoked_at = saga.now()")
        .execute(db)
        .await
        .expect("ok");
    let revoked = std::time::Instant::now();
    loop {
        let asked = revoked.elapsed();
        let answer = send(house.get(GUARDED).bearer_auth(&key)).await;
        if answer.status == 401 {
            assert_eq!(answer.problem(), refusal(401, "token_invalid"));
            break;
        }
        assert!(asked.as_millis() < 1_000, "still let in");
    }
    let key = house.key("viewer", &[]).await;
    sqlx::query("update saga.clock set offset_by = interval '2 days'")
        .execute(db)
        .await
        .expect("ok");
    let answer = send(house.get(GUARDED).bearer_auth(&key)).await;
    assert_eq!(answer.problem(), refusal(401, "token_expired"));
    house.close().await;
}

/// Asks whose token it is, after business time has passed. This process does not remember the answer of before.
async fn later(shopper: &Shopper<'_>, hours: f64) -> Answer {
    sqlx::query("update saga.clock set offset_by = offset_by + make_interval(secs => $1)")
        .bind(hours * 3_600.0)
        .execute(shopper.house.database.pool())
        .await
        .expect("the clock moves");
    shopper.house.door.callers.forget(&token_hash(&shopper.token));
    shopper.get("/v1/me").await
}

#[tokio::test]
async fn a_session_ends_by_idleness_by_age_and_with_a_frozen_account() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    for _ in 0..3 {
        later(&shopper, 11.0).await.is(200);
    }
    let idle = later(&shopper, 12.1).await;
    assert_eq!(idle.problem(), refusal(401, "token_expired"), "nobody used it for 12 hours");

    let shopper = Shopper::unverified(&house).await;
    for _ in 0..65 {
        later(&shopper, 11.0).await.is(200);
    }
    assert_eq!(later(&shopper, 6.0).await.problem(), refusal(401, "token_expired"), "30 days old");

    let shopper = Shopper::unverified(&house).await;
    later(&shopper, 0.0).await.is(200);
    sqlx::query("update shop.customer set frozen_at = saga.now()")
        .execute(house.database.pool())
        .await
        .expect("frozen");
    assert_eq!(later(&shopper, 0.0).await.problem(), refusal(401, "token_invalid"));
    house.close().await;
}

#[tokio::test]
async fn a_key_is_stored_only_as_its_hash() {
    let house = House::open().await;
    let token = house.key("operator", &[]).await;
    let stored: String = sqlx::query_scalar("select row_to_json(k)::text from shop.access_key k")
        .fetch_one(house.database.pool())
        .await
        .expect("one key");
    let secret = token.split_once('_').expect("a key has parts").1;
    assert!(!stored.contains(secret));
    house.close().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_cannot_be_read_is_400() {
    let house = House::open().await;
    let key = house.key("viewer", &[]).await;
    let get = |path: String| send(house.get(&path).bearer_auth(&key));
    let unknown = Uuid::now_v7();
    for (path, problem) in [
        (format!("{GUARDED}/{unknown}"), refusal(404, "saga_not_found")),
        (format!("{GUARDED}/1"), refusal(404, "not_found")),
        (format!("{GUARDED}/{}", "9".repeat(5_000)), refusal(404, "not_found")),
        (format!("{GUARDED}?limit=0"), refusal(400, "invalid_parameter")),
        (format!("{GUARDED}?limit=101"), refusal(400, "invalid_parameter")),
        (format!("{GUARDED}?limit=1e9"), refusal(400, "invalid_parameter")),
        (format!("{GUARDED}?status=dancing"), refusal(400, "invalid_parameter")),
        (format!("{GUARDED}?cursor=forged"), refusal(400, "invalid_cursor")),
        (format!("{GUARDED}?sort=state"), refusal(400, "unknown_parameter")),
    ] {
        assert_eq!(get(path.clone()).await.problem(), problem, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn too_many_requests_of_one_caller_are_429_and_nobody_elses_business() {
    let rates = stepwise::door::limits::Rates {
        per_caller_s: 5,
        attempts_per_minute: 5,
        ..stepwise::door::limits::Rates::OFF
    };
    let house = House::open_with(rates).await;
    let (eager, patient) = (house.key("viewer", &[]).await, house.key("viewer", &[]).await);
    let mut refused = None;
    for _ in 0..50 {
        let answer = send(house.get(GUARDED).bearer_auth(&eager)).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("fifty in a burst are too many");
    assert_eq!(refused.problem(), refusal(429, "rate_limited"));
    assert_eq!(refused.json()["retryable"], true);
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s >= 1));
    send(house.get(GUARDED).bearer_auth(&patient)).await.is(200);
    house.close().await;
}
