//! Gateway events that need a person: read and ended over HTTP, and by the real binary.

use reqwest::Method;
use serde_json::{Value, json};
use stepwise_workflows::payment::parked::{self, Misfit, Parked, RECONCILE};
use uuid::Uuid;

use crate::{
    cli::run,
    house::{Answer, GATEWAY_KEY, House, refusal, send},
    shopper::product,
    webhooks::{Placed, event, moved, told},
};

const PATH: &str = "/v1/admin/parked-events";

async fn read(house: &House, token: &str, path: &str) -> Answer {
    send(house.get(&format!("{PATH}{path}")).bearer_auth(token)).await
}

/// Applies a verb, under a key if one is given.
async fn act(house: &House, token: &str, verb: &str, body: &Value, key: Option<&str>) -> Answer {
    let mut request = house.ask(Method::POST, &format!("{PATH}/{verb}")).bearer_auth(token);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    send(request.json(body)).await
}

fn because(reason: &str) -> Value {
    json!({ "reason": reason })
}

/// Runs SQL, as somebody does who repairs the database by hand.
async fn run_sql(house: &House, sql: &'static str) {
    sqlx::raw_sql(sql).execute(house.database.pool()).await.expect("it is ours");
}

#[tokio::test]
async fn a_retried_event_is_applied_as_if_it_had_come_now_and_is_ended_once() {
    let house = House::open_working().await;
    let (admin, operator) = (house.key("admin", &[]).await, house.key("operator", &[]).await);
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let mut event = placed.event("payment_intent.canceled", "canceled");
    event["data"]["object"]["amount"] = 1.into();
    assert_eq!(told(&house, &event.to_string()).await.is(202).json()["reason"], "other_amount");
    let id = event["id"].as_str().expect("a text");
    // The authorization is voided at the gateway, and the shop has lost what it has heard of that.
    house.outside(&format!("/v1/payment_intents/{}/cancel", placed.reference), &[]).await.is(200);
    placed.is("voided", "0.00").await;
    run_sql(
        &house,
        "delete from shop.payment_transaction where kind = 'void'; update shop.payment set state = 'authorized'",
    )
    .await;

    let verb = format!("{id}/retry");
    house.outside("/sandbox/down", &[]).await.is(204);
    let early = act(&house, &operator, &verb, &because("looked at it"), Some("k1")).await;
    assert_eq!(early.problem(), refusal(503, "gateway_unavailable"));
    house.outside("/sandbox/up", &[]).await.is(204);
    let ended = act(&house, &operator, &verb, &because("looked at it"), Some("k1")).await;
    let shown = ended.is(200).json();
    assert_eq!((&shown["status"], &shown["verb"]), (&json!("ended"), &json!("retry")), "{shown}");
    placed.is("voided", "0.00").await;
    assert_eq!(placed.moves().await, [moved("void", &placed.total)]);

    let again = act(&house, &operator, &verb, &because("looked at it"), Some("k1")).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.is(200).json(), shown);
    let late = act(&house, &operator, &verb, &because("looked at it"), None).await;
    assert_eq!(late.problem(), refusal(409, "parked_event_ended"));
    // A copy of the event does not open it again.
    told(&house, &event.to_string()).await;
    assert_eq!(read(&house, &operator, "").await.is(200).json()["items"], json!([]));
    let kept = read(&house, &admin, &format!("/{id}")).await.is(200).json();
    assert_eq!((&kept["verbReason"], &kept["status"]), (&json!("looked at it"), &json!("ended")));
    assert!(kept["verbBy"].as_str().is_some_and(|by| by.starts_with("operator:")), "{kept}");
    house.close().await;
}

#[tokio::test]
async fn an_event_that_the_gateway_contradicts_is_ended_when_it_agrees_with_the_books() {
    let house = House::open_working().await;
    let (admin, operator) = (house.key("admin", &[]).await, house.key("operator", &[]).await);
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let event = placed.event("payment_intent.canceled", "canceled");
    told(&house, &event.to_string()).await.is(202);
    let verb = format!("{}/retry", event["id"].as_str().expect("a text"));
    // The gateway's word contradicts the books.
    run_sql(&house, "update shop.payment set state = 'captured'").await;
    let kept = act(&house, &operator, &verb, &because("is it over?"), None).await.is(200).json();
    assert_eq!(
        (&kept["status"], &kept["why"]),
        (&json!("waiting"), &json!("contradicts_our_books"))
    );
    assert_eq!(kept["verb"], "retry");
    run_sql(&house, "update shop.payment set state = 'authorized'").await;
    let ended = act(&house, &operator, &verb, &because("is it over?"), None).await.is(200).json();
    assert_eq!(ended["status"], "ended", "{ended}");
    assert!(placed.moves().await.is_empty());
    house.close().await;
}

#[tokio::test]
async fn a_retry_is_refused_while_a_saga_moves_the_money_of_the_payment() {
    let house = House::open_working().await;
    let (admin, operator) = (house.key("admin", &[]).await, house.key("operator", &[]).await);
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let event = placed.event("payment_intent.canceled", "canceled");
    told(&house, &event.to_string()).await.is(202);
    let verb = format!("{}/retry", event["id"].as_str().expect("a text"));
    house.outside(&format!("/v1/payment_intents/{}/capture", placed.reference), &[]).await.is(200);
    let refund = [("payment_intent", &*placed.reference), ("amount", "400")];
    house.outside("/v1/refunds", &refund).await.is(200);
    placed.is("partially_refunded", "4.00").await;
    run_sql(
        &house,
        "delete from shop.payment_transaction where kind <> 'authorize'; \
         update shop.payment set state = 'authorized', refunded_amount = 0; \
         insert into shop.payment_transaction (transaction_id, payment_id, kind, state, amount, currency, requested_at) \
         select gen_random_uuid(), payment_id, 'capture', 'requested', amount, currency, now() from shop.payment",
    )
    .await;
    let early = act(&house, &operator, &verb, &because("is it over?"), None).await;
    assert_eq!(early.problem(), refusal(503, "payment_in_progress"));
    run_sql(&house, "delete from shop.payment_transaction where kind = 'capture'").await;
    let ended = act(&house, &operator, &verb, &because("is it over?"), None).await.is(200).json();
    assert_eq!(ended["status"], "ended", "{ended}");
    placed.is("partially_refunded", "4.00").await;
    house.shut().await;
}

#[tokio::test]
async fn an_event_that_no_answer_of_the_gateway_ends_is_dismissed_with_a_reason() {
    let house = House::open_working().await;
    let [admin, operator, viewer] = [
        house.key("admin", &[]).await,
        house.key("operator", &[]).await,
        house.key("viewer", &[]).await,
    ];
    let (order, fine) = (Uuid::now_v7(), because("an order of the old shop"));
    let (strange, garbled) = (event(order), json!({"id": "evt/1?x", "type": "payment_intent.new"}));
    for one in [&strange, &garbled] {
        told(&house, &one.to_string()).await.is(202);
    }
    let id = strange["id"].as_str().expect("a text").to_owned();

    for token in [&viewer, &operator, &admin] {
        let first = read(&house, token, "?limit=1").await.is(200).json();
        assert_eq!(
            (&first["items"][0]["id"], &first["items"][0]["orderId"]),
            (&json!(id), &json!(order))
        );
        let next = first["nextCursor"].as_str().expect("there is more");
        let rest = read(&house, token, &format!("?limit=1&cursor={next}")).await.is(200).json();
        assert_eq!(rest["items"][0]["why"], "unreadable");
        assert!(rest["nextCursor"].is_null(), "{rest}");
    }
    let unknown = read(&house, &viewer, "/evt_nobody").await;
    assert_eq!(unknown.problem(), refusal(404, "parked_event_not_found"));

    for (verb, status, code) in [
        ("evt_nobody/retry", 404, "parked_event_not_found"),
        ("evt_nobody/dismiss", 404, "parked_event_not_found"),
        ("evt%2F1%3Fx/retry", 409, "parked_event_not_retryable"),
    ] {
        let answer = act(&house, &operator, verb, &fine, None).await;
        assert_eq!(answer.problem(), refusal(status, code), "{verb}");
    }
    for (reason, code) in [
        (json!({}), "missing_field"),
        (because(" "), "missing_field"),
        (because("card 4242 4242 4242 4242"), "card_number_not_accepted"),
    ] {
        let answer = act(&house, &operator, &format!("{id}/dismiss"), &reason, None).await;
        assert_eq!(answer.problem(), refusal(422, code), "{reason}");
    }
    let forbidden = act(&house, &viewer, &format!("{id}/dismiss"), &fine, None).await;
    assert_eq!(forbidden.problem(), refusal(403, "forbidden"));

    // The gateway does not know the payment either.
    let kept = act(&house, &operator, &format!("{id}/retry"), &fine, None).await.is(200).json();
    assert_eq!((&kept["status"], &kept["why"]), (&json!("waiting"), &json!("unknown_payment")));
    for verb in [format!("{id}/dismiss"), "evt%2F1%3Fx/dismiss".to_owned()] {
        let ended = act(&house, &operator, &verb, &fine, None).await.is(200).json();
        assert_eq!((&ended["status"], &ended["verb"]), (&json!("ended"), &json!("dismiss")));
        let again = act(&house, &operator, &verb, &fine, None).await;
        assert_eq!(again.problem(), refusal(409, "parked_event_ended"));
    }
    let masked = read(&house, &viewer, &format!("/{id}")).await.is(200).json();
    assert!(masked["verbReason"].is_null() && masked["verbAt"].is_string(), "{masked}");
    house.close().await;
}

#[tokio::test]
async fn what_the_shop_finds_once_more_waits_again_and_old_ends_are_forgotten() {
    let house = House::open().await;
    let operator = house.key("operator", &[]).await;
    let mut db = house.database.pool().acquire().await.expect("a connection");
    let why = Misfit::ContradictsOurBooks;
    let found = |id: &'static str, kind: &'static str| Parked {
        id,
        why,
        kind,
        reference: None,
        order_id: None,
        amount: None,
        at: None,
    };
    let parked = [found("reconcile-1", RECONCILE), found("evt_1", "payment_intent.canceled")];
    for news in &parked {
        assert!(parked::park(&mut db, news).await.expect("the database takes it"));
        let verb = format!("{}/dismiss", news.id);
        act(&house, &operator, &verb, &because("put right"), None).await.is(200);
    }
    for news in &parked {
        assert!(parked::park(&mut db, news).await.expect("the database takes it"));
    }
    let waiting = read(&house, &operator, "").await.is(200).json();
    let ids: Vec<_> =
        waiting["items"].as_array().expect("items").iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["reconcile-1"]);
    assert_eq!(parked::parked_events(house.database.pool()).await.expect("readable"), 1);

    run_sql(&house, "update saga.clock set offset_by = offset_by + interval '91 days'").await;
    let again = act(&house, &operator, "reconcile-1/dismiss", &because("put right"), None).await;
    again.is(200);
    let retention = stepwise_workflows::purge::Retention::default();
    let purged = stepwise_workflows::purge::run(house.database.pool(), &retention).await;
    purged.expect("the database is there");
    read(&house, &operator, "/reconcile-1").await.is(200);
    let gone = read(&house, &operator, "/evt_1").await;
    assert_eq!(gone.problem(), refusal(404, "parked_event_not_found"));
    house.close().await;
}

#[tokio::test]
async fn a_parked_event_is_listed_shown_retried_and_dismissed_on_a_terminal() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let (agreed, strange) =
        (placed.event("payment_intent.canceled", "canceled"), event(Uuid::now_v7()));
    for one in [&agreed, &strange] {
        told(&house, &one.to_string()).await.is(202);
    }
    let [agreed, strange] = [&agreed, &strange].map(|one| one["id"].as_str().expect("a text"));
    let url = house.database.url();
    let environment = [
        ("STEPWISE_DATABASE_URL", url.as_str()),
        ("STEPWISE_GATEWAY_URL", &house.gateway),
        ("STEPWISE_GATEWAY_KEY", GATEWAY_KEY),
        ("USER", "ann"),
    ];
    let stepwise =
        async |args: &[&str]| run(&house.folder, &[&["parked"], args].concat(), &environment).await;
    let json = |text: &str| serde_json::from_str::<Value>(text.trim()).expect("JSON");

    let (code, out, err) = stepwise(&["list"]).await;
    assert_eq!((code, out.lines().count()), (0, 2), "{out}{err}");
    assert!(out.starts_with(&format!("{agreed}  contradicts_our_books  ")), "{out}");
    let (_, out, _) = stepwise(&["show", strange]).await;
    assert_eq!(
        (&json(&out)["status"], &json(&out)["why"]),
        (&json!("waiting"), &json!("unknown_payment"))
    );

    let (code, out, err) = stepwise(&["retry", agreed, "--reason", "the books are right"]).await;
    assert_eq!((code, &json(&out)["status"]), (0, &json!("ended")), "{out}{err}");
    let (code, out, err) = stepwise(&["retry", strange, "--reason", "is it known now?"]).await;
    assert_eq!((code, &json(&out)["status"]), (1, &json!("waiting")), "{out}{err}");
    assert!(err.contains("still needs a person: unknown_payment"), "{err}");
    let (code, out, err) = stepwise(&["dismiss", strange, "--reason", "of the old shop"]).await;
    assert_eq!((code, &json(&out)["verbBy"]), (0, &json!("ann")), "{out}{err}");
    let (code, _, err) = stepwise(&["dismiss", strange, "--reason", "of the old shop"]).await;
    assert!(code == 1 && err.contains("has been ended before"), "{err}");
    let (code, _, err) = stepwise(&["retry", "evt_nobody", "--reason", "who?"]).await;
    assert!(code == 2 && err.contains("stepwise parked list"), "{err}");
    let (code, _, err) = stepwise(&["dismiss", agreed, "--reason", " "]).await;
    assert!(code == 2 && err.contains("reason must not be empty"), "{err}");
    let (code, out, _) = stepwise(&["list"]).await;
    assert_eq!((code, out.as_str()), (0, "none\n"));
    house.close().await;
}
