//! The length of what an outsider can have written into the log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use serde_json::json;
use stepwise_adapters::gateway::webhook::{SIGNATURE_HEADER, sign};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracing_subscriber::EnvFilter;

use crate::house::{House, WEBHOOK_SECRET, send};

/// The longest line that a request may lead to, in bytes.
const LONGEST: usize = 1_000;

/// The log of this test, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nothing panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nothing panics")).into_owned()
    }
}

/// Sends these bytes, and reads the answer.
async fn raw(house: &House, request: &str) -> String {
    let mut stream = TcpStream::connect(house.address()).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers and closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// All tasks of the test run in its thread, so that its subscriber gets the events of the server.
#[tokio::test]
async fn whatever_an_outsider_sends_is_cut_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let filter = EnvFilter::new(
        "off,stepwise=debug,stepwise_engine=debug,stepwise_workflows=debug,stepwise_adapters=debug",
    );
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let house = House::open().await;
    let long = 20_000;
    let rest =
        format!("host: x\r\nuser-agent: {}\r\nconnection: close\r\n\r\n", "agent".repeat(4_000));
    for request in [
        format!("GET /v1/{} HTTP/1.1\r\n{rest}", "x".repeat(long)),
        // A character of several bytes begins before the limit and ends after it, whatever the limit is.
        format!("GET /v1/{} HTTP/1.1\r\n{rest}", "€".repeat(long / 3)),
        format!("GET /v1/a{} HTTP/1.1\r\n{rest}", "€".repeat(long / 3)),
        format!("GET /v1/ab{} HTTP/1.1\r\n{rest}", "€".repeat(long / 3)),
        format!("{} /healthz HTTP/1.1\r\n{rest}", "M".repeat(long)),
    ] {
        let answer = raw(&house, &request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let event =
        json!({"id": "e".repeat(100_000), "type": "t".repeat(50_000), "data": {"object": {}}});
    let unreadable =
        json!({"id": "f".repeat(100_000), "type": "payment_intent.x", "data": {"object": {}}});
    for event in [event, unreadable] {
        let body = event.to_string();
        let signature =
            sign(body.as_bytes(), &[WEBHOOK_SECRET.to_owned().into()], SystemTime::now().into());
        let request = house.ask(reqwest::Method::POST, "/v1/webhooks/gateway").body(body);
        let answer = send(request.header(SIGNATURE_HEADER, signature)).await;
        assert!((200..203).contains(&answer.status), "{answer:?}");
    }
    let text = log.text();
    for line in ["answered a request", "it is parked"] {
        assert!(text.contains(line), "{line} is not in {} bytes", text.len());
    }
    for line in text.lines() {
        assert!(
            line.len() <= LONGEST,
            "{} bytes: {}…",
            line.len(),
            &line[..line.floor_char_boundary(300)]
        );
    }
    house.close().await;
}
