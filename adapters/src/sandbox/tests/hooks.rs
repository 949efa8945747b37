//! Tests of webhooks with a receiver over real HTTP.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use stepwise_workflows::payment::gateway::{Authorization, GatewayEvent, GatewayEventKind, News};

use super::*;
use crate::gateway::webhook;

const SECRET: &str = "whsec_test";

/// A receiver that accepts webhooks after it has refused some.
#[derive(Clone, Default)]
struct Shop {
    events: Arc<Mutex<Vec<GatewayEvent>>>,
    refusals: Arc<AtomicUsize>,
}

impl Shop {
    async fn listen(&self) -> WebhookConfig {
        let app = Router::new().route("/hooks", post(take)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        WebhookConfig {
            url: format!("http://{address}/hooks").parse().expect("an address is a URL"),
            secrets: vec!["whsec_new".into(), SECRET.into()],
            events: Vec::new(),
            paypal: None,
        }
    }

    fn events(&self) -> Vec<GatewayEvent> {
        self.events.lock().expect("no test panics with it").clone()
    }

    async fn receives(&self, many: usize) -> Vec<GatewayEvent> {
        eventually("so many webhooks", async || self.events().len() >= many).await;
        self.events()
    }
}

async fn take(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if shop.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let signature = headers.get(webhook::SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    match webhook::receive(signature, &body, &[SECRET.into()], Utc::now()) {
        Ok(event) => {
            shop.events.lock().expect("no test panics with it").push(event);
            StatusCode::OK
        }
        Err(_) => StatusCode::UNAUTHORIZED,
    }
}

/// The change of an authorization that an event tells.
fn change(event: &GatewayEvent) -> (GatewayEventKind, &Authorization) {
    match &event.news {
        News::Authorization(kind, authorization) => (*kind, authorization),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_change_is_told_by_a_signed_webhook() {
    let shop = Shop::default();
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    let gateway = sandbox.client();
    let charge = charge(SandboxMethod::Ok);
    let reference = confirmed(&gateway, &charge).await;
    let mut told = shop.receives(1).await;
    let event = told.remove(0);
    let (kind, authorization) = change(&event);
    assert_eq!(kind, GatewayEventKind::Authorized);
    assert_eq!(authorization.reference, reference);
    assert_eq!(authorization.order_id, Some(charge.order_id));
    assert_eq!(authorization.amount, charge.amount);
    assert_eq!(authorization.status, AuthorizationStatus::Authorized);
    gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    gateway.refund("r", &reference, usd(9_99)).await.expect("answered");
    let other = created(&gateway, "k2", &charge_of(SandboxMethod::Declined, 1_00)).await;
    gateway.confirm("c2", &other).await.expect("answered");
    gateway.cancel("v2", &other).await.expect("answered");
    let told: BTreeMap<_, _> = shop
        .receives(5)
        .await
        .into_iter()
        .filter(|event| matches!(event.news, News::Authorization(..)))
        .map(|event| (format!("{:?}", change(&event).0), event))
        .collect();
    assert_eq!(
        told.keys().map(String::as_str).collect::<Vec<_>>(),
        ["Authorized", "Cancelled", "Captured", "Declined", "Refunded"]
    );
    assert_eq!(
        change(&told["Refunded"]).1.status,
        AuthorizationStatus::Captured { captured: usd(49_99), refunded: usd(9_99) }
    );
}

#[tokio::test]
async fn twice_sends_the_same_event_twice() {
    let shop = Shop::default();
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    confirmed(&sandbox.client(), &charge(SandboxMethod::Twice)).await;
    let told = shop.receives(2).await;
    assert_eq!(told[0], told[1]);
    assert_eq!(sandbox.live(), 1);
}

#[tokio::test]
async fn a_webhook_refused_is_sent_again_and_no_answer_waits_for_it() {
    let shop = Shop::default();
    shop.refusals.store(2, Ordering::SeqCst);
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    let start = Instant::now();
    confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(shop.events().len(), 0);
    assert_eq!(shop.receives(1).await.len(), 1);
}

#[tokio::test]
async fn a_shop_that_is_away_hears_of_an_approval_after_a_restart_too() {
    let shop = Shop::default();
    let there = shop.listen().await;
    let away =
        WebhookConfig { url: "http://127.0.0.1:9/hooks".parse().expect("a URL"), ..there.clone() };
    let mut sandbox = Running::start_with(Some(away)).await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Challenge)).await;
    let confirm = gateway.confirm("c", &reference).await.expect("answered");
    let Confirmation::ApprovalRequired(approval) = confirm else { panic!("{confirm:?}") };
    http().post(&approval.url).send().await.expect("answered");
    sandbox.stop().await;
    sandbox.webhooks = Some(there);
    sandbox.start_again().await;
    let told = shop.receives(1).await;
    assert_eq!(change(&told[0]).0, GatewayEventKind::Authorized);
    assert_eq!(change(&told[0]).1.reference, reference);
}

#[tokio::test]
async fn only_the_events_asked_for_are_sent() {
    let shop = Shop::default();
    let events = vec!["payment_intent.canceled".to_owned()];
    let config = WebhookConfig { events, ..shop.listen().await };
    let sandbox = Running::start_with(Some(config)).await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    gateway.cancel("v", &reference).await.expect("answered");
    let told = shop.receives(1).await;
    assert_eq!(change(&told[0]).0, GatewayEventKind::Cancelled);
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_lapse_and_a_refund_that_fails_are_told() {
    let shop = Shop::default();
    let sandbox = Running::start_with(Some(shop.listen().await)).await;
    let gateway = sandbox.client();
    let failing = created(&gateway, "k", &charge(SandboxMethod::Fails)).await;
    gateway.confirm("c", &failing).await.expect("answered");
    gateway.capture("t", &failing, usd(49_99)).await.expect("answered");
    gateway.refund("r", &failing, usd(9_99)).await.expect("answered");
    let failed = |event: &GatewayEvent| {
        let News::Refund { authorization, refund } = &event.news else { return false };
        assert_eq!((authorization, refund.key.as_deref()), (&failing, Some("r")));
        matches!(refund.status, RefundStatus::Failed(_))
    };
    eventually("the failure", async || shop.events().iter().any(failed)).await;

    let sandbox = sandbox.with(|timing| timing.authorization = Duration::from_millis(200)).await;
    let lapsing = created(&sandbox.client(), "k2", &charge(SandboxMethod::Ok)).await;
    sandbox.client().confirm("c2", &lapsing).await.expect("answered");
    let lapsed = |event: &GatewayEvent| match &event.news {
        News::Authorization(GatewayEventKind::Cancelled, found) => found.reference == lapsing,
        _ => false,
    };
    eventually("the lapse", async || shop.events().iter().any(lapsed)).await;
}
