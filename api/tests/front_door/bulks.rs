//! `stepwise saga bulk`: one verb for many sagas.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{Folder, run},
    house::House,
    shopper::{Shopper, product},
};

/// Runs a command that succeeds, and returns its one line of output.
async fn line(folder: &Folder, args: &[&str], env: &[(&str, &str)]) -> Value {
    let (code, stdout, stderr) = run(folder, args, env).await;
    assert_eq!(code, 0, "{args:?}: {stderr}");
    serde_json::from_str(stdout.trim()).expect("JSON")
}

#[tokio::test]
async fn a_bulk_is_planned_applied_and_watched_on_a_terminal() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("challenge").await);
    shopper.place(&body, 0).await.is(202);

    let folder = &house.folder;
    let url = house.database.url();
    let env = [
        ("STEPWISE_DATABASE_URL", url.as_str()),
        ("STEPWISE_GATEWAY_URL", "http://127.0.0.1:9"),
        ("USER", "ann"),
    ];
    let begun = Instant::now();
    loop {
        let (_, waiting, _) = run(folder, &["saga", "list", "--waiting-on", "signal"], &env).await;
        if waiting != "none\n" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain for the challenge");
    }
    let bulk = ["saga", "bulk"];
    let all = ["--name", "place-order", "--waiting-on", "signal", "--reason", "looking", "--json"];
    let plan = |verb| [&bulk[..], &["plan", "--verb", verb], &all[..]].concat();
    let cancel = line(folder, &plan("cancel"), &env).await;
    assert_eq!((&cancel["items"], &cancel["left"]), (&json!(1), &json!(1)));
    assert_eq!(cancel["summary"]["statuses"], json!([{"what": "unwinding", "count": 1}]));
    assert_eq!((&cancel["status"], &cancel["plannedBy"]), (&json!("planned"), &json!("ann")));
    let pause = line(folder, &plan("pause"), &env).await;
    let id = pause["id"].as_str().expect("an id");

    let apply = |expect| [&bulk[..], &["apply", id, "--expect", expect]].concat();
    let (code, _, stderr) = run(folder, &apply("2"), &env).await;
    assert!(code == 1 && stderr.contains("1 sagas would be touched, not 2"), "{stderr}");
    let (code, stdout, stderr) = run(folder, &apply("1"), &env).await;
    assert!(code == 0 && stdout.contains("running"), "{stdout} {stderr}");
    let show = [&bulk[..], &["show", id, "--items", "10", "--json"]].concat();
    let shown = loop {
        let shown = line(folder, &show, &env).await;
        if shown["status"] == "done" {
            break shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "waited in vain for {shown}");
    };
    assert_eq!((&shown["applied"], &shown["left"]), (&json!(1), &json!(0)));
    assert_eq!(shown["page"][0]["result"], "applied");
    assert_eq!(shown["page"][0]["outlook"]["status"], "paused");
    let (_, paused, _) = run(folder, &["saga", "list", "--status", "paused"], &env).await;
    assert!(paused.contains("place-order"), "{paused}");

    let (code, list, _) = run(folder, &["saga", "bulk", "list"], &env).await;
    assert!(code == 0 && list.lines().count() == 2 && list.contains(id), "{list}");
    let (code, _, stderr) = run(folder, &["saga", "bulk", "stop", id], &env).await;
    assert!(code == 1 && stderr.contains("it is done"), "{stderr}");
    let nowhere = Uuid::now_v7().to_string();
    for verb in ["show", "stop", "resume"] {
        assert_eq!(run(folder, &["saga", "bulk", verb, &nowhere], &env).await.0, 2, "{verb}");
    }
    let everything = ["saga", "bulk", "plan", "--verb", "cancel", "--reason", "all of it"];
    assert_eq!(run(folder, &everything, &env).await.0, 2, "it must be said which");
    assert_eq!(run(folder, &plan("destroy"), &env).await.0, 2, "no such verb");
    house.close().await;
}

#[tokio::test]
async fn a_bulk_of_everything_or_of_another_number_than_was_shown_is_refused() {
    let house = House::open().await;
    let (folder, url) = (&house.folder, house.database.url());
    let env = [
        ("STEPWISE_DATABASE_URL", url.as_str()),
        ("STEPWISE_GATEWAY_URL", "http://127.0.0.1:9"),
        ("USER", "ann"),
    ];
    let plan = ["saga", "bulk", "plan", "--verb", "retry", "--reason", "all of it", "--json"];
    let (code, _, stderr) = run(folder, &plan, &env).await;
    assert!(code == 2 && stderr.contains("no sagas are selected"), "{code} {stderr}");
    let (_, plans, _) = run(folder, &["saga", "bulk", "list", "--json"], &env).await;
    assert_eq!(plans, "", "a refused plan was recorded");

    let stuck = line(folder, &[&plan[..], &["--status", "stuck"]].concat(), &env).await;
    let id = stuck["id"].as_str().expect("an id");
    let (code, _, stderr) = run(folder, &["saga", "bulk", "apply", id], &env).await;
    assert!(code == 2 && stderr.contains("--expect"), "{code} {stderr}");
    let (code, _, stderr) =
        run(folder, &["saga", "bulk", "apply", id, "--expect", "5"], &env).await;
    assert!(code == 1 && stderr.contains("0 sagas would be touched, not 5"), "{code} {stderr}");
    let shown = line(folder, &["saga", "bulk", "show", id, "--json"], &env).await;
    assert_eq!(shown["status"], "planned");
    house.close().await;
}
