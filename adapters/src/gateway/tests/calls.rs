//! Tests of single calls with a gateway that the test scripts.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use stepwise_workflows::money::Currency;
use stepwise_workflows::payment::gateway::MethodToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A gateway that reads one request, answers these bytes and closes the connection.
async fn answering(answer: &'static [u8]) -> StripeGateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer).await;
        }
    });
    let config = GatewayConfig::new(url.parse().expect("a URL"), "sk".into());
    StripeGateway::new(GatewayConfig { timeout: Duration::from_millis(500), ..config })
        .expect("made")
}

fn charge() -> Charge {
    Charge {
        order_id: Uuid::now_v7(),
        amount: Money::from_minor(1, Currency::USD).expect("small"),
        method: MethodToken("pm_1".into()),
        customer: None,
    }
}

#[tokio::test]
async fn an_amount_that_stripe_does_not_take_is_refused_before_any_call() {
    let gateway = answering(b"").await;
    let amount = Money::from_minor(5_124, "KWD".parse().expect("a currency")).expect("small");
    let why = Reason::new("amount_not_supported");
    let created = gateway.create("k", &Charge { amount, ..charge() }).await.expect("no call");
    assert_eq!(created, Creation::Refused(why.clone()));
    let reference = Reference("pi_1".to_owned());
    let captured = gateway.capture("k", &reference, amount).await.expect("no call");
    assert_eq!(captured, Capture::Refused(why.clone()));
    let refunded = gateway.post_refund("k", &reference, amount).await.expect("no call");
    assert_eq!(refunded, Refund::Refused(why));
}

#[tokio::test]
async fn only_what_surely_did_nothing_may_be_repeated_without_asking() {
    use Trouble::{Garbled, InFlight, Misconfigured, ServerError, Unavailable};

    type Expected = fn(&GatewayError) -> bool;
    let cases: [(&'static [u8], Expected); 13] = [
        (b"", |e| matches!(e, GatewayError::Unknown(Trouble::ConnectionLost))),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", |e| {
            matches!(e, GatewayError::Unknown(Trouble::ConnectionLost))
        }),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", |e| {
            matches!(e, GatewayError::Unknown(Garbled))
        }),
        (b"HTTP/1.1 500 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::Unknown(ServerError(500)))
        }),
        (b"HTTP/1.1 503 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::Unknown(ServerError(503)))
        }),
        (b"HTTP/1.1 503 E\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::NotDone(Unavailable(503)))
        }),
        (b"HTTP/1.1 429 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::NotDone(Unavailable(429)))
        }),
        (b"HTTP/1.1 401 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::NotDone(Misconfigured(401)))
        }),
        (b"HTTP/1.1 409 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::Unknown(InFlight))
        }),
        (b"HTTP/1.1 409 E\r\ncontent-length: 33\r\n\r\n{\"error\":{\"code\":\"lock_timeout\"}}", |e| {
            matches!(e, GatewayError::NotDone(Unavailable(409)))
        }),
        (b"HTTP/1.1 424 E\r\ncontent-length: 0\r\n\r\n", |e| {
            matches!(e, GatewayError::Unknown(ServerError(424)))
        }),
        (b"HTTP/1.1 400 E\r\ncontent-length: 38\r\n\r\n{\"error\":{\"code\":\"parameter_unknown\"}}", |e| {
            matches!(e, GatewayError::NotDone(Misconfigured(400)))
        }),
        (b"HTTP/1.1 400 E\r\ncontent-length: 38\r\n\r\n{\"error\":{\"type\":\"idempotency_error\"}}", |e| {
            matches!(e, GatewayError::NotDone(Misconfigured(400)))
        }),
    ];
    for (answer, expected) in cases {
        let error = answering(answer).await.create("k", &charge()).await.expect_err("no answer");
        assert!(expected(&error), "{error} for {}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_waited_for_nor_kept() {
    let mut endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    endless.resize(400 * 1024, b' ');
    let gateway = answering(endless.leak()).await;
    let start = Instant::now();
    let error = gateway.create("k", &charge()).await.expect_err("too long");
    assert!(matches!(error, GatewayError::Unknown(Trouble::Garbled)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// A gateway that answers one request after the other with these statuses, headers and bodies, and keeps the requests.
async fn scripted(
    answers: Vec<(&'static str, &'static str)>,
) -> (StripeGateway, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        for (head, body) in answers {
            let Ok((mut connection, _)) = listener.accept().await else { return };
            let mut request = vec![0; 8192];
            let mut length = 0;
            // The head and, for a form, its body, which may come in a packet of its own.
            loop {
                length += connection.read(&mut request[length..]).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let expected = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= expected.map_or(0, |n| n.parse().expect("a number")) {
                    break;
                }
            }
            kept.lock().expect("whole").push(String::from_utf8_lossy(&request[..length]).into());
            let answer = format!(
                "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    let config = GatewayConfig::new(url.parse().expect("a URL"), "sk".into());
    let return_url = "https://shop.example/paid".parse().expect("a URL");
    let gateway = StripeGateway::new(GatewayConfig { return_url, ..config }).expect("made");
    (gateway, requests)
}

const OPEN: &str = r#"{"id":"pi_1","amount":1,"currency":"usd","status":"requires_confirmation"}"#;
const RESERVED: &str = r#"{"id":"pi_1","amount":1,"currency":"usd","status":"requires_capture"}"#;
const TAKEN: &str =
    r#"{"id":"pi_1","amount":1,"amount_received":1,"currency":"usd","status":"succeeded"}"#;

#[tokio::test]
async fn each_request_says_what_stripe_needs() {
    let (gateway, requests) =
        scripted(vec![("200 OK", OPEN), ("200 OK", RESERVED), ("200 OK", TAKEN)]).await;
    let reference = Reference("pi_1".into());
    gateway.create("k1", &charge()).await.expect("answered");
    gateway.confirm("k2", &reference).await.expect("answered");
    let amount = charge().amount;
    let taken = gateway.capture("k3", &reference, amount).await.expect("answered");
    assert_eq!(taken, Capture::Captured { amount });
    let requests = requests.lock().expect("whole").clone();
    let says = [
        &["POST /v1/payment_intents ", "payment_method_types%5B%5D=card", "capture_method=manual"]
            [..],
        &["POST /v1/payment_intents/pi_1/confirm ", "return_url=https%3A%2F%2Fshop.example%2Fpaid"],
        &["POST /v1/payment_intents/pi_1/capture ", "amount_to_capture=1"],
    ];
    for (n, (request, says)) in requests.iter().zip(says).enumerate() {
        let key = format!("idempotency-key: k{}\r\n", n + 1);
        for part in says.iter().copied().chain(["stripe-version: 2025-08-27.basil\r\n", &key]) {
            assert!(request.contains(part), "{part} is not in {request}");
        }
    }
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn a_stored_server_error_is_no_answer_and_is_asked_for_under_another_key() {
    const STORED: (&str, &str) = ("500 E\r\nidempotent-replayed: true", "");
    let (gateway, requests) = scripted(vec![STORED, STORED, ("200 OK", RESERVED)]).await;
    let reference = Reference("pi_1".into());
    let confirmed = gateway.confirm("k", &reference).await.expect("answered");
    assert_eq!(confirmed, Confirmation::Confirmed(reference.clone()));
    let requests = requests.lock().expect("whole").clone();
    for (request, key) in requests.iter().zip(["k", "k.2", "k.3"]) {
        assert!(request.contains(&format!("idempotency-key: {key}\r\n")), "{request}");
    }
    let (gateway, requests) = scripted(vec![STORED; 4]).await;
    let error = gateway.confirm("k", &reference).await.expect_err("no answer");
    assert!(matches!(error, GatewayError::Unknown(Trouble::ServerError(500))), "{error}");
    assert_eq!(requests.lock().expect("whole").len(), 4);
}

#[tokio::test]
async fn what_was_captured_before_is_captured_even_if_the_refusal_does_not_show_it() {
    let refusal =
        r#"{"error":{"type":"invalid_request_error","code":"payment_intent_unexpected_state"}}"#;
    let (gateway, _) = scripted(vec![("400 E", refusal), ("200 OK", TAKEN)]).await;
    let amount = charge().amount;
    let taken = gateway.capture("k", &Reference("pi_1".into()), amount).await.expect("answered");
    assert_eq!(taken, Capture::Captured { amount });
}

#[tokio::test]
async fn a_refund_is_asked_for_by_our_key_on_every_page_before_it_is_made() {
    let first = r#"{"data":[{"id":"re_9","amount":1,"currency":"usd","status":"succeeded"}],"has_more":true}"#;
    let last = r#"{"data":[{"id":"re_1","amount":1,"currency":"usd","status":"pending","metadata":{"key":"k"}}],"has_more":false}"#;
    let (gateway, requests) = scripted(vec![("200 OK", first), ("200 OK", last)]).await;
    let amount = charge().amount;
    let made = gateway.refund("k", &Reference("pi_1".into()), amount).await.expect("answered");
    assert_eq!(made, Refund::Pending { reference: Reference("re_1".into()), amount });
    let asked = requests.lock().expect("whole")[1].clone();
    assert!(
        asked.starts_with("GET /v1/refunds?") && asked.contains("starting_after=re_9"),
        "{asked}"
    );
    // If that question is not answered, nothing is refunded.
    let (gateway, requests) = scripted(vec![("500 E", "")]).await;
    let error = gateway.refund("k", &Reference("pi_1".into()), amount).await.expect_err("unasked");
    assert!(matches!(error, GatewayError::NotDone(Trouble::ServerError(500))), "{error}");
    assert_eq!(requests.lock().expect("whole").len(), 1);
}
