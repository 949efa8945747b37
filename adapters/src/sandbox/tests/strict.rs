//! The sandbox is as strict as the real gateway, and each operation can misbehave.

use super::*;

fn charge_on(method: SandboxMethod, on: Op) -> Charge {
    let token = method.token_on(on).expect("it suits");
    Charge { method: MethodToken(token), ..charge(SandboxMethod::Ok) }
}

/// The code of an error.
async fn code(answer: reqwest::Response) -> String {
    let error: serde_json::Value = answer.json().await.expect("JSON");
    error["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_parameter_that_an_endpoint_does_not_know_is_refused_and_nothing_happens() {
    let sandbox = Running::start().await;
    let reference = confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await.0;
    let intent = format!("/v1/payment_intents/{reference}");
    for (path, name, value, expected) in [
        ("confirm", "amount", "4999", "parameter_unknown"),
        ("confirm", "return_url", "/paid", "url_invalid"),
        ("capture", "amount", "4999", "parameter_unknown"),
        ("capture", "amount_to_capture", "49.99", "parameter_invalid_integer"),
        ("capture", "amount_to_capture", "0", "parameter_invalid_integer"),
        ("capture", "amount_to_capture", "5000", "amount_too_large"),
        ("cancel", "reason", "duplicate", "parameter_unknown"),
        ("cancel", "cancellation_reason", "bored", "parameter_invalid_string"),
    ] {
        let answer = sandbox.post(&format!("{intent}/{path}"), &[(name, value)]).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path} {name}={value}");
        assert_eq!(code(answer).await, expected, "{path} {name}={value}");
    }
    for form in [
        &[("payment_intent", &*reference), ("amount_to_refund", "1")][..],
        &[("payment_intent", &*reference), ("reason", "bored")],
        &[("amount", "1")],
    ] {
        let answer = sandbox.post("/v1/refunds", form).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{form:?}");
    }
    let old = http().get(sandbox.url(&intent)).bearer_auth(API_KEY);
    let old = old.header("stripe-version", "2015-01-01").send().await.expect("answered");
    assert_eq!(code(old).await, "api_version_invalid");
    assert_eq!(sandbox.results(), [LineResult::Created, LineResult::Confirmed]);
}

#[tokio::test]
async fn a_key_with_other_parameters_is_refused_while_it_is_remembered() {
    let sandbox = Running::start().await;
    let path = "/v1/payment_intents";
    let form = |amount| {
        [
            ("amount", amount),
            ("currency", "usd"),
            ("capture_method", "manual"),
            ("payment_method", "pm_sandbox_ok"),
        ]
    };
    let post = async |form: &[(&str, &str)]| {
        let request = http().post(sandbox.url(path)).bearer_auth(API_KEY).form(form);
        request.header("idempotency-key", "k").send().await.expect("answered")
    };
    assert_eq!(post(&form("4999")).await.status(), StatusCode::OK);
    assert_eq!(post(&form("4999")).await.status(), StatusCode::OK);
    let mut with_expand = form("4999").to_vec();
    with_expand.push(("expand[]", "latest_charge"));
    for other in [&form("5000")[..], &with_expand[..]] {
        assert_eq!(code(post(other).await).await, "idempotency_key_reused");
    }
    assert_eq!(sandbox.lines().len(), 1);
}

#[tokio::test]
async fn a_refund_repeated_after_its_key_is_forgotten_is_found_by_our_reference() {
    let sandbox = Running::start().await.with(|timing| timing.keys = Duration::ZERO).await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    // The key alone does not help any more.
    let form = [("payment_intent", &*reference.0), ("amount", "100"), ("metadata[key]", "bare")];
    for _ in 0..2 {
        let request = http().post(sandbox.url("/v1/refunds")).bearer_auth(API_KEY).form(&form);
        let answer = request.header("idempotency-key", "bare").send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(gateway.refunds(&reference).await.expect("answered").len(), 2);
    let first = gateway.refund("r", &reference, usd(10_00)).await.expect("answered");
    for _ in 0..2 {
        let again = gateway.refund("r", &reference, usd(10_00)).await.expect("answered");
        assert_eq!(again, first);
    }
    assert_eq!(gateway.refunds(&reference).await.expect("answered").len(), 3);
    // Captured is captured, under whatever key, and voiding twice is voiding once.
    let capture = gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    assert_eq!(capture, Capture::Captured { amount: usd(49_99) });
    let other = created(&gateway, "k2", &charge(SandboxMethod::Ok)).await;
    let void = gateway.cancel("v", &other).await.expect("answered");
    assert_eq!(gateway.cancel("v", &other).await.expect("answered"), void);
}

#[tokio::test]
async fn more_than_a_page_of_refunds_is_read_whole() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    for _ in 0..205 {
        let form = [("payment_intent", &*reference.0), ("amount", "1")];
        sandbox.post("/v1/refunds", &form).await;
    }
    gateway.refund("r", &reference, usd(1_00)).await.expect("answered");
    for _ in 0..3 {
        let form = [("payment_intent", &*reference.0), ("amount", "1")];
        sandbox.post("/v1/refunds", &form).await;
    }
    assert_eq!(gateway.refunds(&reference).await.expect("answered").len(), 209);
    let found = gateway.find_refund("r", &reference).await.expect("answered");
    assert!(matches!(found, Some(Refund::Refunded { amount, .. }) if amount == usd(1_00)));
}

#[tokio::test]
async fn money_that_nobody_captures_is_released_and_can_be_captured_no_more() {
    let sandbox = Running::start().await;
    let kept = confirmed(&sandbox.client(), &charge(SandboxMethod::Ok)).await;
    let taken = created(&sandbox.client(), "k2", &charge(SandboxMethod::Ok)).await;
    sandbox.client().confirm("c2", &taken).await.expect("answered");
    sandbox.client().capture("t2", &taken, usd(49_99)).await.expect("answered");
    // Also what was reserved before a restart lapses.
    let sandbox = sandbox.with(|timing| timing.authorization = Duration::from_millis(200)).await;
    let gateway = sandbox.client();
    eventually("the lapse", async || {
        status(&gateway, &kept).await == AuthorizationStatus::Cancelled
    })
    .await;
    let line = sandbox.lines().pop().expect("a line");
    assert_eq!((line.op, line.result, &*line.key), (Op::Expire, LineResult::Expired, ""));
    assert_eq!(sandbox.live(), 1);
    let capture = gateway.capture("t", &kept, usd(49_99)).await.expect("answered");
    assert!(matches!(&capture, Capture::Refused(_)), "{capture:?}");
    let void = gateway.cancel("v", &kept).await.expect("answered");
    assert_eq!(void, Cancellation::Cancelled { reference: kept.clone(), released: usd(49_99) });
    assert!(matches!(status(&gateway, &taken).await, AuthorizationStatus::Captured { .. }));
    let moves = ledger::moves(&sandbox.lines());
    assert!(moves.iter().any(|made| made.kind == "void" && made.reference == kept.0));
}

#[tokio::test]
async fn every_operation_can_stay_unanswered_and_the_probe_tells_what_it_did() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let lost = |outcome: bool| assert!(outcome, "it answered");
    for (method, acts) in
        [(SandboxMethod::TimeoutAfter, true), (SandboxMethod::TimeoutBefore, false)]
    {
        let key = |name: &str| format!("{name} {acts}");
        let charge = charge_on(method, Op::Create);
        lost(gateway.create(&key("create"), &charge).await.is_err());
        let found = gateway.find_by_key(charge.order_id, &key("create")).await.expect("answered");
        assert_eq!(found.is_some(), acts);

        let charge = charge_on(method, Op::Capture);
        let reference = created(&gateway, &key("k"), &charge).await;
        gateway.confirm(&key("c"), &reference).await.expect("answered");
        lost(gateway.capture(&key("t"), &reference, usd(49_99)).await.is_err());
        let now = status(&gateway, &reference).await;
        assert_eq!(matches!(now, AuthorizationStatus::Captured { .. }), acts);

        let reference = created(&gateway, &key("k2"), &charge_on(method, Op::Cancel)).await;
        gateway.confirm(&key("c2"), &reference).await.expect("answered");
        lost(gateway.cancel(&key("v"), &reference).await.is_err());
        assert_eq!(status(&gateway, &reference).await == AuthorizationStatus::Cancelled, acts);

        let reference = created(&gateway, &key("k3"), &charge_on(method, Op::Refund)).await;
        gateway.confirm(&key("c3"), &reference).await.expect("answered");
        gateway.capture(&key("t3"), &reference, usd(49_99)).await.expect("answered");
        lost(gateway.refund(&key("r"), &reference, usd(1_00)).await.is_err());
        let found = gateway.find_refund(&key("r"), &reference).await.expect("answered");
        assert_eq!(found.is_some(), acts);
        assert_eq!(gateway.refund(&key("r"), &reference, usd(1_00)).await.is_ok(), acts);
    }
}

#[tokio::test]
async fn captures_voids_and_refunds_can_act_late_or_be_declined() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let late = created(&gateway, "k", &charge_on(SandboxMethod::ActsLate, Op::Capture)).await;
    gateway.confirm("c", &late).await.expect("answered");
    assert!(gateway.capture("t", &late, usd(49_99)).await.is_err());
    let again = gateway.capture("t", &late, usd(49_99)).await;
    assert!(matches!(again, Err(GatewayError::Unknown(Trouble::InFlight))), "{again:?}");
    eventually("the late capture", async || {
        matches!(status(&gateway, &late).await, AuthorizationStatus::Captured { .. })
    })
    .await;
    let again = gateway.capture("t", &late, usd(49_99)).await.expect("answered");
    assert_eq!(again, Capture::Captured { amount: usd(49_99) });

    let declined = created(&gateway, "k2", &charge_on(SandboxMethod::Declined, Op::Capture)).await;
    gateway.confirm("c2", &declined).await.expect("answered");
    let capture = gateway.capture("t2", &declined, usd(49_99)).await.expect("answered");
    assert!(matches!(&capture, Capture::Refused(why) if why.as_str() == "generic_decline"));
    assert_eq!(status(&gateway, &declined).await, AuthorizationStatus::Authorized);

    let refused = created(&gateway, "k3", &charge_on(SandboxMethod::Declined, Op::Refund)).await;
    gateway.confirm("c3", &refused).await.expect("answered");
    gateway.capture("t3", &refused, usd(49_99)).await.expect("answered");
    let refund = gateway.refund("r3", &refused, usd(1_00)).await.expect("answered");
    assert!(matches!(&refund, Refund::Refused(_)), "{refund:?}");
    assert!(gateway.refunds(&refused).await.expect("answered").is_empty());
}

#[tokio::test]
async fn a_pending_refund_is_settled_or_fails_later_and_the_ledger_says_which() {
    let hour = Duration::from_secs(3_600);
    let sandbox = Running::start().await.with(|timing| timing.acts_late = hour).await;
    let gateway = sandbox.client();
    let mut references = Vec::new();
    for (n, method) in [SandboxMethod::Pending, SandboxMethod::Fails].into_iter().enumerate() {
        let reference = created(&gateway, &format!("k{n}"), &charge(method)).await;
        gateway.confirm(&format!("c{n}"), &reference).await.expect("answered");
        gateway.capture(&format!("t{n}"), &reference, usd(49_99)).await.expect("answered");
        let refund = gateway.refund(&format!("r{n}"), &reference, usd(9_99)).await;
        assert!(matches!(refund, Ok(Refund::Pending { amount, .. }) if amount == usd(9_99)));
        let AuthorizationStatus::Captured { refunded, .. } = status(&gateway, &reference).await
        else {
            panic!("captured")
        };
        assert_eq!(refunded, usd(9_99));
        references.push(reference);
    }
    // Pending refunds are settled after a restart, too.
    let sandbox = sandbox.with(|timing| timing.acts_late = Duration::from_millis(300)).await;
    let made =
        async |n: usize| gateway.refunds(&references[n]).await.expect("answered").remove(0).status;
    eventually("the end of both", async || {
        made(0).await == RefundStatus::Succeeded && matches!(made(1).await, RefundStatus::Failed(_))
    })
    .await;
    let failed = gateway.refund("r1", &references[1], usd(9_99)).await.expect("answered");
    assert!(matches!(&failed, Refund::Refused(why) if why.as_str() == "lost_or_stolen_card"));
    assert_eq!(
        status(&gateway, &references[1]).await,
        AuthorizationStatus::Captured { captured: usd(49_99), refunded: usd(0) }
    );
    let refunds: Vec<_> =
        ledger::moves(&sandbox.lines()).into_iter().filter(|made| made.kind == "refund").collect();
    assert_eq!(refunds.len(), 1);
    assert_eq!((&*refunds[0].key, refunds[0].reference.starts_with("re_1_")), ("r0", true));
}

#[tokio::test]
async fn an_operation_misbehaves_for_everybody_until_it_is_switched_off() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let reference = confirmed(&gateway, &charge(SandboxMethod::Ok)).await;
    let switch = async |on: &str, method: &str| {
        sandbox.post("/sandbox/misbehave", &[("on", on), ("method", method)]).await.status()
    };
    assert_eq!(switch("capture", "timeoutBefore").await, StatusCode::NO_CONTENT);
    assert!(gateway.capture("t", &reference, usd(49_99)).await.is_err());
    assert_eq!(status(&gateway, &reference).await, AuthorizationStatus::Authorized);
    assert_eq!(switch("capture", "ok").await, StatusCode::NO_CONTENT);
    let capture = gateway.capture("t", &reference, usd(49_99)).await.expect("answered");
    assert_eq!(capture, Capture::Captured { amount: usd(49_99) });
    for (on, method) in [("capture", "challenge"), ("expire", "slow"), ("refund", "nonsense")] {
        assert_eq!(switch(on, method).await, StatusCode::BAD_REQUEST, "{method} on {on}");
    }
}

#[tokio::test]
async fn a_method_is_attached_to_one_account_and_of_no_use_without_it() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let ada = Uuid::now_v7();
    let opened = gateway.open_customer("customer-ada", ada).await.expect("answered");
    let Creation::Created(account) = &opened else { panic!("{opened:?}") };
    assert_eq!(gateway.open_customer("customer-ada", ada).await.expect("answered"), opened);
    let other = gateway.open_customer("customer-eve", Uuid::now_v7()).await.expect("answered");
    let Creation::Created(eve) = &other else { panic!("{other:?}") };
    assert_ne!(account, eve);

    let method = MethodToken(format!("{}_ada", SandboxMethod::Ok.token()));
    for key in ["a", "a", "b"] {
        let attached = gateway.attach(key, &method, account).await.expect("answered");
        assert_eq!(attached, Attachment::Attached, "{key}");
    }
    let stolen = gateway.attach("c", &method, eve).await.expect("answered");
    assert!(matches!(stolen, Attachment::Refused(_)), "{stolen:?}");
    let nobody = Reference("cus_nobody".to_owned());
    let refused = gateway.attach("d", &method, &nobody).await.expect("answered");
    assert!(matches!(refused, Attachment::Refused(_)), "{refused:?}");

    let paid = |customer: Option<&Reference>| Charge {
        method: method.clone(),
        customer: customer.cloned(),
        ..charge(SandboxMethod::Ok)
    };
    for (key, customer, is_taken) in
        [("1", None, false), ("2", Some(eve), false), ("3", Some(account), true)]
    {
        let created = gateway.create(key, &paid(customer)).await.expect("answered");
        assert_eq!(matches!(created, Creation::Created(_)), is_taken, "{customer:?}: {created:?}");
    }
    for key in ["e", "e", "f"] {
        gateway.detach(key, &method).await.expect("answered");
    }
    let late = gateway.create("4", &paid(Some(account))).await.expect("answered");
    assert!(matches!(late, Creation::Refused(_)), "{late:?}");
    let unknown = MethodToken("pm_lost".to_owned());
    gateway.detach("g", &unknown).await.expect("nobody can pay with it");
    let form = [("email", "ada@example.com")];
    assert_eq!(code(sandbox.post("/v1/customers", &form).await).await, "parameter_unknown");
    let path = format!("/v1/payment_methods/{}/attach", method.0);
    assert_eq!(code(sandbox.post(&path, &[]).await).await, "parameter_missing");
}

#[tokio::test]
async fn an_account_that_was_deleted_takes_no_method_and_pays_nothing() {
    let sandbox = Running::start().await;
    let gateway = sandbox.client();
    let opened = gateway.open_customer("customer-ada", Uuid::now_v7()).await.expect("answered");
    let Creation::Created(account) = opened else { panic!("{opened:?}") };
    let method = MethodToken(format!("{}_ada", SandboxMethod::Ok.token()));
    gateway.attach("a", &method, &account).await.expect("answered");
    let paid = || Charge {
        method: method.clone(),
        customer: Some(account.clone()),
        ..charge(SandboxMethod::Ok)
    };
    let before = gateway.create("1", &paid()).await.expect("answered");
    assert!(matches!(before, Creation::Created(_)), "{before:?}");
    for _ in 0..2 {
        gateway.delete_customer(&account).await.expect("it is gone");
    }
    let after = gateway.create("2", &paid()).await.expect("answered");
    assert!(matches!(after, Creation::Refused(_)), "{after:?}");
    let alone = gateway.create("3", &Charge { customer: None, ..paid() }).await.expect("answered");
    assert!(matches!(alone, Creation::Refused(_)), "its methods are detached: {alone:?}");
    let other = MethodToken(format!("{}_other", SandboxMethod::Ok.token()));
    let attached = gateway.attach("b", &other, &account).await.expect("answered");
    assert!(matches!(attached, Attachment::Refused(_)), "{attached:?}");
    let nobody = Reference("cus_nobody".to_owned());
    gateway.delete_customer(&nobody).await.expect("there is no such account");
}
