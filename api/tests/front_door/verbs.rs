//! The commands that act on one saga, and the deploy gate, through the real binary.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::run,
    house::House,
    shopper::{Shopper, id, product},
};

/// A shop without workers, where a stuck saga stays stuck until a verb moves it.
struct Desk {
    house: House,
    url: String,
}

impl Desk {
    async fn new() -> Self {
        let house = House::open().await;
        let url = house.database.url();
        Self { house, url }
    }

    /// Starts another placement, whose first activity waits for a worker.
    async fn placement(&self) -> Uuid {
        let admin = self.house.key("admin", &[]).await;
        let thing = product(&self.house, &admin, "10.00", 5).await;
        let shopper = Shopper::new(&self.house).await;
        shopper.add(thing, 1).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method("ok").await);
        id(&shopper.place(&body, 0).await.is(202).json()["id"])
    }

    /// Starts a placement that is stuck because the gateway did not answer.
    async fn stuck(&self) -> Uuid {
        let id = self.placement().await;
        self.set(id, "status = 'stuck', waiting_on = 'operator', wake_at = null, attempt = 9")
            .await;
        id
    }

    async fn set(&self, id: Uuid, how: &str) {
        let statement =
            format!("-- name: test set\nupdate saga.instance set {how} where saga_id = $1");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id)
            .execute(self.house.database.pool())
            .await
            .expect("the database is there");
    }

    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let env = [
            ("STEPWISE_DATABASE_URL", self.url.as_str()),
            ("STEPWISE_GATEWAY_URL", "http://127.0.0.1:9"),
            ("USER", "ann"),
        ];
        run(&self.house.folder, args, &env).await
    }

    /// Runs the command and returns its output.
    async fn does(&self, verb: &str, id: Uuid, options: &[&str]) -> Value {
        let id = id.to_string();
        let args = [&["saga", verb, &id, "--reason", "mended"], options].concat();
        let (code, stdout, stderr) = self.run(&args).await;
        assert_eq!(code, 0, "{args:?}: {stderr}");
        serde_json::from_str(stdout.trim()).expect("JSON")
    }

    /// Runs a command that is refused, and returns its exit code and the reason.
    async fn refuses(&self, verb: &str, id: Uuid, options: &[&str]) -> (i32, String) {
        let id = id.to_string();
        let args = [&["saga", verb, &id, "--reason", "mended"], options].concat();
        let (code, _, stderr) = self.run(&args).await;
        (code, stderr)
    }

    async fn status(&self, id: Uuid) -> (String, i32) {
        sqlx::query_as(
            "-- name: test status\nselect status, seq from saga.instance where saga_id = $1",
        )
        .bind(id)
        .fetch_one(self.house.database.pool())
        .await
        .expect("it is there")
    }
}

#[tokio::test]
async fn a_stuck_saga_is_retried_edited_marked_done_skipped_and_handed_over_on_a_terminal() {
    let desk = Desk::new().await;
    let saga = desk.stuck().await;
    let before = desk.status(saga).await;
    let planned = desk.does("retry", saga, &["--plan"]).await;
    assert_eq!(
        (&planned["planned"], &planned["then"]["status"]),
        (&json!(true), &json!("running"))
    );
    assert!(planned["then"]["next"].as_str().is_some_and(|next| next.starts_with("Create(")));
    assert_eq!(desk.status(saga).await, before, "a plan changes nothing");

    let (code, why) = desk.refuses("skip", saga, &[]).await;
    assert!(code == 1 && why.contains("must not be skipped"), "{why}");
    let (code, why) = desk.refuses("retry", saga, &["--seq", "99"]).await;
    assert!(code == 1 && why.contains("moved on"), "{why}");
    let (code, why) = desk.refuses("edit", saga, &["--step", "\"Shout\""]).await;
    assert!(code == 1 && why.contains("does not fit"), "{why}");
    let (code, why) = desk.refuses("edit", saga, &["--step", "{"]).await;
    assert!(code == 2 && why.contains("--step is not JSON"), "{why}");
    assert_eq!(desk.status(saga).await, before, "what is refused changes nothing");

    let once = ["--request-id", "once"];
    assert_eq!(desk.does("retry", saga, &once).await["then"]["status"], "running");
    assert_eq!(desk.does("retry", saga, &once).await, json!({ "repeated": true }));

    let edited = desk.stuck().await;
    let other = Uuid::now_v7();
    let step = json!({ "Create": {
        "order": other, "payment_method": other, "amount": { "amount": "1.00", "currency": "USD" },
    } });
    let then = &desk.does("edit", edited, &["--step", &step.to_string()]).await["then"];
    assert!(then["next"].as_str().is_some_and(|next| next.contains(&other.to_string())), "{then}");

    let done = desk.stuck().await;
    let found = ["--evidence", "their page", "--event", "{\"Created\": \"pi_7\"}"];
    let (code, why) = desk.refuses("done", done, &found).await;
    assert!(code == 1 && why.contains("what stands outside"), "{why}");
    let then =
        &desk.does("done", done, &[&found[..], &["--reference", "pi_7"]].concat()).await["then"];
    assert!(then["next"].as_str().is_some_and(|next| next.starts_with("Confirm(")), "{then}");

    let given_up = desk.stuck().await;
    let then = desk.does("hand-over", given_up, &["--to", "finance"]).await;
    assert_eq!(then["then"]["status"], "abandoned");
    assert_eq!(desk.status(given_up).await.0, "abandoned");
    let (code, stdout, _) = desk.run(&["saga", "show", &given_up.to_string(), "--json"]).await;
    let shown: Value = serde_json::from_str(stdout.trim()).expect("JSON");
    let told = shown["journal"].as_array().expect("a journal").last().expect("an entry");
    assert_eq!((code, &told["event"]["by"]), (0, &json!("ann")));
    assert_eq!(told["event"]["reason"], "mended");
    desk.house.close().await;
}

#[tokio::test]
async fn a_saga_is_paused_resumed_and_cancelled_on_a_terminal() {
    let desk = Desk::new().await;
    let saga = desk.placement().await;
    let (code, why) = desk.refuses("resume", saga, &[]).await;
    assert!(code == 1 && why.contains("it is running"), "{why}");
    desk.does("pause", saga, &[]).await;
    assert_eq!(desk.status(saga).await.0, "paused");
    desk.does("resume", saga, &[]).await;
    assert_eq!(desk.status(saga).await.0, "running");
    let before = desk.status(saga).await;
    let planned = &desk.does("cancel", saga, &["--plan"]).await["then"];
    assert_eq!(planned["status"], "unwinding");
    let undoes = planned["undoes"].as_array().expect("a list");
    assert!(
        undoes[0].as_str().is_some_and(|undo| undo.starts_with("release_stock ReserveStock(")),
        "{planned}"
    );
    assert_eq!(desk.status(saga).await, before, "a plan changes nothing");
    desk.does("cancel", saga, &[]).await;
    assert_eq!(desk.status(saga).await.0, "unwinding");
    let (code, why) = desk.refuses("cancel", Uuid::now_v7(), &[]).await;
    assert!(code == 1 && why.contains("there is no such saga"), "{why}");
    desk.house.close().await;
}

#[tokio::test]
async fn the_gate_names_as_json_what_this_version_cannot_go_on_with() {
    let desk = Desk::new().await;
    let saga = desk.placement().await;
    let (code, stdout, stderr) = desk.run(&["check", "--json"]).await;
    let fits: Value = serde_json::from_str(stdout.trim()).expect("JSON");
    assert_eq!((code, fits), (0, json!({ "fits": true, "mismatches": [] })), "{stderr}");
    desk.set(saga, "version = 99").await;
    let (code, stdout, stderr) = desk.run(&["check", "--json"]).await;
    assert_eq!(code, 4, "{stderr}");
    let found: Value = serde_json::from_str(stdout.trim()).expect("JSON");
    assert_eq!(
        found,
        json!({ "fits": false, "mismatches": [{
            "kind": "place-order", "version": 99, "why": "this binary knows versions up to 2 only", "count": 1, "samples": [saga],
        }] })
    );
    desk.house.close().await;
}

#[tokio::test]
async fn sagas_are_listed_by_tag_and_priority_on_a_terminal() {
    let desk = Desk::new().await;
    let (saga, other) = (desk.placement().await, desk.placement().await);
    desk.set(saga, "tags = '{\"shop\": \"5\"}', priority = 2").await;
    let listed = async |options: &[&str]| {
        let (code, stdout, stderr) = desk
            .run(&[&["saga", "list", "--kind", "place-order", "--json"], options].concat())
            .await;
        assert_eq!(code, 0, "{stderr}");
        let sagas = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        sagas.map(|saga| id(&saga["id"])).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]).await, [other, saga], "newest first");
    assert_eq!(listed(&["--tag", "shop=5"]).await, [saga]);
    assert!(listed(&["--tag", "shop=5", "--tag", "region=eu"]).await.is_empty());
    assert_eq!(listed(&["--priority", "normal"]).await, [other]);
    assert!(listed(&["--parent", &saga.to_string()]).await.is_empty());
    for wrong in [["--tag", "shop"], ["--priority", "urgent"]] {
        let (code, _, stderr) = desk.run(&[&["saga", "list"], &wrong[..]].concat()).await;
        assert_eq!(code, 2, "{stderr}");
    }
    let (_, stdout, _) = desk.run(&["saga", "show", &saga.to_string()]).await;
    assert!(stdout.contains("tag        shop=5") && stdout.contains("priority   low"), "{stdout}");
    desk.house.close().await;
}
