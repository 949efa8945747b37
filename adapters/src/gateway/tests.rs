use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use stepwise_workflows::money::Currency;
use stepwise_workflows::payment::gateway::{AuthorizationStatus, GatewayEventKind, MethodToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::webhook::{WebhookRefusal, receive, sign, verify};
use super::*;

fn secret(text: &str) -> SecretString {
    text.into()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_764_000_000, 0).expect("a time")
}

#[test]
fn a_genuine_webhook_is_accepted_within_five_minutes_both_ways() {
    let secrets = [secret("whsec_1")];
    let header = sign(b"{}", &secrets, now());
    for seconds in [-300, 0, 300] {
        let at = now() + TimeDelta::seconds(seconds);
        assert_eq!(verify(Some(&header), b"{}", &secrets, at), Ok(()), "{seconds}");
    }
    for seconds in [-301, 301, 1_000_000] {
        let at = now() + TimeDelta::seconds(seconds);
        let refused = verify(Some(&header), b"{}", &secrets, at);
        assert_eq!(refused, Err(WebhookRefusal::OutOfTime), "{seconds}");
    }
}

#[test]
fn a_webhook_of_another_secret_body_or_time_is_refused() {
    let secrets = [secret("whsec_1")];
    let header = sign(b"{}", &secrets, now());
    let wrong = Err(WebhookRefusal::WrongSignature);
    assert_eq!(verify(Some(&header), b"{ }", &secrets, now()), wrong);
    assert_eq!(verify(Some(&header), b"{}", &[secret("whsec_2")], now()), wrong);
    assert_eq!(verify(Some(&header), b"{}", &[], now()), wrong);
    let moved = header.replace("t=1764000000", "t=1764000001");
    assert_eq!(verify(Some(&moved), b"{}", &secrets, now()), wrong);
}

#[test]
fn during_a_rotation_either_secret_will_do_on_either_side() {
    let (old, new) = (secret("whsec_old"), secret("whsec_new"));
    let both = [new.clone(), old.clone()];
    for (signed_with, known) in [
        (vec![old.clone()], both.to_vec()),
        (vec![new.clone()], both.to_vec()),
        (both.to_vec(), vec![old]),
        (both.to_vec(), vec![new]),
    ] {
        let header = sign(b"{}", &signed_with, now());
        assert_eq!(verify(Some(&header), b"{}", &known, now()), Ok(()));
    }
}

#[test]
fn the_signature_is_the_one_that_stripe_documents() {
    // openssl dgst -sha256 -hmac whsec_test over `1764000000.{"id":"evt_1"}`
    let header = sign(br#"{"id":"evt_1"}"#, &[secret("whsec_test")], now());
    assert_eq!(header, SIGNED);
}

const SIGNED: &str =
    "t=1764000000,v1=76728ba9029660ebc0a14b80fefcffcc0ad9c7139948290090e9bb71e97d5918";

#[test]
fn a_header_that_is_not_a_signature_is_refused_before_the_body_is_read() {
    let secrets = [secret("whsec_1")];
    let good = sign(b"{}", &secrets, now());
    let (_, v1) = good.split_once(',').expect("two parts");
    for header in ["", "t=1", v1, "t=x,v1=00", "t=1764000000,v1=zz", "nonsense", "t=,v1="] {
        let refused = receive(Some(header), b"not json", &secrets, now());
        assert_eq!(refused, Err(WebhookRefusal::NotSigned), "{header}");
    }
    assert_eq!(receive(None, b"{}", &secrets, now()), Err(WebhookRefusal::NotSigned));
    let unreadable =
        receive(Some(&sign(b"not json", &secrets, now())), b"not json", &secrets, now());
    assert_eq!(unreadable, Err(WebhookRefusal::Unreadable));
}

#[test]
fn events_are_read_and_those_about_other_things_are_left() {
    let secrets = [secret("whsec_1")];
    let read = |body: &str| {
        receive(Some(&sign(body.as_bytes(), &secrets, now())), body.as_bytes(), &secrets, now())
    };
    let other = r#"{"id":"evt_1","created":1,"type":"customer.created","data":{"object":{}}}"#;
    assert_eq!(read(other), Ok(None));
    let intent = r#"{"id":"evt_2","created":1764000000,"type":"payment_intent.succeeded","data":
        {"object":{"id":"pi_1","amount":4999,"amount_received":4000,"currency":"usd",
        "status":"succeeded","latest_charge":"ch_1",
        "metadata":{"orderId":"01970000-0000-7000-8000-000000000001"}}}}"#;
    let event = read(intent).expect("genuine").expect("about an authorization");
    assert_eq!((event.kind, &*event.id), (GatewayEventKind::Captured, "evt_2"));
    assert_eq!(event.authorization.amount.to_string(), "49.99 USD");
    let AuthorizationStatus::Captured { captured, .. } = event.authorization.status else {
        panic!("captured")
    };
    assert_eq!(captured.minor(), 4000);
    let yen = intent.replace("usd", "jpy");
    let event = read(&yen).expect("genuine").expect("about an authorization");
    assert_eq!(event.authorization.amount.to_string(), "4999 JPY");
    for broken in [intent.replace("4999", "\"x\""), intent.replace("usd", "us"), "{}".to_owned()] {
        assert_eq!(read(&broken), Err(WebhookRefusal::Unreadable));
    }
}

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
    }
}

#[tokio::test]
async fn only_what_surely_did_nothing_may_be_repeated_without_asking() {
    use Trouble::{Garbled, InFlight, Misconfigured, ServerError, Unavailable};

    type Expected = fn(&GatewayError) -> bool;
    let cases: [(&'static [u8], Expected); 9] = [
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

#[test]
fn the_api_key_does_not_show_in_debug_output() {
    let config = GatewayConfig::new("http://127.0.0.1".parse().expect("a URL"), "sk_x".into());
    assert!(!format!("{config:?}").contains("sk_x"));
    let gateway = StripeGateway::new(config).expect("made");
    assert!(!format!("{gateway:?}").contains("sk_x"));
}
