//! The README's lines, run as they stand there.

use std::path::Path;

use tokio::process::Command;

use crate::site::Site;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).expect("there is a README")
}

#[test]
fn the_readme_shows_the_lines_that_up_prints() {
    assert!(
        readme().contains(include_str!("../../src/cli/up/tour.sh")),
        "README.md and tour.sh differ"
    );
}

#[tokio::test]
async fn the_lines_of_the_readme_end_in_a_placed_an_announced_and_a_cancelled_order() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let text = readme();
    let (_, rest) =
        text.split_once("```sh\n. .stepwise/demo.env\n").expect("the lines are in the README");
    let (lines, _) = rest.split_once("```").expect("the block ends");
    let variables = site.data.join("demo.env");
    let script =
        format!("set -eu\n. {}\n{lines}\necho; echo \"ORDER=$ORDER\"", variables.display());
    let done = Command::new("bash").args(["-c", &script]).output().await.expect("bash is there");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    let order =
        said.lines().find_map(|line| line.strip_prefix("ORDER=")).expect("there is an order");
    assert!(order.len() == 36, "{said}");
    assert!(said.contains("\"status\":\"pending\""), "the order is placed: {said}");
    assert!(
        said.contains("\"kind\":\"place-order\"") && said.contains("\"status\":\"completed\""),
        "{said}"
    );
    assert!(said.contains("shop.order.placed.v1"), "the event came: {said}");
    let (status, order) = up.get(&up.token("admin"), &format!("/v1/orders/{order}")).await;
    assert_eq!((status, order["status"].as_str()), (200, Some("cancelled")), "{order}");
    assert!(up.stop("TERM").await.success());
}
