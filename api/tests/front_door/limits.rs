//! Rate limits per caller and per address, and that processes count together.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::future::join_all;
use reqwest::RequestBuilder;
use stepwise::door::{
    DoorSettings,
    buckets::{Buckets, Rate},
    limits::Rates,
    proxies::{Forwarding, Proxies, parse_network},
};
use stepwise_workflows::purge::{self, Retention};
use tokio::time::Instant;

use crate::house::{Answer, House, refusal, send};

/// A client with an address of its own on this machine.
fn client(last: u8) -> reqwest::Client {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 7, last));
    let client = reqwest::Client::builder().local_address(address).no_proxy();
    client.build().expect("a plain client")
}

fn per_address(n: u32) -> DoorSettings {
    let rates = Rates { per_address_s: n, ..Rates::OFF };
    DoorSettings { rates, ..DoorSettings::default() }
}

/// The number of tokens that a bucket of `n` a second may give in this time.
fn most(n: u32, since: Instant) -> usize {
    (f64::from(2 * n) + f64::from(n) * since.elapsed().as_secs_f64()).ceil() as usize
}

async fn send_all(requests: impl Iterator<Item = RequestBuilder>) -> Vec<Answer> {
    join_all(requests.map(send)).await
}

#[tokio::test]
async fn requests_without_a_valid_token_are_limited_per_address_wherever_they_go() {
    let house = House::open_as(per_address(5)).await;
    let viewer = house.key("viewer", &[]).await;
    let (flood, other) = (client(1), client(2));
    let at = |path: &str| flood.get(format!("{}{path}", house.base));
    send(at("/v1/admin/sagas").bearer_auth(&viewer)).await.is(200);
    for (kind, usual, request) in [
        ("no token", 200, &(|| at("/v1/products")) as &dyn Fn() -> RequestBuilder),
        ("a wrong token", 401, &|| at("/v1/orders").bearer_auth("wrong")),
        ("no token where one is needed", 401, &|| at("/v1/orders")),
        ("nothing there", 404, &|| at("/v1/nothing")),
        ("a page", 200, &|| at("/openapi.json")),
        ("a webhook", 401, &|| flood.post(format!("{}/v1/webhooks/gateway", house.base))),
    ] {
        sqlx::query("delete from shop.rate_bucket")
            .execute(house.database.pool())
            .await
            .expect(kind);
        let patience = Instant::now() + Duration::from_secs(10);
        while send(request()).await.status != usual {
            assert!(Instant::now() < patience, "{kind}: the new bucket gives nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let began = Instant::now();
        let answers = send_all((0..40).map(|_| request())).await;
        let admitted = answers.iter().filter(|answer| answer.status == usual).count();
        assert!((1..=most(5, began)).contains(&admitted), "{kind}: {admitted} of 40");
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status != usual).collect();
        for answer in refused {
            assert_eq!(answer.problem(), refusal(429, "rate_limited"), "{kind}");
            let wait = answer.header("retry-after").parse::<u64>();
            assert!(wait.is_ok_and(|s| (1..=10).contains(&s)), "{kind}: {answer:?}");
        }
    }
    send(other.get(format!("{}/v1/products", house.base))).await.is(200);
    send(at("/v1/admin/sagas").bearer_auth(&viewer)).await.is(200);
    send(at("/healthz")).await.is(200);
    send(at("/readyz")).await.is(200);
    house.close().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_shuts_nobody_out() {
    let house = House::open_as(per_address(50)).await;
    let db = house.database.pool();
    let listed = async || send(house.get("/v1/products")).await.status;
    for offset in ["2 hours", "0"] {
        sqlx::query("update saga.clock set offset_by = $1::text::interval")
            .bind(offset)
            .execute(db)
            .await
            .expect("the clock moves");
        // What this process holds of the bucket lasts for a while.
        let used = send_all((0..300).map(|_| house.get("/v1/products"))).await;
        assert!(used.iter().any(|answer| answer.status == 429), "{offset}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while listed().await != 200 {
            assert!(Instant::now() < deadline, "{offset}: the bucket gives nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    house.close().await;
}

/// Anybody gets as many guests' tokens as they ask for, so a guest has no limit beside that of the address.
#[tokio::test]
async fn the_requests_of_all_guests_of_an_address_are_limited_together() {
    let house = House::open_as(per_address(5)).await;
    let flood = client(1);
    let mut guests = Vec::new();
    for last in 2..6 {
        let made = client(last).post(format!("{}/v1/guest-carts", house.base));
        guests.push(send(made).await.is(201).json());
    }
    let cart = |guest: &serde_json::Value| {
        let of = guest["customerId"].as_str().expect("an id");
        let token = guest["token"].as_str().expect("a token");
        flood.get(format!("{}/v1/customers/{of}/cart", house.base)).bearer_auth(token)
    };
    let began = Instant::now();
    let asked = guests.iter().cycle().take(80).map(cart);
    let answers = send_all(asked).await;
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((1..=most(5, began)).contains(&admitted), "{admitted} of 80");
    let again = send_all(guests.iter().cycle().take(40).map(cart)).await;
    let all = admitted + again.iter().filter(|answer| answer.status == 200).count();
    assert!(all <= most(5, began), "{all} of 120");
    house.close().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_a_limit_of_its_own() {
    let trusted = vec![parse_network("127.0.7.0/24").expect("a network")];
    let settings = DoorSettings {
        proxies: Proxies::new(trusted, Forwarding::XForwardedFor),
        ..per_address(3)
    };
    let house = House::open_as(settings).await;
    let (proxy, stranger) = (client(1), house.client.clone());
    let ask = |through: &reqwest::Client, from: &str| {
        through.get(format!("{}/v1/products", house.base)).header("x-forwarded-for", from)
    };
    let admitted = async |requests: Vec<RequestBuilder>| {
        let answers = send_all(requests.into_iter()).await;
        answers.iter().filter(|answer| answer.status == 200).count()
    };
    let began = Instant::now();
    let one_network = (0..30).map(|n| ask(&proxy, &format!("2001:db8:1:2::{n:x}"))).collect();
    let found = admitted(one_network).await;
    assert!((1..=most(3, began)).contains(&found), "{found} of one IPv6 network");
    let many = (0..30).map(|n| ask(&proxy, &format!("1.1.1.1, 192.0.2.{n}"))).collect();
    assert_eq!(admitted(many).await, 30, "each has an address of its own");
    // A stranger is not believed, whatever it sends.
    let began = Instant::now();
    let found = admitted((0..30).map(|n| ask(&stranger, &format!("192.0.2.{n}"))).collect()).await;
    assert!((1..=most(3, began)).contains(&found), "{found} of a stranger");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_bucket_admit_together_what_it_allows() {
    let house = House::open().await;
    let rate = Rate::per_second(100).expect("a rate");
    let processes: Vec<Buckets> = (0..3).map(|_| Buckets::new(house.door.db.clone())).collect();
    let (began, until) = (Instant::now(), Instant::now() + Duration::from_secs(3));
    let clients = (0..30).map(|n| {
        let process = processes[n % 3].clone();
        tokio::spawn(async move {
            let mut admitted = 0;
            while Instant::now() < until {
                match process.take([7; 32], rate).await {
                    Ok(()) => admitted += 1,
                    Err(wait) => tokio::time::sleep(wait.min(Duration::from_millis(20))).await,
                }
            }
            admitted
        })
    });
    let admitted: usize = join_all(clients).await.into_iter().map(|n| n.expect("it ends")).sum();
    let most = most(100, began);
    assert!((most * 8 / 10..=most).contains(&admitted), "{admitted} of {most}");
    house.close().await;
}

#[tokio::test]
async fn a_bucket_that_is_full_again_is_forgotten() {
    let house = House::open_as(per_address(50)).await;
    let count = async || {
        let count: i64 = sqlx::query_scalar("select count(*) from shop.rate_bucket")
            .fetch_one(house.database.pool())
            .await
            .expect("readable");
        count
    };
    send(house.get("/v1/products")).await.is(200);
    assert_eq!(count().await, 1);
    let stored: String = sqlx::query_scalar("select row_to_json(b)::text from shop.rate_bucket b")
        .fetch_one(house.database.pool())
        .await
        .expect("one row");
    assert!(!stored.contains("127.0.0.1"), "no address is stored: {stored}");
    let mut retention = Retention::default();
    retention.keep("rate-buckets", Duration::ZERO).expect("they may be forgotten at once");
    let patience = Instant::now() + Duration::from_secs(20);
    while count().await > 0 {
        assert!(Instant::now() < patience, "it is still there");
        purge::run(&house.door.db, &retention).await.expect("the database answers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    send(house.get("/v1/products")).await.is(200);
    house.close().await;
}
