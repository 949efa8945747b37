//! `up` is killed without warning, and the next start continues its work.

use crate::site::{Site, eventually, kill};

#[tokio::test]
async fn an_order_in_flight_survives_a_kill_of_the_whole_group() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let (order, operation, token) = up.order("timeoutAfter").await;
    // The gateway acts and never answers, so it is unknown at the kill whether money has moved.
    let confirmed = || {
        site.ledger()
            .iter()
            .filter(|line| line["orderId"] == order && line["op"] == "confirm")
            .count()
    };
    eventually("the gateway to be asked", async || confirmed() == 1).await;
    up.kill_group().await;

    let up = site.up(&[]).await;
    up.succeeded(&token, &operation).await;
    let (_, settled) = up.get(&token, &format!("/v1/orders/{order}")).await;
    assert_eq!(settled["status"], "pending", "{settled}");
    assert_eq!(confirmed(), 1, "charged once: {:?}", site.ledger());
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn killed_at_any_moment_of_its_start_it_starts_again() {
    let site = Site::new();
    for moment_ms in [5_u64, 40, 150, 400, 900, 1_500] {
        let mut child = site.command(&["up", "--port", "0", "--no-demo"]);
        let log = std::fs::File::create(site.data.with_extension("killed")).expect("writable");
        let mut child = child.stderr(log).spawn().expect("the binary starts");
        tokio::time::sleep(std::time::Duration::from_millis(moment_ms)).await;
        kill("KILL", &format!("-{}", child.id().expect("not waited for")));
        child.wait().await.expect("it was ours");
    }
    let up = site.up(&[]).await;
    assert_eq!(up.get("", "/readyz").await.0, 200);
    assert!(up.stop("TERM").await.success());
    assert_eq!(site.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_gateway_that_dies_is_replaced_with_its_book() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let (_, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    let (pid, booked) = (site.gateway_pid(), site.ledger());
    kill("KILL", &pid.to_string());
    eventually("another gateway", async || site.gateway_pid() != pid).await;
    assert_eq!(site.ledger(), booked);

    let (_, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    assert!(up.stop("TERM").await.success());
}
