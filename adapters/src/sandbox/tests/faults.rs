//! The misbehaviour of each method, and a gateway that is away.

use super::super::method::Behaviour;
use super::*;

const TIMED_OUT: Trouble = Trouble::TimedOut;

async fn confirm_times_out(gateway: &StripeGateway, key: &str, reference: &Reference) {
    match gateway.confirm(key, reference).await {
        Err(GatewayError::Unknown(TIMED_OUT)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn declined_and_unsupported_cards_are_told_apart() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let declined = created(&gateway, "k1", &charge(SandboxMethod::Declined)).await;
    for _ in 0..2 {
        let answer = gateway.confirm("c1", &declined).await.expect("answered");
        assert!(
            matches!(&answer, Confirmation::Declined(why) if why.as_str() == "generic_decline"),
            "{answer:?}"
        );
    }
    let now = status(&gateway, &declined).await;
    assert!(matches!(now, AuthorizationStatus::Declined(_)), "{now:?}");
    let unsupported = created(&gateway, "k2", &charge(SandboxMethod::Unsupported)).await;
    let answer = gateway.confirm("c2", &unsupported).await.expect("answered");
    assert_eq!(answer, Confirmation::Unsupported);
    assert_eq!(status(&gateway, &unsupported).await, AuthorizationStatus::Unsupported);
    // Neither authorization holds money; both can be cancelled.
    assert_eq!(sandbox.live(), 0);
    let void = gateway.cancel("v", &declined).await.expect("answered");
    assert_eq!(void, Cancellation::Cancelled { reference: declined, released: usd(0) });
}

#[tokio::test]
async fn slow_answers_after_its_time() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Slow)).await;
    let start = Instant::now();
    let answer = gateway.confirm("c", &reference).await.expect("answered");
    assert_eq!(answer, Confirmation::Confirmed(reference));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn timeout_before_never_acts_however_often_it_is_asked() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::TimeoutBefore)).await;
    confirm_times_out(&gateway, "c", &reference).await;
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Created);
    confirm_times_out(&gateway, "c", &reference).await;
    assert_eq!(sandbox.results(), [LineResult::Created]);
    // Cancelling ends the authorization; after that even this method answers.
    gateway.cancel("v", &reference).await.expect("answered");
    let late = gateway.confirm("c", &reference).await.expect("answered");
    assert_eq!(late, Confirmation::Cancelled);
}

#[tokio::test]
async fn timeout_after_has_acted_and_only_the_probe_tells() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::TimeoutAfter)).await;
    confirm_times_out(&gateway, "c", &reference).await;
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Authorized);
    confirm_times_out(&gateway, "c", &reference).await;
    assert_eq!(sandbox.results(), [LineResult::Created, LineResult::Confirmed]);
}

#[tokio::test]
async fn acts_late_acts_after_the_caller_has_given_up() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::ActsLate)).await;
    confirm_times_out(&gateway, "c", &reference).await;
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Created);
    let again = gateway.confirm("c", &reference).await;
    assert!(matches!(again, Err(GatewayError::Unknown(Trouble::InFlight))), "{again:?}");
    eventually("the late act", async || {
        status(&gateway, &reference).await == AuthorizationStatus::Authorized
    })
    .await;
    let again = gateway.confirm("c", &reference).await.expect("answered");
    assert_eq!(again, Confirmation::Confirmed(reference));
    assert_eq!(sandbox.results(), [LineResult::Created, LineResult::Confirmed]);
}

#[tokio::test]
async fn cancelling_the_reference_kills_a_late_act() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::ActsLate)).await;
    confirm_times_out(&gateway, "c", &reference).await;
    let void = gateway.cancel("v", &reference).await.expect("answered");
    assert_eq!(void, Cancellation::Cancelled { reference: reference.clone(), released: usd(0) });
    eventually("the late refusal", async || sandbox.lines().len() == 3).await;
    let results = sandbox.results();
    let expected = [LineResult::Created, LineResult::Cancelled, LineResult::RefusedCancelled];
    assert_eq!(results, expected);
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn a_challenge_is_approved_or_declined_on_its_page() {
    let mut sandbox = Running::start().await;
    let gateway = sandbox.client();
    for (decision, key) in [("approve", "a"), ("decline", "d")] {
        let reference = created(&gateway, key, &charge(SandboxMethod::Challenge)).await;
        let confirm = gateway.confirm(&format!("c{key}"), &reference).await.expect("answered");
        let Confirmation::ApprovalRequired(approval) = confirm else { panic!("{confirm:?}") };
        // The approval waits for the customer, also after a restart.
        sandbox.stop().await;
        sandbox.start_again().await;
        let found = status(&gateway, &reference).await;
        assert_eq!(found, AuthorizationStatus::ApprovalRequired(approval.clone()));
        let page = http().get(&approval.url).send().await.expect("answered");
        assert_eq!(page.status(), StatusCode::OK);
        let page = page.text().await.expect("read");
        assert!(page.contains("49.99 USD") && page.contains("<button"), "{page}");
        for _ in 0..2 {
            let form = [("decision", decision)];
            let answer = http().post(&approval.url).form(&form).send().await.expect("answered");
            assert_eq!(answer.status(), StatusCode::OK);
        }
        match (decision, status(&gateway, &reference).await) {
            ("approve", AuthorizationStatus::Authorized) => {}
            ("decline", AuthorizationStatus::Declined(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sandbox.live(), 1);
}

#[tokio::test]
async fn an_approval_after_the_cancellation_reserves_nothing() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Challenge)).await;
    let confirm = gateway.confirm("c", &reference).await.expect("answered");
    let Confirmation::ApprovalRequired(approval) = confirm else { panic!("{confirm:?}") };
    gateway.cancel("v", &reference).await.expect("answered");
    let answer = http().post(&approval.url).send().await.expect("answered");
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(sandbox.live(), 0);
    let unknown = http().post(sandbox.url("/sandbox/approve/pi_ok_0")).send().await;
    assert_eq!(unknown.expect("answered").status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_gateway_switched_off_says_that_it_did_nothing() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    sandbox.post("/sandbox/down", &[]).await;
    let down = gateway.create("k", &charge(SandboxMethod::Ok)).await;
    assert!(matches!(down, Err(GatewayError::NotDone(Trouble::Unavailable(503)))), "{down:?}");
    assert_eq!(sandbox.lines().len(), 0);
    sandbox.post("/sandbox/up", &[]).await;
    created(&gateway, "k", &charge(SandboxMethod::Ok)).await;
}

#[tokio::test]
async fn a_gateway_that_is_not_there_surely_did_nothing() {
    let mut sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = created(&gateway, "k", &charge(SandboxMethod::Ok)).await;
    sandbox.stop().await;
    let gone = gateway.confirm("c", &reference).await;
    assert!(matches!(gone, Err(GatewayError::NotDone(Trouble::Unreachable))), "{gone:?}");
    sandbox.start_again().await;
    let back = gateway.confirm("c", &reference).await.expect("answered");
    assert_eq!(back, Confirmation::Confirmed(reference));
}

#[tokio::test]
async fn a_wrong_api_key_is_our_own_mistake_and_did_nothing() {
    let sandbox = Running::start().await;
    let url = sandbox.url("").parse().expect("an address is a URL");
    let gateway = StripeGateway::new(GatewayConfig::new(url, "sk_wrong".into())).expect("made");
    let refused = gateway.create("k", &charge(SandboxMethod::Ok)).await;
    assert!(
        matches!(refused, Err(GatewayError::NotDone(Trouble::Misconfigured(401)))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_method_nobody_knows_is_refused_for_good() {
    let sandbox = Running::start().await;
    let unknown = Charge { method: MethodToken("pm_lost".into()), ..charge(SandboxMethod::Ok) };
    let refused = sandbox.client().create("k", &unknown).await.expect("answered");
    assert!(matches!(&refused, Creation::Refused(why) if why.as_str() == "resource_missing"));
}

#[test]
fn every_method_is_chosen_by_its_token_with_or_without_a_suffix() {
    for method in SandboxMethod::ALL {
        for token in [method.token(), format!("{}_customer_7", method.token())] {
            let behaviour = Behaviour::from_token(&token).expect("a token");
            let on = match method {
                SandboxMethod::Pending | SandboxMethod::Fails => Op::Refund,
                _ => Op::Confirm,
            };
            assert_eq!(behaviour.of(on), method);
            assert_eq!(behaviour.token(), method.token());
        }
        for on in [Op::Create, Op::Capture, Op::Cancel, Op::Refund] {
            let Some(token) = method.token_on(on) else { continue };
            let behaviour = Behaviour::from_token(&token).expect("a token");
            assert_eq!((behaviour.of(on), behaviour.of(Op::Confirm)), (method, SandboxMethod::Ok));
        }
    }
    for token in [
        "",
        "ok",
        "pm_sandbox_",
        "pm_sandbox_OK",
        "pm_card_visa",
        "pm_sandbox_OnCapture",
        "pm_sandbox_challengeOnRefund",
        "pm_sandbox_failsOnCapture",
    ] {
        assert_eq!(Behaviour::from_token(token), None, "{token}");
    }
}
