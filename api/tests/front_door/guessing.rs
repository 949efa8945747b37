//! Guessing of passwords, and many log-ins at the same moment.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use stepwise::door::limits::Rates;
use tokio::time::Instant;

use crate::{
    cli::run,
    house::{Answer, House, refusal, send},
    shopper::{PASSWORD, Shopper, product},
};

const RATES: Rates = Rates { per_caller_s: 1_000, attempts_per_minute: 10_000, ..Rates::OFF };

/// A client with an address of its own on this machine.
struct Network(reqwest::Client);

impl Network {
    fn new(third: u8, fourth: u8) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, third, fourth));
        let client = reqwest::Client::builder().local_address(address).no_proxy();
        Self(client.build().expect("a plain client"))
    }

    async fn log_in(&self, house: &House, email: &str, password: &str) -> Answer {
        let request = self.0.post(format!("{}/v1/sessions", house.base));
        send(request.json(&json!({ "email": email, "password": password }))).await
    }
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test]
async fn fifty_guesses_at_the_same_moment_are_limited_as_fifty_in_a_row() {
    let house = House::open_with(RATES).await;
    let email = Shopper::unverified(&house).await.email;
    for email in [email.as_str(), "nobody@example.org"] {
        let stranger = Network::new(0, 2);
        let guesses = (0..50).map(|_| stranger.log_in(&house, email, "a guess that is wrong"));
        let answers = join_all(guesses).await;
        let evaluated = count(&answers, 401);
        assert!((1..=5).contains(&evaluated), "{evaluated} guesses were evaluated");
        assert_eq!(count(&answers, 429), 50 - evaluated);
        for refused in answers.iter().filter(|answer| answer.status == 429) {
            assert_eq!(refused.problem(), refusal(429, "rate_limited"));
            let wait = refused.header("retry-after").parse::<u64>();
            assert!(wait.is_ok_and(|s| (1..=61).contains(&s)), "{refused:?}");
        }
    }
    house.close().await;
}

/// Fault: door: somebody guesses at the password of one account, without end
/// Customer: the owner logs in as ever; the guesser gets 429 with `Retry-After`
/// Operator: `http_requests_total` of `logIn` with status 429
/// Within: at once
/// Ends: by itself: waits of at most 60 s, forgotten after 15 minutes
#[tokio::test]
async fn a_stranger_s_guesses_keep_the_owner_out_on_no_network() {
    let house = House::open_with(RATES).await;
    let owner = Shopper::unverified(&house).await;
    let email = owner.email.as_str();
    let stranger = Network::new(0, 2);
    for _ in 0..20 {
        stranger.log_in(&house, email, "a guess that is wrong").await;
    }
    let refused = stranger.log_in(&house, email, PASSWORD).await;
    assert_eq!(refused.status, 429, "not even the right password");
    // The owner logs in from a network where the owner has logged in before, and from a new one.
    for network in [Network::new(0, 1), Network::new(0, 3)] {
        for _ in 0..6 {
            network.log_in(&house, email, PASSWORD).await.is(201);
        }
    }
    // The owner logs in from the stranger's network, with the token of an earlier session.
    let body = json!({ "email": email, "password": PASSWORD });
    let request = stranger.0.post(format!("{}/v1/sessions", house.base)).json(&body);
    send(request.bearer_auth(&owner.token)).await.is(201);
    // A token of another customer's session does not help.
    let other = Shopper::unverified(&house).await;
    let request = stranger.0.post(format!("{}/v1/sessions", house.base)).json(&body);
    send(request.bearer_auth(&other.token)).await.is(429);
    house.close().await;
}

#[tokio::test]
async fn guesses_from_many_networks_slow_down_only_networks_that_are_not_known() {
    let house = House::open_with(RATES).await;
    let email = Shopper::unverified(&house).await.email;
    for n in 1..=25 {
        let answer = Network::new(1, n).log_in(&house, &email, "a guess that is wrong").await;
        assert_eq!(answer.status, 401, "the first guess of network {n}");
    }
    let second = Network::new(1, 1).log_in(&house, &email, "a guess that is wrong").await;
    assert_eq!(second.problem(), refusal(429, "rate_limited"));
    let known = Network::new(0, 1);
    for password in ["a slip of the finger", "another slip of it", PASSWORD] {
        let status = known.log_in(&house, &email, password).await.status;
        assert_eq!(status, if password == PASSWORD { 201 } else { 401 });
    }
    Network::new(2, 1).log_in(&house, &email, PASSWORD).await.is(201);
    house.close().await;
}

/// Fault: door: somebody tries one password at many accounts, from many networks
/// Customer: each try is 401; the owners log in as ever
/// Operator: `doctor` (exit code 1) says how many log-ins were wrong and how many are usual; the gauge `stepwise_log_ins_wrong`
/// Within: at once, read when asked
/// Ends: by itself, 15 minutes after the last
#[tokio::test]
async fn wrong_log_ins_of_all_accounts_together_are_told_when_they_rise() {
    let house = House::open_with(RATES).await;
    let (db, url) = (house.database.pool(), house.database.url());
    let told = async || {
        let metrics = send(house.get("/metrics")).await.is(200).text.clone();
        let gauge = metrics.lines().find_map(|line| line.strip_prefix("stepwise_log_ins_wrong "));
        let env = [("STEPWISE_DATABASE_URL", url.as_str())];
        let (_, lines, _) = run(&house.folder, &["doctor"], &env).await;
        let line = lines.lines().find(|line| line.contains("  log-ins  "));
        (gauge.expect("a gauge").to_owned(), line.expect("a line").to_owned())
    };
    let (gauge, line) = told().await;
    assert!(gauge == "0" && line.starts_with("ok"), "{gauge} {line}");

    // Few at the same moment, because the queue for comparing passwords is short.
    for n in 0..10_u8 {
        let tries = (0..10_u8).map(async |m| {
            let email = format!("{}{}@example.org", char::from(b'a' + n), char::from(b'a' + m));
            Network::new(n, m + 1).log_in(&house, &email, PASSWORD).await
        });
        let answers = join_all(tries).await;
        assert_eq!(count(&answers, 401), 10, "{answers:?}");
    }
    let (gauge, line) = told().await;
    assert!(gauge == "100" && line.starts_with("fail"), "{gauge} {line}");
    assert!(line.contains("100 wrong ones in the last 15 minutes, 0 usually"), "{line}");

    // A shop where so many are usual.
    let usual = "insert into shop.wrong_log_in
        select saga.now() - interval '16 minutes' - n * interval '1 minute', 1 from generate_series(0, 1000) n";
    sqlx::query(usual).execute(db).await.expect("written");
    let (gauge, line) = told().await;
    assert!(gauge == "100" && line.starts_with("ok") && line.contains("15 usually"), "{line}");
    let later = "update saga.clock set offset_by = interval '16 minutes'";
    sqlx::query(later).execute(db).await.expect("the clock moves");
    assert_eq!(told().await.0, "0");

    // An attack that has gone on for hours is told all the same.
    let attack = "insert into shop.wrong_log_in
        select date_trunc('minute', saga.now()) - n * interval '1 minute', 20 from generate_series(0, 600) n";
    sqlx::query("delete from shop.wrong_log_in").execute(db).await.expect("deleted");
    sqlx::query(attack).execute(db).await.expect("written");
    let (_, line) = told().await;
    assert!(line.starts_with("fail") && line.contains("0 usually"), "{line}");
    house.close().await;
}

/// Adds a product to the cart again and again for a while. Returns how long each request took.
async fn shop(shopper: &Shopper<'_>, thing: uuid::Uuid, time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        shopper.add(thing, 1).await.is(200);
        took.push(began.elapsed());
    }
    took
}

fn quantile(mut took: Vec<Duration>, percent: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

/// Fault: door: sixty customers log in at the same moment
/// Customer: other requests go on; who logs in waits a little, beyond the queue of 64 it is 503 `passwords_busy`
/// Operator: `http_requests_total` of `logIn` with status 503
/// Within: at once
/// Ends: by itself, when the queue is shorter
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_who_log_in_at_once_make_nobody_else_wait_for_a_connection() {
    let time = if std::env::var("STEPWISE_FAULTS").is_ok_and(|size| size == "full") {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(3)
    };
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let mut shoppers = Vec::new();
    for _ in 0..4 {
        shoppers.push(Shopper::unverified(&house).await);
    }
    let all = async |time| {
        join_all(shoppers.iter().map(|shopper| shop(shopper, thing, time))).await.concat()
    };
    all(Duration::from_millis(500)).await;
    let quiet = all(time).await;
    // The sessions of one account are limited, so those who shop are other customers.
    let other = Shopper::unverified(&house).await;
    let email = other.email.as_str();
    let body = json!({ "email": email, "password": PASSWORD });
    let logging_in = join_all((0..60).map(|_| async {
        let until = Instant::now() + time;
        let mut sessions = 0;
        while Instant::now() < until {
            send(house.post("/v1/sessions", &body)).await.is(201);
            sessions += 1;
        }
        sessions
    }));
    let (busy, sessions) = tokio::join!(all(time), logging_in);
    let [quiet_50, busy_50] = [&quiet, &busy].map(|took| quantile(took.clone(), 50));
    let [quiet_99, busy_99] = [&quiet, &busy].map(|took| quantile(took.clone(), 99));
    let sessions: i32 = sessions.iter().sum();
    println!(
        "quiet p50 {quiet_50:?} p99 {quiet_99:?}; with {sessions} log-ins p50 {busy_50:?} p99 {busy_99:?}"
    );
    assert!(sessions >= 60);
    // A request that waited behind log-ins would take half a second and more in the median; the limit allows for a busy machine.
    let [slack_50, slack_99] = [200, 700].map(Duration::from_millis);
    assert!(busy_50 < quiet_50 * 3 / 2 + slack_50, "{busy_50:?} instead of {quiet_50:?}");
    assert!(busy_99 < quiet_99 * 3 / 2 + slack_99, "{busy_99:?} instead of {quiet_99:?}");
    house.close().await;
}
