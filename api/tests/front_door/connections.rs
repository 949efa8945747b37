//! Connections: the time limits for silent clients, the limits of their number, and connections whose
//! request was refused before its body arrived.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use stepwise::server::{ConnectionLimits, ServerSettings, TimeLimits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::house::{House, refusal, send};

const ENOUGH: Duration = Duration::from_secs(30);

/// A connection without a client library.
struct Wire(TcpStream);

impl Wire {
    async fn to(house: &House) -> Self {
        Self(TcpStream::connect(house.address()).await.expect("it listens"))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// Reads the next answer. Returns its head in lower case and drops its body.
    async fn answer(&mut self) -> String {
        let answered = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.expect("an answer"));
            }
            let head = String::from_utf8(head).expect("UTF-8").to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.expect("a length").parse().expect("a number");
            self.0.read_exact(&mut vec![0; length]).await.expect("a whole body");
            head
        };
        timeout(ENOUGH, answered).await.expect("an answer in time")
    }

    /// Waits until the server closes the connection, and returns how long that took.
    async fn closed(mut self) -> Duration {
        let since = Instant::now();
        let read = timeout(ENOUGH, self.0.read(&mut [0; 1])).await.expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)), "the server sent more: {read:?}");
        since.elapsed()
    }
}

fn post(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer nobody\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[test]
fn a_request_has_ten_seconds_to_arrive() {
    assert_eq!(TimeLimits::default().head, Duration::from_secs(10));
    assert_eq!(stepwise::door::json::BODY_TIME_LIMIT, Duration::from_secs(10));
}

/// Fault: door: a client connects and sends nothing, or half a request
/// Customer: nothing; that client loses its connection
/// Operator: `http_connections`
/// Within: at once
/// Ends: by itself: closed after 10 s
#[tokio::test]
async fn a_silent_client_loses_its_connection() {
    let head = Duration::from_millis(300);
    let times = TimeLimits { head, idle: head * 4, ..TimeLimits::default() };
    let house = House::open_served(ServerSettings { times, ..ServerSettings::default() }).await;
    for begun in ["", "P", "GET /he", "GET /healthz HTTP/1.1\r\nhost: h"] {
        let mut wire = Wire::to(&house).await;
        wire.send(begun).await;
        let after = wire.closed().await;
        assert!(after < head * 4, "{begun:?}: closed after {after:?}");
    }
    // Between two requests a client may be silent for longer.
    let mut wire = Wire::to(&house).await;
    for _ in 0..2 {
        wire.send("GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await;
        assert!(wire.answer().await.starts_with("http/1.1 200"));
        tokio::time::sleep(head * 2).await;
    }
    wire.send("GET /he").await;
    let after = wire.closed().await;
    assert!(after < head * 4, "closed after {after:?}");
    let mut idle = Wire::to(&house).await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await;
    idle.answer().await;
    let after = idle.closed().await;
    assert!(after >= head * 3, "closed after {after:?}");
    house.close().await;
}

/// Fault: door: one address opens more connections than one address may have
/// Customer: nothing; that address gets 503 with `Retry-After`
/// Operator: `http_connections_refused_total`
/// Within: at once
/// Ends: when the address closes some
#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let connections = ConnectionLimits { total: 100, per_address: 3 };
    let settings = ServerSettings { connections, ..ServerSettings::default() };
    let house = House::open_served(settings).await;
    let mut wires = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::to(&house).await;
        wire.send("GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await;
        assert!(wire.answer().await.starts_with("http/1.1 200"));
        wires.push(wire);
    }
    let mut refused = Wire::to(&house).await;
    let answer = refused.answer().await;
    assert!(answer.starts_with("http/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\nconnection: close"), "{answer}");
    wires.clear();
    let deadline = Instant::now() + ENOUGH;
    while house.get("/healthz").send().await.is_ok_and(|answer| answer.status() != StatusCode::OK) {
        assert!(Instant::now() < deadline, "places are never free again");
    }
    house.close().await;
}

#[tokio::test]
async fn a_refusal_before_the_body_is_there_spoils_no_later_request() {
    let house = House::open().await;
    // The body comes a little later: it is dropped, and the connection stays open.
    for (path, status) in [("/v1/orders", "401"), ("/v1/nothing", "404"), ("/healthz", "405")] {
        let mut wire = Wire::to(&house).await;
        wire.send(&post(path, 60_000)).await;
        wire.send(&" ".repeat(60_000)).await;
        let answer = wire.answer().await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        wire.send("GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await;
        assert!(wire.answer().await.starts_with("http/1.1 200"));
    }
    // The body does not come: the answer says that the connection will be closed.
    let mut wire = Wire::to(&house).await;
    wire.send(&post("/v1/orders", 60_000)).await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    wire.closed().await;
    // The client holds the body back until it is asked for it, so it never has to send it.
    let mut wire = Wire::to(&house).await;
    let head = post("/v1/orders", 60_000).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    wire.send(&head).await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("http/1.1 401") && answer.contains("connection: close"), "{answer}");
    // The body is too large. The client that sends all of it can still read the answer.
    let mut wire = Wire::to(&house).await;
    wire.send(&post("/v1/orders", 900_000)).await;
    wire.send(&" ".repeat(900_000)).await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("http/1.1 401") && answer.contains("connection: close"), "{answer}");
    house.close().await;
}

#[tokio::test]
async fn two_hundred_refusals_of_a_common_client_fail_no_next_request() {
    let house = House::open().await;
    let viewer = house.key("viewer", &[]).await;
    let body = json!({ "text": "x".repeat(100_000) });
    let mut failed = 0;
    for n in 0..200 {
        let (token, path) = match n % 3 {
            0 => ("nobody", "/v1/orders"),
            1 => (viewer.as_str(), "/v1/orders"),
            _ => (viewer.as_str(), "/v1/nothing"),
        };
        let refused = house.ask(Method::POST, path).bearer_auth(token).json(&body).send().await;
        let next = house.ask(Method::POST, "/v1/sessions").json(&json!({})).send().await;
        let is_fine = refused.is_ok_and(|answer| answer.status().is_client_error())
            && next.is_ok_and(|answer| answer.status() == StatusCode::UNPROCESSABLE_ENTITY);
        failed += u32::from(!is_fine);
    }
    assert_eq!(failed, 0, "of 200");
    house.close().await;
}

/// Fault: process: it is told to stop while a balancer sends it requests
/// Customer: nothing: requests are served, with `Connection: close`
/// Operator: `/readyz` is 503 `stopping`
/// Within: at once
/// Ends: the listener closes after `--stop-delay`; what is in flight ends
#[tokio::test]
async fn readiness_ends_before_the_listener_does() {
    let stop_delay = Duration::from_secs(2);
    let house =
        House::open_served(ServerSettings { stop_delay, ..ServerSettings::default() }).await;
    send(house.get("/readyz")).await.is(200);
    house.tell_to_stop();
    let not_ready = send(house.get("/readyz")).await;
    assert_eq!(not_ready.problem(), refusal(503, "stopping"));
    // A request that still arrives is served, and its answer says `Connection: close`.
    let served = send(house.get("/healthz")).await;
    assert_eq!(served.is(200).header("connection"), "close");
    let deadline = Instant::now() + ENOUGH;
    while TcpStream::connect(house.address()).await.is_ok() {
        assert!(Instant::now() < deadline, "the listener never closes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.close().await;
}
