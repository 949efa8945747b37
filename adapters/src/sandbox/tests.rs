//! Tests of the sandbox over real HTTP, with the client that the shop uses.

use std::time::Instant;

use reqwest::StatusCode;
use stepwise_workflows::money::{Currency, Money};
use stepwise_workflows::payment::gateway::{
    Attachment, AuthorizationStatus, Cancellation, Capture, Charge, Confirmation, Creation,
    GatewayError, MethodToken, PaymentGateway, Reference, Refund, RefundStatus, Trouble,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::gateway::{GatewayConfig, StripeGateway};
use crate::testing::Folder;

mod both;
mod faults;
mod hooks;
mod paypal;
mod paypal_hooks;
mod process;
mod strict;

const API_KEY: &str = "sk_sandbox_test";

/// A sandbox with a ledger of its own. A test can stop it and start it again on the same port.
struct Running {
    folder: Folder,
    address: SocketAddr,
    webhooks: Option<WebhookConfig>,
    timing: Timing,
    stop: CancellationToken,
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(webhooks: Option<WebhookConfig>) -> Self {
        let mut running = Self {
            folder: Folder::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            webhooks,
            timing: Timing {
                slow: Duration::from_millis(300),
                acts_late: Duration::from_millis(300),
                hold: Duration::from_secs(30),
                ..Timing::default()
            },
            stop: CancellationToken::new(),
            task: None,
        };
        running.start_again().await;
        running
    }

    /// Starts again with another timing.
    async fn with(mut self, timing: impl FnOnce(&mut Timing)) -> Self {
        self.stop().await;
        timing(&mut self.timing);
        self.start_again().await;
        self
    }

    fn config(&self) -> SandboxConfig {
        SandboxConfig {
            listen: self.address,
            ledger: self.ledger(),
            api_key: API_KEY.into(),
            public_url: None,
            webhooks: self.webhooks.clone(),
            timing: self.timing,
        }
    }

    async fn start_again(&mut self) {
        let sandbox = Sandbox::bind(self.config()).await.expect("the sandbox starts");
        self.address = sandbox.address();
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(sandbox.serve(stop.cancelled_owned())));
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        let task = self.task.take().expect("it runs");
        task.await.expect("it does not panic").expect("it ends well");
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn client(&self) -> StripeGateway {
        self.patient_for(Duration::from_millis(600))
    }

    fn patient_for(&self, timeout: Duration) -> StripeGateway {
        let url = self.url("").parse().expect("an address is a URL");
        let config = GatewayConfig { timeout, ..GatewayConfig::new(url, API_KEY.into()) };
        StripeGateway::new(config).expect("a client can be made")
    }

    fn lines(&self) -> Vec<Line> {
        ledger::read(&self.ledger()).expect("the ledger can be read")
    }

    fn results(&self) -> Vec<LineResult> {
        self.lines().into_iter().map(|line| line.result).collect()
    }

    fn live(&self) -> usize {
        let live = ledger::live_by_order(&self.ledger()).expect("the ledger can be read");
        live.values().map(Vec::len).sum()
    }

    /// Sends a form without the shop's client.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        http().post(self.url(path)).bearer_auth(API_KEY).form(form).send().await.expect("answered")
    }
}

fn http() -> reqwest::Client {
    crate::tls::http_client("http://", Duration::from_secs(1), Duration::from_secs(5))
        .build()
        .expect("a client can be made")
}

fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD).expect("a small amount")
}

fn charge(method: SandboxMethod) -> Charge {
    charge_of(method, 49_99)
}

fn charge_of(method: SandboxMethod, cents: i64) -> Charge {
    let method = MethodToken(method.token());
    Charge { order_id: Uuid::now_v7(), amount: usd(cents), method, customer: None }
}

async fn created(gateway: &StripeGateway, key: &str, charge: &Charge) -> Reference {
    match gateway.create(key, charge).await.expect("the gateway answers") {
        Creation::Created(reference) => reference,
        Creation::Refused(reason) => panic!("refused: {reason}"),
    }
}

async fn confirmed(gateway: &StripeGateway, charge: &Charge) -> Reference {
    let reference = created(gateway, "create", charge).await;
    let confirmation = gateway.confirm("confirm", &reference).await.expect("answered");
    assert_eq!(confirmation, Confirmation::Confirmed(reference.clone()));
    reference
}

async fn status(gateway: &StripeGateway, reference: &Reference) -> AuthorizationStatus {
    gateway.find(reference).await.expect("answered").expect("found").status
}

/// Waits until a condition is true. Fails after 10 s and shows the last state.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_authorization_is_created_confirmed_captured_and_refunded() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let charge = charge(SandboxMethod::Ok);
    let reference = created(&gateway, "k1", &charge).await;
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Created);
    assert_eq!(sandbox.live(), 0);

    let confirmation = gateway.confirm("k2", &reference).await.expect("answered");
    assert_eq!(confirmation, Confirmation::Confirmed(reference.clone()));
    let found = gateway.find(&reference).await.expect("answered").expect("found");
    assert_eq!(found.status, AuthorizationStatus::Authorized);
    assert_eq!((found.order_id, found.amount), (Some(charge.order_id), charge.amount));
    assert_eq!(sandbox.live(), 1);

    let capture = gateway.capture("k3", &reference, usd(40_00)).await.expect("answered");
    assert_eq!(capture, Capture::Captured { amount: usd(40_00) });
    let refund = gateway.refund("k4", &reference, usd(15_00)).await.expect("answered");
    let Refund::Refunded { reference: first, amount } = refund else { panic!("{refund:?}") };
    assert_eq!(amount, usd(15_00));
    assert_eq!(sandbox.live(), 1);
    let refund = gateway.refund("k5", &reference, usd(25_00)).await.expect("answered");
    let Refund::Refunded { reference: second, .. } = refund else { panic!("{refund:?}") };
    assert_ne!(first, second);
    assert_eq!(
        status(&gateway, &reference).await,
        AuthorizationStatus::Captured { captured: usd(40_00), refunded: usd(40_00) }
    );
    assert_eq!(sandbox.live(), 0);

    let line = &sandbox.lines()[1];
    assert_eq!((line.op, line.result), (Op::Confirm, LineResult::Confirmed));
    assert_eq!((&*line.key, &line.reference), ("k2", &reference.0));
    assert_eq!(line.order_id, charge.order_id.to_string());
    assert_eq!((line.amount.to_string().as_str(), line.currency.code()), ("49.99", "USD"));
}

#[tokio::test]
async fn a_ledger_line_has_exactly_the_documented_fields() {
    let sandbox = Running::start().await;
    confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await;
    let text = std::fs::read_to_string(sandbox.ledger()).expect("it can be read");
    let line: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text.lines().nth(1).expect("two lines")).expect("JSON");
    let mut names: Vec<_> = line.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = ["amount", "at", "currency", "key", "op", "orderId", "reference", "result"];
    assert_eq!(names, expected);
    assert_eq!((&line["amount"], &line["op"]), (&"49.99".into(), &"confirm".into()));
}

#[tokio::test]
async fn a_cancelled_authorization_releases_what_it_held_and_can_be_cancelled_again() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    let void = Cancellation::Cancelled { reference: reference.clone(), released: usd(49_99) };
    for key in ["c1", "c1", "c2"] {
        assert_eq!(gateway.cancel(key, &reference).await.expect("answered"), void, "{key}");
    }
    assert_eq!(sandbox.live(), 0);
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Cancelled);
    let capture = gateway.capture("k", &reference, usd(49_99)).await.expect("answered");
    assert!(matches!(capture, Capture::Refused(_)), "{capture:?}");
}

#[tokio::test]
async fn cancelling_what_was_never_confirmed_releases_nothing() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Ok)).await;
    let void = Cancellation::Cancelled { reference: reference.clone(), released: usd(0) };
    assert_eq!(gateway.cancel("c", &reference).await.expect("answered"), void);
    let late = gateway.confirm("late", &reference).await.expect("answered");
    assert_eq!(late, Confirmation::Cancelled);
    assert_eq!(sandbox.results().last(), Some(&LineResult::RefusedCancelled));
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn captured_money_cannot_be_voided_and_the_answer_says_so() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    for _ in 0..2 {
        let capture = gateway.capture("same", &reference, usd(49_99)).await.expect("answered");
        assert_eq!(capture, Capture::Captured { amount: usd(49_99) });
    }
    // Another key, as after a lost answer: the answer is the amount that was captured.
    let capture = gateway.capture("other", &reference, usd(49_99)).await.expect("answered");
    assert_eq!(capture, Capture::Captured { amount: usd(49_99) });
    let cancel = gateway.cancel("c", &reference).await.expect("answered");
    assert_eq!(cancel, Cancellation::AlreadyCaptured);
    assert_eq!(sandbox.live(), 1);
}

#[tokio::test]
async fn what_the_gateway_never_heard_of_is_not_found() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let nowhere = Reference("pi_ok_0".into());
    assert_eq!(gateway.find(&nowhere).await.expect("answered"), None);
    assert_eq!(gateway.cancel("c", &nowhere).await.expect("answered"), Cancellation::NotFound);
    assert_eq!(gateway.find_by_key(Uuid::now_v7(), "k").await.expect("answered"), None);
    // A reference is always one segment of the path, whatever characters it has.
    let strange = Reference("../refunds?payment_intent=".into());
    assert_eq!(gateway.find(&strange).await.expect("answered"), None);
}

#[tokio::test]
async fn a_refund_never_exceeds_what_was_taken() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    let early = gateway.refund("early", &reference, usd(1)).await.expect("answered");
    assert!(matches!(early, Refund::Refused(_)), "{early:?}");
    gateway.capture("cap", &reference, usd(49_99)).await.expect("answered");
    gateway.refund("r1", &reference, usd(30_00)).await.expect("answered");
    let over = gateway.refund("r2", &reference, usd(20_00)).await.expect("answered");
    assert!(matches!(over, Refund::Refused(_)), "{over:?}");
    let found = gateway.find_refund("r1", &reference).await.expect("answered");
    assert!(matches!(found, Some(Refund::Refunded { amount, .. }) if amount == usd(30_00)));
    assert_eq!(gateway.find_refund("r2", &reference).await.expect("answered"), None);
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_acts_once() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let charge = charge(SandboxMethod::Ok);
    let reference = created(&gateway, "k", &charge).await;
    assert_eq!(created(&gateway, "k", &charge).await, reference);
    for _ in 0..3 {
        let confirmation = gateway.confirm("c", &reference).await.expect("answered");
        assert_eq!(confirmation, Confirmation::Confirmed(reference.clone()));
    }
    gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    let (first, again) = (
        gateway.refund("r", &reference, usd(10_00)).await.expect("answered"),
        gateway.refund("r", &reference, usd(10_00)).await.expect("answered"),
    );
    assert_eq!(first, again);
    assert_eq!(sandbox.lines().len(), 4);
    let found = gateway.find_by_key(charge.order_id, "k").await.expect("answered").expect("found");
    assert_eq!(found.reference, reference);
    assert_eq!(gateway.find_by_key(Uuid::now_v7(), "k").await.expect("answered"), None);
}

#[tokio::test]
async fn a_key_used_for_something_else_is_refused_and_does_nothing() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Ok)).await;
    let other = charge_of(SandboxMethod::Ok, 50_00);
    let refused = gateway.create("k", &other).await;
    assert!(matches!(refused, Err(GatewayError::NotDone(Trouble::Misconfigured(400)))));
    assert!(gateway.confirm("k", &reference).await.is_err());
    assert_eq!(sandbox.lines().len(), 1);

    let answer = sandbox.post("/v1/payment_intents", &[("amount", "1"), ("currency", "usd")]).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_hundred_confirms_with_one_key_at_once_reserve_once() {
    let sandbox = Running::start().await;
    let gateway = sandbox.patient_for(Duration::from_secs(5));
    let reference = created(&gateway, "k", &charge(SandboxMethod::Ok)).await;
    let confirms = (0..100).map(|_| gateway.confirm("c", &reference));
    for confirmation in futures::future::join_all(confirms).await {
        let confirmation = confirmation.expect("answered");
        assert_eq!(confirmation, Confirmation::Confirmed(reference.clone()));
    }
    assert_eq!(sandbox.results(), [LineResult::Created, LineResult::Confirmed]);
}

#[tokio::test]
async fn everything_is_known_again_after_a_restart() {
    let mut sandbox = Running::start().await;
    let gateway = sandbox.client();
    let charge = charge(SandboxMethod::Ok);
    let reference = confirmed(&gateway, &charge).await;
    let refunded = {
        let other = created(&gateway, "k2", &charge_of(SandboxMethod::Ok, 10_00)).await;
        gateway.confirm("c2", &other).await.expect("answered");
        gateway.capture("t2", &other, usd(10_00)).await.expect("answered");
        gateway.refund("r2", &other, usd(4_00)).await.expect("answered");
        other
    };
    let before = sandbox.lines();
    sandbox.stop().await;
    sandbox.start_again().await;

    let gateway = sandbox.client();
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Authorized);
    assert_eq!(
        status(&gateway, &refunded).await,
        AuthorizationStatus::Captured { captured: usd(10_00), refunded: usd(4_00) }
    );
    assert_eq!(created(&gateway, "create", &charge).await, reference);
    let again = gateway.confirm("confirm", &reference).await.expect("answered");
    assert_eq!(again, Confirmation::Confirmed(reference));
    let refund = gateway.find_refund("r2", &refunded).await.expect("answered");
    assert!(matches!(refund, Some(Refund::Refunded { amount, .. }) if amount == usd(4_00)));
    assert_eq!(sandbox.lines(), before);
}

#[tokio::test]
async fn a_line_cut_short_by_a_crash_is_dropped_and_the_next_one_is_whole() {
    let mut sandbox = Running::start().await;
    let reference = confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await;
    sandbox.stop().await;
    let whole = std::fs::read(sandbox.ledger()).expect("it can be read");
    let mut torn = whole.clone();
    torn.extend_from_slice(br#"{"at":"2026-01-01T00:00:00.000Z","op":"cancel","key":"#);
    std::fs::write(sandbox.ledger(), torn).expect("it can be written");
    assert_eq!(sandbox.lines().len(), 2);
    sandbox.start_again().await;
    let gateway = sandbox.client();
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Authorized);
    gateway.cancel("c", &reference).await.expect("answered");
    assert_eq!(sandbox.lines().len(), 3);
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_or_is_in_use_is_refused() {
    let mut sandbox = Running::start().await;
    confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await;
    let elsewhere = SandboxConfig { listen: ([127, 0, 0, 1], 0).into(), ..sandbox.config() };
    let Err(refused) = Sandbox::bind(elsewhere).await else { panic!("two writers") };
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    sandbox.stop().await;
    for damage in ["not json\n", "{}\n"] {
        let whole = std::fs::read_to_string(sandbox.ledger()).expect("it can be read");
        std::fs::write(sandbox.ledger(), format!("{damage}{whole}")).expect("written");
        let Err(refused) = Sandbox::bind(sandbox.config()).await else { panic!("{damage}") };
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains("line 1"), "{refused}");
        std::fs::write(sandbox.ledger(), whole).expect("written");
    }
    sandbox.start_again().await;
}

#[tokio::test]
async fn strange_requests_are_refused_and_leave_nothing_behind() {
    let sandbox = Running::start().await;
    let path = "/v1/payment_intents";
    let good = [
        ("amount", "4999"),
        ("currency", "usd"),
        ("capture_method", "manual"),
        ("payment_method", "pm_sandbox_ok"),
    ];
    assert_eq!(sandbox.post(path, &good).await.status(), StatusCode::OK);
    for (name, value) in [
        ("amount", "-1"),
        ("amount", "0"),
        ("amount", "9223372036854775808"),
        ("amount", "9223372036854775807"),
        ("currency", "dollars"),
        ("capture_method", "automatic"),
        ("payment_method", "pm_sandbox_nonsense"),
        ("payment_method", "\u{0}"),
        ("metadata[orderId]", "two\nlines"),
        ("metadata[key]", "another than the header's"),
        ("amount", "+4999"),
        ("amount", "49.99"),
        ("amount", " 4999"),
        ("currency", "USD"),
        ("currency", "xyz"),
        ("payment_method_types[]", "paypal"),
        ("automatic_payment_methods[enabled]", "true"),
        ("return_url", "https://shop.example"),
        ("expand[]", "customer"),
        ("amout", "4999"),
    ] {
        let mut form: Vec<_> = good.into_iter().filter(|(n, _)| *n != name).collect();
        form.push((name, value));
        let answer = sandbox.post(path, &form).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}={value}");
    }
    let huge = sandbox.post(path, &[("amount", &*"1".repeat(40 * 1024))]).await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let stranger = http().post(sandbox.url(path)).bearer_auth("sk_wrong").send().await;
    assert_eq!(stranger.expect("answered").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(sandbox.post("/v1/nothing", &[]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(sandbox.lines().len(), 1);
}

#[tokio::test]
async fn two_thousand_orders_share_waits_for_the_disk() {
    let sandbox = Running::start().await;
    let gateway = sandbox.patient_for(Duration::from_secs(30));
    let start = Instant::now();
    let orders = (0..200).map(|number| {
        let gateway = gateway.clone();
        async move {
            for round in 0..10 {
                let key = format!("{number} {round}");
                let reference = created(&gateway, &key, &charge(SandboxMethod::Ok)).await;
                gateway.confirm(&format!("c {key}"), &reference).await.expect("answered");
            }
        }
    });
    futures::future::join_all(orders).await;
    let took = start.elapsed();
    assert_eq!(sandbox.live(), 2_000);
    // The limit is for an unoptimized client and server. One write per line would take several times as long.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
