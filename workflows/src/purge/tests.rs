use std::time::Instant;

use super::*;
use crate::testing::database;

/// The statements of [`write`] for what only the front door writes.
const OF_DOORS: [&str; 6] = [
    "insert into shop.payment_method (payment_method_id, customer_id, kind, brand, token, created_at, removed_at)
     select gen_random_uuid(), (select customer_id from shop.customer limit 1), 'card', 'visa', gen_random_uuid()::text, t, t
     from (select saga.now() - make_interval(secs => $2) as t from generate_series(1, $1)) r",
    "with methods as (
         insert into shop.payment_method (payment_method_id, customer_id, kind, brand, created_at)
         select gen_random_uuid(), (select customer_id from shop.customer limit 1), 'paypal', 'paypal', t
         from (select saga.now() - make_interval(secs => $2) as t from generate_series(1, $1)) r
         returning payment_method_id, customer_id, created_at
     )
     insert into shop.paypal_approval (payment_method_id, customer_id, amount, currency, return_url, cancel_url, state, created_at)
     select payment_method_id, customer_id, 1, 'USD', '', '', 'expired', created_at from methods",
    "with people as (
         insert into shop.customer (customer_id, created_at)
         select gen_random_uuid(), saga.now() from generate_series(1, $1) returning customer_id
     )
     insert into shop.password_reset (customer_id, token_hash, expires_at)
     select customer_id, uuid_send(gen_random_uuid()), saga.now() - make_interval(secs => $2) from people",
    "insert into shop.mail_request (scope_hash, asked_at, last_at)
     select uuid_send(gen_random_uuid()), array[t], t
     from (select saga.now() - make_interval(secs => $2) as t from generate_series(1, $1)) r",
    "insert into shop.rate_bucket (name_hash, full_at, granted, burst, gap_s)
     select uuid_send(gen_random_uuid()), saga.now() - make_interval(secs => $2), 1, 1, 1 from generate_series(1, $1)",
    "insert into shop.wrong_log_in (minute, log_ins)
     select saga.now() - make_interval(secs => $2 + n), 1 from generate_series(1, $1) n",
];

/// Writes so many rows of each kind, which are as old as that.
async fn write(db: &PgPool, rows: i32, age: Duration) {
    let statements = [
        "insert into shop.idempotency (scope_hash, operation, fingerprint, status, body, created_at)
         select uuid_send(gen_random_uuid()), 'test', '', 200, '', saga.now() - make_interval(secs => $2)
         from generate_series(1, $1)",
        "with someone as (
             insert into shop.customer (customer_id, created_at)
             values (gen_random_uuid(), saga.now())
             returning customer_id
         ), token as (
             insert into shop.verification_token (token_hash, customer_id, expires_at)
             select uuid_send(gen_random_uuid()), customer_id, saga.now() - make_interval(secs => $2)
             from someone, generate_series(1, $1)
         )
         insert into shop.session (token_hash, customer_id, created_at, last_seen_at, expires_at)
         select uuid_send(gen_random_uuid()), customer_id, saga.now(), saga.now(), saga.now() - make_interval(secs => $2)
         from someone, generate_series(1, $1)",
        "insert into shop.log_in_attempt (scope_hash, tries, last_at, succeeded_at)
         select uuid_send(gen_random_uuid()), 1, t, case when n % 2 = 0 then t end
         from (select n, saga.now() - make_interval(secs => $2) as t from generate_series(1, 2 * $1) n) r",
        "insert into shop.parked_gateway_event (event_id, why, kind, parked_at, ended_at, verb, verb_by, verb_reason, verb_at)
         select gen_random_uuid()::text, 'unreadable', 'test', t, t, 'dismiss', 'test', 'test', t
         from (select saga.now() - make_interval(secs => $2) as t from generate_series(1, $1)) r",
    ];
    for statement in statements.into_iter().chain(OF_DOORS) {
        sqlx::query(statement)
            .bind(rows)
            .bind(age.as_secs_f64())
            .execute(db)
            .await
            .unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
}

async fn counts(db: &PgPool) -> Vec<i64> {
    sqlx::query_scalar(
        "select count(*) from shop.idempotency union all select count(*) from shop.session
         union all select count(*) from shop.verification_token
         union all select count(*) from shop.log_in_attempt
         union all select count(*) from shop.parked_gateway_event
         union all select count(*) from shop.password_reset
         union all select count(*) from shop.mail_request
         union all select count(*) from shop.rate_bucket
         union all select count(*) from shop.wrong_log_in
         union all select count(*) from shop.payment_method
         union all select count(*) from shop.paypal_approval",
    )
    .fetch_all(db)
    .await
    .expect("readable")
}

#[tokio::test]
async fn every_kind_of_row_is_deleted_once_it_is_old_and_not_before() {
    let database = database().await;
    let (db, retention) = (database.pool(), Retention::default());
    write(db, 3, Duration::from_secs(91 * DAY)).await;
    write(db, 5, Duration::from_secs(14 * MINUTE)).await;
    let expected: Vec<(&str, i64)> = RULES.iter().map(|rule| (rule.name, 3)).collect();
    assert_eq!(backlogs(db, &retention).await.expect("counted"), expected);
    let deleted = run(db, &retention).await.expect("purged");
    assert_eq!(deleted, 3 * RULES.len() as u64);
    assert_eq!(counts(db).await, [5, 5, 5, 10, 5, 5, 5, 5, 5, 10, 5]);
    assert!(backlogs(db, &retention).await.expect("counted").iter().all(|(_, rows)| *rows == 0));
    database.close().await;
}

#[tokio::test]
async fn an_approval_that_pays_an_order_is_kept_for_good() {
    let database = database().await;
    let db = database.pool();
    write(db, 1, Duration::from_secs(8 * DAY)).await;
    let used = "update shop.paypal_approval set state = 'used', order_id = gen_random_uuid()";
    sqlx::query(used).execute(db).await.expect("used");
    for state in ["pending", "approved"] {
        write(db, 1, Duration::from_secs(8 * DAY)).await;
        let unused = "update shop.paypal_approval set state = $1 where state = 'expired'";
        sqlx::query(unused).bind(state).execute(db).await.expect("unused");
    }
    run(db, &Retention::default()).await.expect("purged");
    let kept: Vec<String> = sqlx::query_scalar(
        "select state from shop.paypal_approval join shop.payment_method using (payment_method_id)",
    )
    .fetch_all(db)
    .await
    .expect("readable");
    assert_eq!(kept, ["used"]);
    let mut retention = Retention::default();
    let (hour, day) = (Duration::from_secs(HOUR), Duration::from_secs(DAY));
    assert_eq!(retention.keep("unused-approvals", hour), Err(BadRetention::TooShort(day)));
    database.close().await;
}

#[tokio::test]
async fn what_is_kept_is_configured_by_name_and_never_shorter_than_it_is_needed() {
    let database = database().await;
    let (db, mut retention) = (database.pool(), Retention::default());
    write(db, 2, Duration::from_secs(91 * DAY)).await;
    let (year, hour) = (Duration::from_secs(365 * DAY), Duration::from_secs(HOUR));
    assert_eq!(retention.keep("parked-events", year), Ok(()));
    assert_eq!(retention.keep("orders", year), Err(BadRetention::Unknown));
    let at_least = Duration::from_secs(72 * HOUR);
    assert_eq!(retention.keep("idempotency-answers", hour), Err(BadRetention::TooShort(at_least)));
    run(db, &retention).await.expect("purged");
    assert_eq!(counts(db).await, [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_old_answers_are_gone_in_seconds_while_new_ones_are_written() {
    let database = database().await;
    let (db, retention) = (database.pool().clone(), Retention::default());
    sqlx::query(
        "insert into shop.idempotency (scope_hash, operation, fingerprint, status, body, created_at)
         select uuid_send(gen_random_uuid()), 'test', '', 200, repeat('x', 200)::bytea, saga.now() - interval '80 hours'
         from generate_series(1, 100000)",
    )
    .execute(&db)
    .await
    .expect("written");
    let begun = Instant::now();
    let purging = tokio::spawn({
        let (db, retention) = (db.clone(), retention.clone());
        async move { run(&db, &retention).await }
    });
    let (mut written, mut slowest) = (0, Duration::ZERO);
    while !purging.is_finished() {
        let since = Instant::now();
        write(&db, 1, Duration::ZERO).await;
        slowest = slowest.max(since.elapsed());
        written += 1;
    }
    let (deleted, took) = (purging.await.expect("no panic").expect("purged"), begun.elapsed());
    println!(
        "{deleted} rows in {took:?}; {written} groups of others written meanwhile, the slowest in {slowest:?}"
    );
    assert_eq!(deleted, 100_000);
    assert_eq!(counts(&db).await[0], written);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(slowest < Duration::from_secs(2), "a writer waited {slowest:?}");
    database.close().await;
}
