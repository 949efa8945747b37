//! The promises of the port that are the same for every provider: each test runs with a card at Stripe and with an approval at PayPal.

use super::paypal::approved;
use super::*;
use crate::breaker::Breaker;
use crate::paypal::Providers;

/// The providers, in the order in which a test tries them.
const BOTH: [Provider; 2] = [Provider::Stripe, Provider::PayPal];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Stripe,
    PayPal,
}

impl Running {
    /// The gateway of the shop, which chooses the provider.
    fn providers(&self) -> Providers {
        Providers::new(Arc::new(self.client()), Some(Arc::new(self.paypal())))
    }

    /// A payment that can be created and confirmed.
    async fn payable(&self, provider: Provider) -> Charge {
        match provider {
            Provider::Stripe => charge(SandboxMethod::Ok),
            Provider::PayPal => approved(self, &Uuid::now_v7().to_string(), usd(49_99)).await,
        }
    }

    async fn switch(&self, on: &str, method: &str) {
        let form = [("on", on), ("method", method)];
        let answer = self.post("/sandbox/misbehave", &form).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{method} on {on}");
    }

    /// The lines after the first `many`.
    fn results_after(&self, many: usize) -> Vec<LineResult> {
        self.results().split_off(many)
    }
}

async fn opened(gateway: &Providers, key: &str, charge: &Charge) -> Reference {
    match gateway.create(key, charge).await.expect("answered") {
        Creation::Created(reference) => reference,
        Creation::Refused(reason) => panic!("refused: {reason}"),
    }
}

async fn reserved(gateway: &Providers, key: &str, charge: &Charge) -> Reference {
    let reference = opened(gateway, &format!("{key} create"), charge).await;
    let confirmed = gateway.confirm(&format!("{key} confirm"), &reference).await.expect("answered");
    assert_eq!(confirmed, Confirmation::Confirmed(reference.clone()));
    reference
}

async fn taken(gateway: &Providers, key: &str, charge: &Charge) -> Reference {
    let reference = reserved(gateway, key, charge).await;
    let capture = gateway.capture(&format!("{key} capture"), &reference, charge.amount).await;
    assert_eq!(capture.expect("answered"), Capture::Captured { amount: charge.amount });
    reference
}

async fn status_of(gateway: &Providers, reference: &Reference) -> AuthorizationStatus {
    gateway.find(reference).await.expect("answered").expect("found").status
}

#[tokio::test]
async fn a_payment_is_reserved_taken_and_given_back_and_the_ledger_has_each_move() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let charge = sandbox.payable(provider).await;
        let reference = opened(&gateway, "k1", &charge).await;
        let is_paypal = provider == Provider::PayPal;
        assert_eq!(reference.0.starts_with("paypal:"), is_paypal);
        assert_eq!(status_of(&gateway, &reference).await, AuthorizationStatus::Created);
        assert_eq!(sandbox.live(), 0, "{provider:?}");

        let confirmed = gateway.confirm("k2", &reference).await.expect("answered");
        assert_eq!(confirmed, Confirmation::Confirmed(reference.clone()), "{provider:?}");
        let found = gateway.find(&reference).await.expect("answered").expect("found");
        assert_eq!(found.status, AuthorizationStatus::Authorized, "{provider:?}");
        assert_eq!((found.order_id, found.amount), (Some(charge.order_id), charge.amount));
        assert_eq!(found.reference, reference);

        let capture = gateway.capture("k3", &reference, usd(40_00)).await.expect("answered");
        assert_eq!(capture, Capture::Captured { amount: usd(40_00) }, "{provider:?}");
        let mut refunds = Vec::new();
        for (key, cents) in [("k4", 15_00), ("k5", 25_00)] {
            let refund = gateway.refund(key, &reference, usd(cents)).await.expect("answered");
            let Refund::Refunded { reference, amount } = refund else { panic!("{refund:?}") };
            assert_eq!(amount, usd(cents));
            refunds.push(reference.0);
        }
        assert_eq!(
            status_of(&gateway, &reference).await,
            AuthorizationStatus::Captured { captured: usd(40_00), refunded: usd(40_00) }
        );
        let mut made = gateway.refunds(&reference).await.expect("answered");
        made.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<_> = made.iter().map(|made| made.key.as_deref().unwrap_or("")).collect();
        assert_eq!(keys, ["k4", "k5"], "{provider:?}");

        let order = charge.order_id.to_string();
        let moves: Vec<_> = ledger::moves(&sandbox.lines())
            .into_iter()
            .map(|made| (made.order_id == order, made.kind, made.key, made.reference))
            .collect();
        let of = |kind: &str, key: &str, reference: &str| {
            (true, kind.to_owned(), key.to_owned(), reference.to_owned())
        };
        let expected = [
            of("authorize", "k2", &reference.0),
            of("capture", "k3", &reference.0),
            of("refund", "k4", &refunds[0]),
            of("refund", "k5", &refunds[1]),
        ];
        assert_eq!(moves, expected, "{provider:?}");
    }
}

#[tokio::test]
async fn a_void_releases_what_was_reserved_and_no_confirm_succeeds_afterwards() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let reference = reserved(&gateway, "a", &sandbox.payable(provider).await).await;
        assert_eq!(gateway.find_void(&reference).await.expect("answered"), None, "{provider:?}");
        let void = Cancellation::Cancelled { reference: reference.clone(), released: usd(49_99) };
        for key in ["v1", "v1", "v2"] {
            let answer = gateway.cancel(key, &reference).await.expect("answered");
            assert_eq!(answer, void, "{provider:?} {key}");
        }
        let found = gateway.find_void(&reference).await.expect("answered");
        assert_eq!(found, Some(void), "{provider:?}");
        let capture = gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
        assert!(matches!(capture, Capture::Refused(_)), "{provider:?} {capture:?}");

        let unconfirmed = opened(&gateway, "b", &sandbox.payable(provider).await).await;
        let void = Cancellation::Cancelled { reference: unconfirmed.clone(), released: usd(0) };
        for key in ["v3", "v3", "v4"] {
            let answer = gateway.cancel(key, &unconfirmed).await.expect("answered");
            assert_eq!(answer, void, "{provider:?} {key}");
        }
        let found = gateway.find_void(&unconfirmed).await.expect("answered");
        assert_eq!(found, Some(void), "{provider:?}");
        for reference in [&reference, &unconfirmed] {
            let late = gateway.confirm(&format!("late {reference}"), reference).await;
            let status = status_of(&gateway, reference).await;
            assert!(matches!(late, Ok(Confirmation::Cancelled)), "{provider:?} {late:?}");
            assert_eq!(status, AuthorizationStatus::Cancelled, "{provider:?}");
        }
        assert_eq!(sandbox.live(), 0, "{provider:?}");
    }
}

#[tokio::test]
async fn money_that_was_taken_cannot_be_voided_and_is_taken_once() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let reference = taken(&gateway, "a", &sandbox.payable(provider).await).await;
        for key in ["a capture", "other"] {
            let capture = gateway.capture(key, &reference, usd(49_99)).await.expect("answered");
            assert_eq!(capture, Capture::Captured { amount: usd(49_99) }, "{provider:?} {key}");
        }
        let cancel = gateway.cancel("v", &reference).await.expect("answered");
        assert_eq!(cancel, Cancellation::AlreadyCaptured, "{provider:?}");
        let found = gateway.find_void(&reference).await.expect("answered");
        assert_eq!(found, Some(Cancellation::AlreadyCaptured), "{provider:?}");
        let captures = sandbox.lines().into_iter().filter(|line| line.op == Op::Capture).count();
        assert_eq!((captures, sandbox.live()), (1, 1), "{provider:?}");
    }
}

#[tokio::test]
async fn a_call_repeated_under_its_key_acts_once_and_gets_the_same_answer() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let charge = sandbox.payable(provider).await;
        let before = sandbox.lines().len();
        let reference = opened(&gateway, "k", &charge).await;
        assert_eq!(opened(&gateway, "k", &charge).await, reference);
        let confirms = (0..20).map(|_| gateway.confirm("c", &reference));
        for confirmed in futures::future::join_all(confirms).await {
            let confirmed = confirmed.expect("answered");
            assert_eq!(confirmed, Confirmation::Confirmed(reference.clone()), "{provider:?}");
        }
        gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
        let first = gateway.refund("r", &reference, usd(10_00)).await.expect("answered");
        assert_eq!(gateway.refund("r", &reference, usd(10_00)).await.expect("answered"), first);
        let expected = [
            LineResult::Created,
            LineResult::Confirmed,
            LineResult::Captured,
            LineResult::Refunded,
        ];
        assert_eq!(sandbox.results_after(before), expected, "{provider:?}");
    }
}

#[tokio::test]
async fn a_refund_is_found_by_its_key_and_never_exceeds_what_was_taken() {
    for provider in BOTH {
        // No request id is remembered, so only our own reference prevents a second refund.
        let sandbox = Running::start().await.with(|timing| timing.keys = Duration::ZERO).await;
        let gateway = sandbox.providers();
        let reference = reserved(&gateway, "a", &sandbox.payable(provider).await).await;
        let early = gateway.refund("early", &reference, usd(1)).await.expect("answered");
        assert!(matches!(early, Refund::Refused(_)), "{provider:?} {early:?}");
        gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
        let first = gateway.refund("r1", &reference, usd(30_00)).await.expect("answered");
        for _ in 0..2 {
            let again = gateway.refund("r1", &reference, usd(30_00)).await.expect("answered");
            assert_eq!(again, first, "{provider:?}");
        }
        let over = gateway.refund("r2", &reference, usd(20_00)).await.expect("answered");
        assert!(matches!(over, Refund::Refused(_)), "{provider:?} {over:?}");
        assert_eq!(gateway.find_refund("r1", &reference).await.expect("answered"), Some(first));
        assert_eq!(gateway.find_refund("r2", &reference).await.expect("answered"), None);
        assert_eq!(gateway.refunds(&reference).await.expect("answered").len(), 1, "{provider:?}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_of_each_call_is_settled_by_asking() {
    let lost = |outcome: bool| assert!(outcome, "it answered");
    for (provider, method) in [BOTH, BOTH].concat().into_iter().zip([
        "timeoutAfter",
        "timeoutAfter",
        "timeoutBefore",
        "timeoutBefore",
    ]) {
        let acts = method == "timeoutAfter";
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let what = format!("{provider:?} {method}");
        let charge = sandbox.payable(provider).await;
        sandbox.switch("create", method).await;
        lost(gateway.create("k", &charge).await.is_err());
        sandbox.switch("create", "ok").await;
        // Whether or not it was done, the same call with the same key is the way on, and reserves nothing.
        let reference = opened(&gateway, "k", &charge).await;
        assert_eq!(sandbox.live(), 0, "{what}");

        sandbox.switch("confirm", method).await;
        lost(gateway.confirm("c", &reference).await.is_err());
        sandbox.switch("confirm", "ok").await;
        let expected =
            if acts { AuthorizationStatus::Authorized } else { AuthorizationStatus::Created };
        assert_eq!(status_of(&gateway, &reference).await, expected, "{what}");
        let confirmed = gateway.confirm("c", &reference).await.expect("answered");
        assert_eq!(confirmed, Confirmation::Confirmed(reference.clone()), "{what}");

        sandbox.switch("capture", method).await;
        lost(gateway.capture("t", &reference, usd(49_99)).await.is_err());
        sandbox.switch("capture", "ok").await;
        let now = status_of(&gateway, &reference).await;
        assert_eq!(matches!(now, AuthorizationStatus::Captured { .. }), acts, "{what}");
        gateway.capture("t", &reference, usd(49_99)).await.expect("answered");

        sandbox.switch("refund", method).await;
        lost(gateway.refund("r", &reference, usd(1_00)).await.is_err());
        sandbox.switch("refund", "ok").await;
        let found = gateway.find_refund("r", &reference).await.expect("answered");
        assert_eq!(found.is_some(), acts, "{what}");

        for (key, confirms) in [("reserved", true), ("opened", false)] {
            let charge = sandbox.payable(provider).await;
            let other = match confirms {
                true => reserved(&gateway, key, &charge).await,
                false => opened(&gateway, key, &charge).await,
            };
            sandbox.switch("void", method).await;
            lost(gateway.cancel(&format!("v {key}"), &other).await.is_err());
            sandbox.switch("void", "ok").await;
            let now = status_of(&gateway, &other).await;
            assert_eq!(now == AuthorizationStatus::Cancelled, acts, "{what} {key}");
            let void = gateway.cancel(&format!("v {key}"), &other).await.expect("answered");
            assert!(matches!(void, Cancellation::Cancelled { .. }), "{what} {void:?}");
        }
    }
}

#[tokio::test]
async fn a_confirm_that_acts_late_does_not_survive_a_void() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let reference = opened(&gateway, "k", &sandbox.payable(provider).await).await;
        let before = sandbox.lines().len();
        sandbox.switch("confirm", "actsLate").await;
        let late = gateway.confirm("c", &reference).await;
        assert!(matches!(late, Err(GatewayError::Unknown(Trouble::TimedOut))), "{late:?}");
        let again = gateway.confirm("c", &reference).await;
        assert!(matches!(again, Err(GatewayError::Unknown(Trouble::InFlight))), "{again:?}");
        let void = gateway.cancel("v", &reference).await.expect("answered");
        assert!(matches!(void, Cancellation::Cancelled { .. }), "{provider:?} {void:?}");
        eventually("the late refusal", async || sandbox.lines().len() == before + 2).await;
        let expected = [LineResult::Cancelled, LineResult::RefusedCancelled];
        assert_eq!(sandbox.results_after(before), expected, "{provider:?}");
        assert_eq!(sandbox.live(), 0);
    }
}

#[tokio::test]
async fn a_decline_of_each_operation_is_an_answer() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let declined = opened(&gateway, "d", &sandbox.payable(provider).await).await;
        sandbox.switch("confirm", "declined").await;
        for key in ["c", "c", "other"] {
            let answer = gateway.confirm(key, &declined).await.expect("answered");
            assert!(matches!(answer, Confirmation::Declined(_)), "{provider:?} {answer:?}");
        }
        sandbox.switch("confirm", "ok").await;
        let void = gateway.cancel("v", &declined).await.expect("answered");
        assert_eq!(void, Cancellation::Cancelled { reference: declined, released: usd(0) });

        let reference = reserved(&gateway, "a", &sandbox.payable(provider).await).await;
        sandbox.switch("capture", "declined").await;
        let capture = gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
        assert!(matches!(capture, Capture::Refused(_)), "{provider:?} {capture:?}");
        sandbox.switch("capture", "ok").await;
        gateway.capture("t2", &reference, usd(49_99)).await.expect("answered");
        sandbox.switch("refund", "declined").await;
        let refund = gateway.refund("r", &reference, usd(1_00)).await.expect("answered");
        assert!(matches!(refund, Refund::Refused(_)), "{provider:?} {refund:?}");
        assert!(gateway.refunds(&reference).await.expect("answered").is_empty());
    }
}

#[tokio::test]
async fn a_refund_may_be_pending_and_then_done_or_fail() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        for (method, ends) in [("pending", true), ("fails", false)] {
            let reference = taken(&gateway, method, &sandbox.payable(provider).await).await;
            sandbox.switch("refund", method).await;
            let refund = gateway.refund(method, &reference, usd(9_99)).await.expect("answered");
            assert!(matches!(refund, Refund::Pending { .. }), "{provider:?} {refund:?}");
            let status =
                async || gateway.refunds(&reference).await.expect("answered").remove(0).status;
            eventually("the end of the refund", async || status().await != RefundStatus::Pending)
                .await;
            assert_eq!(status().await == RefundStatus::Succeeded, ends, "{provider:?}");
            let refunded = if ends { usd(9_99) } else { usd(0) };
            let expected = AuthorizationStatus::Captured { captured: usd(49_99), refunded };
            assert_eq!(status_of(&gateway, &reference).await, expected, "{provider:?}");
        }
    }
}

#[tokio::test]
async fn everything_is_known_after_a_restart_and_what_nobody_captures_is_released() {
    for provider in BOTH {
        let sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let created = opened(&gateway, "o", &sandbox.payable(provider).await).await;
        let held = reserved(&gateway, "h", &sandbox.payable(provider).await).await;
        let paid = taken(&gateway, "t", &sandbox.payable(provider).await).await;
        gateway.refund("r", &paid, usd(4_00)).await.expect("answered");
        let before = sandbox.lines();
        let sandbox = sandbox.with(|_| ()).await;
        let gateway = sandbox.providers();
        assert_eq!(status_of(&gateway, &created).await, AuthorizationStatus::Created);
        assert_eq!(status_of(&gateway, &held).await, AuthorizationStatus::Authorized);
        let expected = AuthorizationStatus::Captured { captured: usd(49_99), refunded: usd(4_00) };
        assert_eq!(status_of(&gateway, &paid).await, expected, "{provider:?}");
        let again = gateway.confirm("h confirm", &held).await.expect("answered");
        assert_eq!(again, Confirmation::Confirmed(held.clone()), "{provider:?}");
        assert_eq!(sandbox.lines(), before, "{provider:?}");

        let sandbox =
            sandbox.with(|timing| timing.authorization = Duration::from_millis(200)).await;
        let gateway = sandbox.providers();
        eventually("the lapse", async || {
            status_of(&gateway, &held).await == AuthorizationStatus::Cancelled
        })
        .await;
        let capture = gateway.capture("late", &held, usd(49_99)).await.expect("answered");
        assert!(matches!(capture, Capture::Refused(_)), "{provider:?} {capture:?}");
        let void = gateway.cancel("v", &held).await.expect("answered");
        assert_eq!(void, Cancellation::Cancelled { reference: held, released: usd(49_99) });
    }
}

#[tokio::test]
async fn a_provider_that_is_closed_or_gone_surely_did_nothing() {
    for provider in BOTH {
        let mut sandbox = Running::start().await;
        let gateway = sandbox.providers();
        let reference = opened(&gateway, "k", &sandbox.payable(provider).await).await;
        let before = sandbox.lines().len();
        sandbox.post("/sandbox/down", &[]).await;
        let down = gateway.confirm("c", &reference).await;
        let closed = Err(GatewayError::NotDone(Trouble::Unavailable(503)));
        assert_eq!(format!("{down:?}"), format!("{:?}", closed as Result<Confirmation, _>));
        sandbox.post("/sandbox/up", &[]).await;
        sandbox.stop().await;
        let gone = gateway.confirm("c", &reference).await;
        assert!(matches!(gone, Err(GatewayError::NotDone(Trouble::Unreachable))), "{gone:?}");
        sandbox.start_again().await;
        assert_eq!(sandbox.lines().len(), before);
        let back = gateway.confirm("c", &reference).await.expect("answered");
        assert_eq!(back, Confirmation::Confirmed(reference), "{provider:?}");
    }
}

#[tokio::test]
async fn a_payment_that_nobody_knows_is_not_found() {
    let sandbox = Running::start().await;
    let gateway = sandbox.providers();
    for nobodys in ["pi_ok_0", "paypal:0", "paypal:", "paypal:../../v1/oauth2/token?x="] {
        let nobodys = Reference(nobodys.to_owned());
        assert_eq!(gateway.find(&nobodys).await.expect("answered"), None, "{nobodys}");
        let cancel = gateway.cancel("c", &nobodys).await.expect("answered");
        assert_eq!(cancel, Cancellation::NotFound, "{nobodys}");
        let void = gateway.find_void(&nobodys).await.expect("answered");
        assert_eq!(void, Some(Cancellation::NotFound), "{nobodys}");
        assert!(gateway.refunds(&nobodys).await.expect("answered").is_empty(), "{nobodys}");
        let method = MethodToken(nobodys.0.clone());
        let refused = gateway.create("k", &Charge { method, ..charge(SandboxMethod::Ok) }).await;
        assert!(matches!(refused, Ok(Creation::Refused(_))), "{nobodys} {refused:?}");
    }
    assert!(sandbox.lines().is_empty());
}

#[tokio::test]
async fn an_outage_of_one_provider_does_not_keep_the_shop_from_the_other() {
    for (away, other) in
        [(Provider::Stripe, Provider::PayPal), (Provider::PayPal, Provider::Stripe)]
    {
        let (gone, there) = (Running::start().await, Running::start().await);
        let (stripe, paypal) = match away {
            Provider::Stripe => (gone.client(), there.paypal()),
            Provider::PayPal => (there.client(), gone.paypal()),
        };
        let (cards, paypal) =
            (Breaker::before(Arc::new(stripe)), Breaker::before_paypal(Arc::new(paypal)));
        let (line, other_line, nobodys) = match away {
            Provider::Stripe => (cards.line(), paypal.line(), "pi_ok_0"),
            Provider::PayPal => (paypal.line(), cards.line(), "paypal:0"),
        };
        let gateway = Providers::new(Arc::new(cards), Some(Arc::new(paypal)));
        let nobodys = Reference(nobodys.to_owned());
        gone.post("/sandbox/down", &[]).await;
        eventually("the breaker's opening", async || {
            gateway.cancel(&Uuid::now_v7().to_string(), &nobodys).await.is_err()
                && !line.borrow().takes_writes()
        })
        .await;
        let spared = gateway.cancel("k", &nobodys).await;
        assert!(matches!(spared, Err(GatewayError::NotDone(Trouble::Down))), "{spared:?}");
        taken(&gateway, "k", &there.payable(other).await).await;
        assert!(other_line.borrow().takes_writes(), "{other:?}");
        gone.post("/sandbox/up", &[]).await;
        eventually("the breaker's closing", async || line.borrow().takes_writes()).await;
        let none = gateway.cancel("k2", &nobodys).await.expect("answered");
        assert_eq!(none, Cancellation::NotFound);
    }
}
