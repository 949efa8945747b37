//! Runs the commands in the README as they are written there.

use std::path::Path;

use tokio::process::Command;

use crate::site::Site;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).expect("there is a README")
}

/// The README's code blocks that begin by reading the demo's variables, without that line.
fn blocks() -> Vec<String> {
    let text = readme();
    let begun = text.split("```sh\n. .stepwise/demo.env\n").skip(1);
    begun.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs lines in a shell with the demo's variables, and returns the output. Fails if there is an error.
async fn run(site: &Site, lines: &str) -> String {
    let variables = site.data.join("demo.env");
    let script = format!("set -eu\n. {}\n{lines}", variables.display());
    let done = Command::new("bash").args(["-c", &script]).output().await.expect("bash is there");
    let (said, errors) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && errors.is_empty(), "{said}\n{errors}");
    said.into_owned()
}

#[test]
fn the_readme_shows_the_lines_that_up_prints() {
    assert!(
        readme().contains(include_str!("../../src/cli/up/tour.sh")),
        "README.md and tour.sh differ"
    );
}

#[tokio::test]
async fn the_lines_of_the_readme_end_in_a_placed_an_announced_a_cancelled_and_a_delivered_order_and_one_paid_at_paypal()
 {
    let site = Site::new();
    let up = site.up(&[]).await;
    let said = run(&site, &format!("{}\necho \"ORDER=$ORDER\"", blocks()[0])).await;
    let lines: Vec<&str> = said.lines().collect();
    let [
        cart,
        placed,
        order,
        sagas,
        event,
        cancelled,
        _,
        confirmed,
        shipped,
        delivered,
        refunded,
        _,
        approved,
        paid,
        id,
    ] = lines[..]
    else {
        panic!("each answer has a line of its own: {said}");
    };
    assert!(cart.contains("\"quantity\":2"), "{cart}");
    assert!(placed.contains("\"status\":\"pending\""), "the order is placed: {placed}");
    assert_eq!(order, placed, "its operation's result is the order");
    assert!(
        sagas.contains("\"kind\":\"place-order\"") && sagas.contains("\"status\":\"completed\""),
        "{sagas}"
    );
    assert!(event.contains("shop.order.placed.v1"), "the event came: {event}");
    for (order, status) in [
        (cancelled, "cancelled"),
        (confirmed, "confirmed"),
        (shipped, "shipped"),
        (delivered, "delivered"),
    ] {
        assert!(order.contains(&format!("\"status\":\"{status}\"")), "{order}");
    }
    assert!(refunded.contains("\"status\":\"partially_refunded\""), "{refunded}");
    assert_eq!(approved, "\"status\":\"succeeded\"");
    assert!(paid.contains("\"status\":\"pending\""), "the order is paid at PayPal: {paid}");
    let order = id.strip_prefix("ORDER=").expect("there is an order");
    let (status, order) = up.get(&up.token("admin"), &format!("/v1/orders/{order}")).await;
    assert_eq!((status, order["status"].as_str()), (200, Some("cancelled")), "{order}");
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn the_order_of_the_readme_whose_shop_is_killed_ends_after_the_next_start() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let block = blocks()[1].clone();
    let (lines, start) = block.trim_end().rsplit_once('\n').expect("it ends with the next start");
    assert_eq!(start, "cargo run --release -- up");
    let said = run(&site, lines).await;
    up.killed().await;

    let up = site.up(&[]).await;
    let operation: serde_json::Value =
        serde_json::from_str(said.lines().last().unwrap_or_default()).expect("an operation");
    let text = |name: &str| operation[name].as_str().expect("a text").to_owned();
    let token = up.demo["customers"][0]["token"].as_str().expect("a text").to_owned();
    up.succeeded(&token, &text("id")).await;
    let (_, order) = up.get(&token, &format!("/v1/orders/{}", text("subject"))).await;
    assert_eq!(order["status"], "pending", "{order}");
    let confirmed = |line: &&serde_json::Value| {
        line["orderId"] == operation["subject"] && line["result"] == "confirmed"
    };
    assert_eq!(site.ledger().iter().filter(confirmed).count(), 1, "one authorization");
    assert!(up.stop("TERM").await.success());
}
