//! Access to an account: mails with tokens, passwords, sessions, and the limits of what an account may save.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, header::USER_AGENT};
use serde_json::{Value, json};
use stepwise::door::limits::Rates;
use stepwise_workflows::{customer::password::reset_token, shop::password::PoolError};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{PASSWORD, Shopper, address, id},
};

const NEW_PASSWORD: &str = "seven herons stand in cold rain";
const COUNTING: Rates = Rates { per_caller_s: 1_000, attempts_per_minute: 10_000, ..Rates::OFF };
const RESETS: &str = "/v1/customers/password-resets";
const VERIFICATIONS: &str = "/v1/customers/verification-mails";

async fn ask_for_mail(house: &House, path: &str, email: &str) -> Answer {
    send(house.post(path, &json!({ "email": email }))).await
}

async fn log_in(house: &House, email: &str, password: &str) -> Answer {
    send(house.post("/v1/sessions", &json!({ "email": email, "password": password }))).await
}

async fn reset(house: &House, token: &str, password: &str) -> Answer {
    let body = json!({ "resetToken": token, "password": password });
    send(house.post("/v1/customers/reset-password", &body)).await
}

/// Waits for a mail to this address that has a token after these words, other than `not`.
async fn token_in_mail(house: &House, email: &str, words: &str, not: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mail = house.mail.last_to(email).unwrap_or_default();
        // Anybody can have a mail sent to any address: it repeats nothing that they entered.
        assert!(!mail.contains("Ada"), "{mail}");
        let token = mail.split_once(words).and_then(|(_, rest)| rest.split_whitespace().next());
        if let Some(token) = token.filter(|token| *token != not) {
            return token.to_owned();
        }
        assert!(Instant::now() < deadline, "no such mail came; the last one is {mail:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn later(house: &House, by: &str) {
    sqlx::query("update saga.clock set offset_by = offset_by + $1::text::interval")
        .bind(by)
        .execute(house.database.pool())
        .await
        .expect("the clock moves");
}

/// Waits until the token is refused: every process knows within a second.
async fn is_over(shopper: &Shopper<'_>, token: &str) {
    let begun = Instant::now();
    loop {
        let me = send(shopper.house.get("/v1/me").bearer_auth(token)).await;
        if me.status == 401 {
            assert_eq!(me.problem(), refusal(401, "token_invalid"));
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "the session goes on: {me:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_forgotten_password_is_reset_once_and_all_sessions_end() {
    let house = House::open_working().await;
    let shopper = Shopper::new(&house).await;
    ask_for_mail(&house, RESETS, &shopper.email.to_uppercase()).await.is(204);
    let first = token_in_mail(&house, &shopper.email, "reset token: ", "").await;
    ask_for_mail(&house, RESETS, &shopper.email).await.is(204);
    let token = token_in_mail(&house, &shopper.email, "reset token: ", &first).await;
    let void = reset(&house, &first, NEW_PASSWORD).await;
    assert_eq!(void.problem(), refusal(422, "invalid_token"));
    assert_eq!(void.json()["errors"][0]["pointer"], "/resetToken");
    let weak = reset(&house, &token, &shopper.email).await;
    assert_eq!(weak.problem(), refusal(422, "invalid_password"));

    let body = json!({ "resetToken": token, "password": NEW_PASSWORD });
    let request =
        || house.post("/v1/customers/reset-password", &body).header("idempotency-key", "1");
    send(request()).await.is(204);
    let again = send(request()).await;
    assert_eq!(again.is(204).header("idempotent-replayed"), "true");
    let used = reset(&house, &token, "another password that is long").await;
    assert_eq!(used.problem(), refusal(422, "invalid_token"));
    is_over(&shopper, &shopper.token).await;
    let old = log_in(&house, &shopper.email, PASSWORD).await;
    assert_eq!(old.problem(), refusal(401, "invalid_credentials"));
    log_in(&house, &shopper.email, NEW_PASSWORD).await.is(201);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !house.mail.last_to(&shopper.email).unwrap_or_default().contains("was changed") {
        assert!(Instant::now() < deadline, "no mail says that the password was changed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.close().await;
}

#[tokio::test]
async fn a_reset_token_expires_after_a_quarter_of_an_hour_and_a_bit_off_is_invalid() {
    let house = House::open_working().await;
    let shopper = Shopper::new(&house).await;
    ask_for_mail(&house, RESETS, &shopper.email).await.is(204);
    let token = token_in_mail(&house, &shopper.email, "reset token: ", "").await;
    let mut off = token.clone();
    off.replace_range(..1, if off.starts_with('A') { "B" } else { "A" });
    assert_eq!(reset(&house, &off, NEW_PASSWORD).await.problem(), refusal(422, "invalid_token"));
    // A token of another customer's key under the same id.
    let other = Shopper::unverified(&house).await;
    let key = house.door.shop.keys.get(other.id).await.expect("the store answers");
    let guessed = reset_token(&key.expect("a customer has a key"), shopper.id);
    let guessed = reset(&house, guessed.expose(), NEW_PASSWORD).await;
    assert_eq!(guessed.problem(), refusal(422, "invalid_token"));
    later(&house, "16 minutes").await;
    assert_eq!(reset(&house, &token, NEW_PASSWORD).await.problem(), refusal(422, "token_expired"));
    log_in(&house, &shopper.email, PASSWORD).await.is(201);
    house.close().await;
}

#[tokio::test]
async fn an_address_gets_three_mails_an_hour_whether_or_not_it_has_an_account() {
    let house = House::open_with(COUNTING).await;
    let known = Shopper::unverified(&house).await.email;
    for path in [RESETS, VERIFICATIONS] {
        for email in [known.as_str(), "nobody@example.org"] {
            let asked = join_all((0..10).map(|_| ask_for_mail(&house, path, email))).await;
            let accepted = asked.iter().filter(|answer| answer.status == 204);
            assert_eq!(accepted.count(), 3, "{path} {email}");
            for refused in asked.iter().filter(|answer| answer.status != 204) {
                assert_eq!(refused.problem(), refusal(429, "rate_limited"));
                let wait = refused.header("retry-after").parse::<u64>().expect("seconds");
                assert!((3_500..=3_601).contains(&wait), "{wait}");
            }
        }
    }
    later(&house, "61 minutes").await;
    for email in [known.as_str(), "nobody@example.org"] {
        let answer = ask_for_mail(&house, RESETS, email).await;
        assert_eq!((answer.is(204).text.as_str(), answer.header("location")), ("", ""), "{email}");
    }
    let wrong = ask_for_mail(&house, RESETS, "no address").await;
    assert_eq!(wrong.problem(), refusal(422, "invalid_email"));
    house.close().await;
}

#[tokio::test]
async fn a_customer_who_asks_again_verifies_with_the_new_token_only() {
    let house = House::open_working().await;
    let shopper = Shopper::unverified(&house).await;
    let first = shopper.verification_token().await;
    assert_eq!(token_in_mail(&house, &shopper.email, "verification token: ", "").await, first);
    ask_for_mail(&house, VERIFICATIONS, &shopper.email).await.is(204);
    let second = token_in_mail(&house, &shopper.email, "verification token: ", &first).await;
    let verify = |token: &str| {
        let body = json!({ "verificationToken": token });
        send(house.post("/v1/customers/verify-email", &body))
    };
    assert_eq!(verify(&first).await.problem(), refusal(422, "invalid_token"));
    assert_eq!(verify(&second).await.is(200).json()["emailVerified"], true);
    house.close().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_and_needs_the_current_one() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let other = log_in(&house, &shopper.email, PASSWORD).await.is(201).json();
    let other = other["token"].as_str().expect("a token").to_owned();
    let path = "/v1/customers/{me}/password";
    let change = |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        shopper.ask(Method::POST, path).json(&body)
    };
    let wrong = send(change("another password entirely", NEW_PASSWORD)).await;
    assert_eq!(wrong.problem(), refusal(422, "wrong_password"));
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/currentPassword");
    let weak = send(change(PASSWORD, "passwordpassword")).await;
    assert_eq!(weak.problem(), refusal(422, "invalid_password"));
    assert_eq!(weak.json()["errors"][0]["pointer"], "/newPassword");
    send(change(PASSWORD, NEW_PASSWORD).header("idempotency-key", "1")).await.is(204);
    let again = send(change(PASSWORD, NEW_PASSWORD).header("idempotency-key", "1")).await;
    assert_eq!(again.is(204).header("idempotent-replayed"), "true");
    let reused = change(PASSWORD, "a third one that is long enough").header("idempotency-key", "1");
    assert_eq!(send(reused).await.problem(), refusal(422, "idempotency_key_reused"));
    is_over(&shopper, &other).await;
    shopper.get("/v1/me").await.is(200);
    assert_eq!(log_in(&house, &shopper.email, PASSWORD).await.status, 401);
    log_in(&house, &shopper.email, NEW_PASSWORD).await.is(201);
    house.close().await;
}

#[tokio::test]
async fn guessing_the_current_password_with_a_stolen_session_becomes_slow() {
    let house = House::open_with(COUNTING).await;
    let shopper = Shopper::unverified(&house).await;
    let body = json!({ "currentPassword": "a guess that is wrong", "newPassword": NEW_PASSWORD });
    let guesses = (0..10).map(|_| shopper.post("/v1/customers/{me}/password", &body));
    let answers = join_all(guesses).await;
    let evaluated = answers.iter().filter(|answer| answer.status == 422).count();
    assert!((1..=5).contains(&evaluated), "{evaluated} guesses were evaluated");
    let slowed = answers.iter().find(|answer| answer.status == 429).expect("one is refused");
    assert_eq!(slowed.problem(), refusal(429, "rate_limited"));
    assert!(!slowed.header("retry-after").is_empty());

    // A try that is refused is not hashed: it is answered although nothing more can be hashed.
    let busy = hash_much(&house).await;
    let request = shopper.ask(Method::POST, "/v1/customers/{me}/password").json(&body);
    let refused = send(request.header("idempotency-key", "again")).await;
    assert_eq!(refused.problem(), refusal(429, "rate_limited"));
    was_full(busy).await;
    house.close().await;
}

type Hashing = Vec<JoinHandle<Result<bool, PoolError>>>;

/// Hashes so many passwords that no other can be hashed meanwhile.
async fn hash_much(house: &House) -> Hashing {
    let passwords = &house.door.shop.passwords;
    let busy = (0..80).map(|_| {
        let passwords = passwords.clone();
        tokio::spawn(async move { passwords.matches("x", None).await })
    });
    let busy = busy.collect();
    tokio::task::yield_now().await;
    busy
}

async fn was_full(busy: Hashing) {
    let full = |it: Result<_, _>| it.expect("it does not panic") == Err(PoolError::Busy);
    assert!(join_all(busy).await.into_iter().any(full), "the queue was not full");
}

#[tokio::test]
async fn a_reset_token_that_is_not_valid_is_refused_before_a_password_is_hashed() {
    let house = House::open_working().await;
    let shopper = Shopper::new(&house).await;
    ask_for_mail(&house, RESETS, &shopper.email).await.is(204);
    let token = token_in_mail(&house, &shopper.email, "reset token: ", "").await;
    later(&house, "16 minutes").await;
    let reset = |token: &str, key: &'static str| {
        let body = json!({ "resetToken": token, "password": NEW_PASSWORD });
        house.post("/v1/customers/reset-password", &body).header("idempotency-key", key)
    };
    let busy = hash_much(&house).await;
    let (junk, late) = tokio::join!(send(reset("a guess", "1")), send(reset(&token, "2")));
    was_full(busy).await;
    assert_eq!(junk.problem(), refusal(422, "invalid_token"));
    assert_eq!(late.problem(), refusal(422, "token_expired"));
    house.close().await;
}

#[tokio::test]
async fn a_customer_sees_the_sessions_and_ends_one() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let body = json!({ "email": shopper.email, "password": PASSWORD });
    let request = house.post("/v1/sessions", &body).header(USER_AGENT, "Bowser/1.0");
    let second = send(request).await.is(201).json();
    let list = shopper.get("/v1/customers/{me}/sessions").await.is(200).json();
    let sessions = list["items"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "{list}");
    assert_eq!(sessions[0]["id"], second["id"], "the newest comes first");
    assert_eq!(sessions[0]["agent"], "Bowser/1.0");
    assert_eq!(sessions[0]["network"], "127.0.0.0/24");
    let current: Vec<_> = sessions.iter().map(|session| &session["current"]).collect();
    assert_eq!(current, [&json!(false), &json!(true)]);
    assert!(!list.to_string().contains(&shopper.token), "no token is shown");
    let page = shopper.get("/v1/customers/{me}/sessions?limit=1").await.is(200).json();
    let cursor = page["nextCursor"].as_str().expect("there is another");
    let rest = shopper.get(&format!("/v1/customers/{{me}}/sessions?limit=1&cursor={cursor}")).await;
    assert_eq!(rest.is(200).json()["items"], json!([sessions[1]]));

    let stranger = Shopper::unverified(&house).await;
    let path = format!("/v1/customers/{}/sessions/{}", shopper.id, id(&second["id"]));
    let theirs = send(stranger.ask(Method::DELETE, &path)).await;
    assert_eq!(theirs.problem(), refusal(404, "customer_not_found"));
    let mine = format!("/v1/customers/{{me}}/sessions/{}", id(&second["id"]));
    let not_theirs = send(stranger.ask(Method::DELETE, &mine)).await;
    assert_eq!(not_theirs.problem(), refusal(404, "session_not_found"));
    send(shopper.ask(Method::DELETE, &mine)).await.is(204);
    is_over(&shopper, second["token"].as_str().expect("a token")).await;
    let again = send(shopper.ask(Method::DELETE, &mine)).await;
    assert_eq!(again.problem(), refusal(404, "session_not_found"));
    shopper.get("/v1/me").await.is(200);
    house.close().await;
}

#[tokio::test]
async fn one_session_too_many_ends_the_oldest() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let mut last = String::new();
    for _ in 0..20 {
        let session = log_in(&house, &shopper.email, PASSWORD).await.is(201).json();
        session["token"].as_str().expect("a token").clone_into(&mut last);
    }
    let count = "select count(*) from shop.session where customer_id = $1";
    let count = sqlx::query_scalar::<_, i64>(count).bind(shopper.id);
    assert_eq!(count.fetch_one(house.database.pool()).await.expect("readable"), 20);
    is_over(&shopper, &shopper.token).await;
    send(house.get("/v1/me").bearer_auth(&last)).await.is(200);
    house.close().await;
}

/// Saves fifty, and one more at ten moments at once.
async fn fill(
    shopper: &Shopper<'_>,
    path: &str,
    body: impl Fn(usize) -> Value,
    code: &str,
) -> Vec<Uuid> {
    let mut saved = Vec::new();
    for n in 0..45 {
        saved.push(id(&shopper.post(path, &body(n)).await.is(201).json()["id"]));
    }
    let bodies: Vec<Value> = (45..55).map(body).collect();
    let more = join_all(bodies.iter().map(|body| shopper.post(path, body))).await;
    let fit = more.iter().filter(|answer| answer.status == 201);
    saved.extend(fit.map(|answer| id(&answer.json()["id"])));
    assert_eq!(saved.len(), 50, "{path}");
    let refused = more.iter().find(|answer| answer.status != 201).expect("not all fit");
    assert_eq!(refused.problem(), refusal(409, code));
    saved
}

/// Reads the whole list in pages of 20.
async fn read_all(shopper: &Shopper<'_>, path: &str) -> Vec<Uuid> {
    let (mut read, mut next) = (Vec::new(), String::new());
    loop {
        let page = shopper.get(&format!("{path}?{next}")).await.is(200).json();
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 20, "{page}");
        read.extend(items.iter().map(|item| id(&item["id"])));
        match page["nextCursor"].as_str() {
            Some(cursor) => next = format!("cursor={cursor}"),
            None => return read,
        }
    }
}

#[tokio::test]
async fn what_an_account_saves_is_limited_and_read_in_pages() {
    let house = House::open().await;
    let shopper = Shopper::unverified(&house).await;
    let card = |n| json!({ "token": format!("pm_{n}"), "brand": "visa", "last4": "4242" });
    let body: [fn(usize) -> Value; 2] = [|_| address(), card];
    for (path, body, code) in [
        ("/v1/customers/{me}/addresses", body[0], "too_many_addresses"),
        ("/v1/customers/{me}/payment-methods", body[1], "too_many_payment_methods"),
    ] {
        let mut saved = fill(&shopper, path, body, code).await;
        let read = read_all(&shopper, path).await;
        assert!(read.is_sorted(), "oldest first");
        saved.sort_unstable();
        assert_eq!(read, saved);
        // Room for one more.
        send(shopper.ask(Method::DELETE, &format!("{path}/{}", saved[7]))).await.is(204);
        let gone = shopper.get(&format!("{path}/{}", saved[7])).await;
        assert_eq!(gone.status, 404);
        shopper.post(path, &body(55)).await.is(201);
        let wrong = shopper.get(&format!("{path}?cursor=forged")).await;
        assert_eq!(wrong.problem(), refusal(400, "invalid_cursor"));
    }
    house.close().await;
}
