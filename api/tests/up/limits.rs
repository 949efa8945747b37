//! Rate limits of several processes, and settings that do not fit the database.

use std::{net::TcpListener, time::Duration};

use futures::future::join_all;
use stepwise_engine::testing::Database;
use tokio::time::Instant;

use crate::site::{Site, eventually};

/// Requests per second that a caller may send, to all processes together.
const LIMIT: u32 = 20;

fn free_port() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("bound").port().to_string()
}

/// Sends requests to these processes in turn until the time, and returns how many were admitted and how many were refused with 429.
async fn flood(bases: [String; 2], path: &str, token: Option<&str>, until: Instant) -> [usize; 2] {
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let clients = (0..8).map(|n: usize| {
        let (client, base) = (client.clone(), &bases[n % 2]);
        async move {
            let mut counts = [0, 0];
            while Instant::now() < until {
                let mut request = client.get(format!("{base}{path}"));
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                match request.send().await.expect("it answers").status().as_u16() {
                    200 => counts[0] += 1,
                    429 => counts[1] += 1,
                    other => panic!("{path} answered {other}"),
                }
                // Enough requests to be over the limit by far, few enough to leave the machine its time.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            counts
        }
    });
    let counts = join_all(clients).await;
    counts.into_iter().fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
}

#[tokio::test]
async fn two_front_doors_on_one_database_admit_together_what_the_limit_allows() {
    let database = Database::fresh(&[]).await;
    let (site, url) = (Site::new(), database.url());
    let mut up = site.up(&["--database-url", &url]).await;
    let ports = [free_port(), free_port()];
    up.leave_to(&ports[0]).await;

    let nowhere = ["--gateway-url", "http://127.0.0.1:9", "--gateway-key", "k"];
    let wrong = ["--currency", "EUR", "--shipping-cost", "4.90"];
    let serve = ["serve", "--database-url", &url, "--port", "0"];
    let (code, line) = site.refusal(&[&serve[..], &nowhere, &wrong].concat()).await;
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("--currency is EUR") && line.contains("priced in USD"), "{line}");

    let limit = LIMIT.to_string();
    let limits = ["--rate-limit", &limit, "--address-rate-limit", &limit];
    let _doors = ports.each_ref().map(|port| {
        let serve = ["serve", "--database-url", &url, "--port", port];
        site.role(&[&serve[..], &nowhere, &limits].concat())
    });
    let bases = ports.map(|port| format!("http://127.0.0.1:{port}"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    for base in &bases {
        eventually("both front doors", async || {
            let asked = client.get(format!("{base}/readyz")).send().await;
            asked.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
    let customer = up.demo["customers"][0]["token"].as_str().expect("a text");
    for (path, token) in [("/v1/categories", None), ("/v1/me", Some(customer))] {
        let began = Instant::now();
        let until = began + Duration::from_secs(4);
        let [admitted, refused] = flood(bases.clone(), path, token, until).await;
        let time_s = began.elapsed().as_secs_f64();
        let most = (f64::from(LIMIT) * (time_s + 2.0)).ceil() as usize;
        assert!(admitted <= most, "{path}: {admitted} of {most} were admitted");
        assert!(admitted >= most * 7 / 10, "{path}: only {admitted} of {most} were admitted");
        assert!(refused > 50, "{path}: {refused} were refused");
    }
    database.close().await;
}
