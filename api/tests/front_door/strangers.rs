//! Strangers who want to know which addresses have an account, who try passwords, or who have a token that is not theirs.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use stepwise::door::limits::Rates;

use crate::{
    house::{House, refusal, send},
    shopper::{PASSWORD, Shopper},
};

/// Attempts are limited as they are by default; other requests are not.
const BY_DEFAULT: Rates = Rates { attempts_per_minute: 60, ..Rates::OFF };

/// How often each request is timed.
const TRIES: usize = 200;

/// The greatest difference of the medians: a hash takes four times as long.
const SAME_TIME: Duration = Duration::from_millis(5);

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

fn visitor(email: &str, password: &str) -> Value {
    json!({ "email": email, "password": password, "firstName": "Ada", "lastName": "L" })
}

/// Times the requests that `ask` makes for a known and an unknown address, in turns, and compares their answers.
async fn compare(what: &str, known: &str, ask: impl Fn(&str) -> RequestBuilder) {
    let mut took = [Vec::new(), Vec::new()];
    let mut told = [None, None];
    for nth in 0..TRIES {
        let unknown = format!("nobody-{}@example.org", char::from(b'a' + (nth % 26) as u8));
        let mut each = [(0, known), (1, &*unknown)];
        // Each comes first as often as the other: the first one finds the memory of the process colder.
        if nth % 2 == 1 {
            each.reverse();
        }
        for (which, email) in each {
            let request = ask(email);
            let begun = Instant::now();
            let answer = send(request).await;
            took[which].push(begun.elapsed());
            let detail = (answer.status != 204).then(|| answer.json()["detail"].clone());
            told[which] = Some((answer.status, detail));
        }
    }
    assert_eq!(told[0], told[1], "{what}");
    let [known, unknown] = took.map(median);
    println!("{what}: median {known:?} with an account, {unknown:?} without");
    // On a busy machine everything takes longer, and so does the noise.
    let same = SAME_TIME.max(known.min(unknown) / 8);
    assert!(known.abs_diff(unknown) < same, "{what}: {known:?} and {unknown:?}");
}

#[tokio::test]
async fn neither_answer_nor_time_tells_whether_an_address_has_an_account() {
    let house = House::open().await;
    let known = Shopper::unverified(&house).await.email;
    compare("log-in", &known, |email| {
        let body = json!({ "email": email, "password": "a guess that is wrong" });
        house.post("/v1/sessions", &body)
    })
    .await;
    for path in ["/v1/customers/verification-mails", "/v1/customers/password-resets"] {
        compare(path, &known, |email| house.post(path, &json!({ "email": email }))).await;
    }
    house.close().await;
}

#[tokio::test]
async fn registering_known_addresses_is_refused_and_soon_limited() {
    let house = House::open_with(BY_DEFAULT).await;
    let known = Shopper::unverified(&house).await.email;
    let body = visitor(&known, PASSWORD);
    let answers = join_all((0..80).map(|_| send(house.post("/v1/customers", &body)))).await;
    let told = answers.iter().filter(|answer| answer.status == 409).count();
    assert!((1..=60).contains(&told), "{told} were told");
    let first = answers.iter().find(|answer| answer.status == 409).expect("one is told");
    assert_eq!(first.problem(), refusal(409, "email_already_registered"));
    let limited = answers.iter().find(|answer| answer.status == 429).expect("one is refused");
    assert_eq!(limited.problem(), refusal(429, "rate_limited"));
    assert!(limited.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=61).contains(&s)));
    house.close().await;
}

#[tokio::test]
async fn one_password_tried_at_many_accounts_is_limited_by_the_network() {
    let house = House::open_with(BY_DEFAULT).await;
    let tries = (0..100).map(|nth: u32| {
        let name: String = nth.to_string().bytes().map(|b| char::from(b - b'0' + b'a')).collect();
        let body = json!({ "email": format!("{name}@example.org"), "password": PASSWORD });
        send(house.post("/v1/sessions", &body))
    });
    let answers = join_all(tries).await;
    let evaluated = answers.iter().filter(|answer| matches!(answer.status, 401 | 503)).count();
    assert!(evaluated <= 61, "{evaluated} were evaluated");
    let limited = answers.iter().find(|answer| answer.status == 429).expect("one is refused");
    assert_eq!(limited.problem(), refusal(429, "rate_limited"));
    assert!(!limited.header("retry-after").is_empty());
    house.close().await;
}

#[tokio::test]
async fn a_password_is_15_to_128_characters_of_any_kind() {
    let house = House::open().await;
    let long: String = "vexing dwarf jumbo quiz ".chars().cycle().take(129).collect();
    let unicode = "Über den Dächern spielt 🦀 leise Cello, während es schneit, ja—so";
    assert_eq!(unicode.chars().count(), 64);
    for (name, password, status) in [
        ("fourteen", "vq8#Lm2!zT5&wK", 422),
        ("fifteen", "vq8#Lm2!zT5&wKr", 201),
        ("too-long", long.as_str(), 422),
        ("longest", &long[..128], 201),
        ("common", "passwordpassword", 422),
        ("own", "own@example.org", 422),
        ("unicode", unicode, 201),
    ] {
        let email = format!("{name}@example.org");
        let answer = send(house.post("/v1/customers", &visitor(&email, password))).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        if status == 422 {
            assert_eq!(answer.problem(), refusal(422, "invalid_password"), "{name}");
            assert_eq!(answer.json()["errors"][0]["pointer"], "/password");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn a_token_of_one_customer_verifies_nobody_else() {
    let house = House::open().await;
    let (mine, theirs) = (Shopper::unverified(&house).await, Shopper::unverified(&house).await);
    let body = json!({ "verificationToken": mine.verification_token().await });
    let verify = || {
        let request = house.post("/v1/customers/verify-email", &body);
        send(request.bearer_auth(&theirs.token))
    };
    assert_eq!(verify().await.is(200).json()["id"], json!(mine.id));
    assert_eq!(theirs.get("/v1/me").await.is(200).json()["emailVerified"], false);
    assert_eq!(verify().await.problem(), refusal(422, "invalid_token"));
    // A token of a session, or of a guest, is none of a mail.
    let guest = send(house.ask(reqwest::Method::POST, "/v1/guest-carts")).await.is(201).json();
    for token in [&json!(theirs.token), &guest["token"]] {
        for (path, field) in
            [("verify-email", "verificationToken"), ("reset-password", "resetToken")]
        {
            let mut body = json!({ field: token });
            if field == "resetToken" {
                body["password"] = json!("seven herons stand in cold rain");
            }
            let answer = send(house.post(&format!("/v1/customers/{path}"), &body)).await;
            assert_eq!(answer.problem(), refusal(422, "invalid_token"), "{path}");
        }
    }
    house.close().await;
}
