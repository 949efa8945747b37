//! Events of PayPal with a receiver over real HTTP, which asks the sandbox about each.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use stepwise_workflows::payment::gateway::{ApprovalStatus, GatewayEvent, GatewayEventKind, News};

use super::paypal::approved;
use super::*;
use crate::gateway::webhook::WebhookRefusal;
use crate::paypal::webhook::{NotBelieved, Transmission};
use crate::paypal::{PayPal, PayPalConfig};

/// A delivery as it came.
type Delivery = (Option<Transmission>, Bytes);

/// A receiver that keeps what it gets.
#[derive(Clone, Default)]
struct Shop {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Shop {
    async fn listen(&self) -> WebhookConfig {
        let app = Router::new().route("/paypal", post(take)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        let url = |path: &str| format!("http://{address}/{path}").parse().expect("a URL");
        WebhookConfig {
            url: url("stripe"),
            secrets: vec!["whsec".into()],
            events: Vec::new(),
            paypal: Some(url("paypal")),
        }
    }

    async fn receives(&self, many: usize) -> Vec<Delivery> {
        let kept = || self.deliveries.lock().expect("no test panics with it").clone();
        eventually("so many events", async || kept().len() >= many).await;
        kept()
    }
}

async fn take(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let transmission = Transmission::read(header);
    shop.deliveries.lock().expect("no test panics with it").push((transmission, body));
    StatusCode::OK
}

/// The events that the deliveries are, in the order of the ledger.
async fn read(paypal: &PayPal, deliveries: &[Delivery]) -> Vec<GatewayEvent> {
    let mut events = Vec::new();
    for (transmission, body) in deliveries {
        events.push(paypal.receive(transmission.as_ref(), body).await.expect("genuine"));
    }
    events.sort_by_key(|event| event.id.strip_prefix("WH-").and_then(|n| n.parse::<u64>().ok()));
    events
}

#[tokio::test]
async fn every_change_is_told_and_paypal_vouches_for_it() {
    let shop = Shop::default();
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    let paypal = sandbox.paypal();
    let charge = approved(&sandbox, "k", usd(49_99)).await;
    let reference = Reference(charge.method.0.clone());
    paypal.create("c", &charge).await.expect("answered");
    paypal.confirm("f", &reference).await.expect("answered");
    paypal.capture("t", &reference, usd(49_99)).await.expect("answered");
    paypal.refund("r", &reference, usd(9_99)).await.expect("answered");
    let voided = approved(&sandbox, "k2", usd(1_00)).await;
    let other = Reference(voided.method.0.clone());
    paypal.create("c2", &voided).await.expect("answered");
    paypal.confirm("f2", &other).await.expect("answered");
    paypal.cancel("v2", &other).await.expect("answered");

    let events = read(&paypal, &shop.receives(7).await).await;
    let names: Vec<_> = events.iter().map(|event| &*event.name).collect();
    let expected = [
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.AUTHORIZATION.VOIDED",
    ];
    assert_eq!(names, expected);
    assert!(events.iter().all(|event| event.at.is_some()));
    let status = ApprovalStatus::Approved;
    assert_eq!(events[0].news, News::Approval { reference: reference.clone(), status });
    let News::Authorization(GatewayEventKind::Captured, found) = &events[2].news else {
        panic!("{:?}", events[2])
    };
    assert_eq!((&found.reference, found.order_id), (&reference, Some(charge.order_id)));
    assert_eq!(found.amount, charge.amount);
    assert_eq!(
        found.status,
        AuthorizationStatus::Captured { captured: usd(49_99), refunded: usd(9_99) }
    );
    let News::Refund { authorization, refund } = &events[3].news else { panic!("a refund") };
    assert_eq!((authorization, refund.key.as_deref()), (&reference, Some("r")));
    assert_eq!((refund.amount, &refund.status), (usd(9_99), &RefundStatus::Succeeded));
    let News::Authorization(GatewayEventKind::Cancelled, found) = &events[6].news else {
        panic!("{:?}", events[6])
    };
    assert_eq!((&found.reference, &found.status), (&other, &AuthorizationStatus::Cancelled));
}

#[tokio::test]
async fn an_event_that_paypal_has_not_sent_is_refused() {
    let shop = Shop::default();
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    let paypal = sandbox.paypal();
    approved(&sandbox, "k", usd(49_99)).await;
    let (sent, body) = shop.receives(1).await.remove(0);
    let genuine = sent.expect("signed");
    let event = paypal.receive(Some(&genuine), &body).await.expect("genuine");
    // A delivery that is repeated is the same event, which the shop tells by its id.
    assert_eq!(paypal.receive(Some(&genuine), &body).await.expect("genuine"), event);

    let forged = String::from_utf8(body.to_vec()).expect("text").replace("APPROVED", "COMPLETED");
    let (half, padded) = (&body[..body.len() / 2], [&body[..], b",\"x\":1}"].concat());
    let change = |change: fn(&mut Transmission)| {
        let mut changed = genuine.clone();
        change(&mut changed);
        changed
    };
    let cases = [
        (genuine.clone(), forged.as_bytes()),
        (genuine.clone(), half),
        (genuine.clone(), &padded),
        (genuine.clone(), b"\xff"),
        (change(|sent| sent.id.push('0')), &body),
        (change(|sent| "2020-01-01T00:00:00Z".clone_into(&mut sent.time)), &body),
        (change(|sent| "AAAA".clone_into(&mut sent.signature)), &body),
        (change(|sent| "\"},\"x\":{\"".clone_into(&mut sent.signature)), &body),
        (change(|sent| "SHA1".clone_into(&mut sent.algorithm)), &body),
    ];
    for (transmission, body) in cases {
        let refused = paypal.receive(Some(&transmission), body).await;
        assert!(
            matches!(refused, Err(NotBelieved::Refused(WebhookRefusal::WrongSignature))),
            "{refused:?}"
        );
    }
    let unsigned = paypal.receive(None, &body).await;
    assert!(matches!(unsigned, Err(NotBelieved::Refused(WebhookRefusal::NotSigned))));
    let long = "x".repeat(2_000);
    assert_eq!(Transmission::read(|_| Some("")), None);
    assert_eq!(Transmission::read(|_| Some(&long)), None);
    assert_eq!(Transmission::read(|name| (name != "paypal-cert-url").then_some("x")), None);
}

#[tokio::test]
async fn an_event_about_which_paypal_cannot_be_asked_is_to_be_sent_again() {
    let shop = Shop::default();
    let mut sandbox = Running::start_with(Some(shop.listen().await)).await;
    let paypal = sandbox.paypal();
    approved(&sandbox, "k", usd(49_99)).await;
    let (sent, body) = shop.receives(1).await.remove(0);
    let receive = async |paypal: &PayPal| paypal.receive(sent.as_ref(), &body).await;
    // The shop has the id of another webhook.
    let other = PayPalConfig { webhook_id: "OTHER".to_owned(), ..sandbox.paypal_config() };
    let unasked = receive(&PayPal::new(other).expect("made")).await;
    assert!(
        matches!(
            unasked,
            Err(NotBelieved::Unasked(GatewayError::NotDone(Trouble::Misconfigured(404))))
        ),
        "{unasked:?}"
    );
    sandbox.post("/sandbox/down", &[]).await;
    let unasked = receive(&paypal).await;
    assert!(matches!(unasked, Err(NotBelieved::Unasked(_))), "{unasked:?}");
    sandbox.post("/sandbox/up", &[]).await;
    sandbox.stop().await;
    let unasked = receive(&paypal).await;
    assert!(matches!(unasked, Err(NotBelieved::Unasked(_))), "{unasked:?}");
    sandbox.start_again().await;
    receive(&paypal).await.expect("genuine");
}

#[tokio::test]
async fn a_shop_that_is_away_hears_of_an_approval_at_paypal_after_a_restart_too() {
    let shop = Shop::default();
    let there = shop.listen().await;
    let nowhere = Some("http://127.0.0.1:9/paypal".parse().expect("a URL"));
    let away = WebhookConfig { paypal: nowhere, ..there.clone() };
    let mut sandbox = Running::start_with(Some(away)).await;
    let charge = approved(&sandbox, "k", usd(49_99)).await;
    sandbox.stop().await;
    sandbox.webhooks = Some(there);
    sandbox.start_again().await;
    let events = read(&sandbox.paypal(), &shop.receives(1).await).await;
    let reference = Reference(charge.method.0);
    let status = ApprovalStatus::Approved;
    assert_eq!(events[0].news, News::Approval { reference, status });
}
