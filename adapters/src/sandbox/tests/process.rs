//! Tests of the gateway as a process that is killed at any moment.

use std::process::{Child, Command, Stdio};

use rand::RngExt as _;
use stepwise_engine::testing::Seed;
use tokio::sync::watch;

use super::*;

/// The child process, which is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it is gone");
    }
}

/// Starts the crate's example `sandbox`, which cargo builds with the tests.
fn start(folder: &Folder, address: &str) -> Killed {
    let test = std::env::current_exe().expect("a test is a program");
    let target = test.ancestors().nth(2).expect("it lies in target/<profile>/deps");
    let child = Command::new(target.join("examples/sandbox"))
        .arg(address)
        .arg(folder.path().join("ledger.jsonl"))
        .arg(API_KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the example is built");
    Killed(child)
}

#[tokio::test]
async fn a_gateway_killed_at_any_moment_keeps_every_answer_it_gave() {
    let mut random = Seed::new().rng();
    let folder = Folder::new();
    // The port is free at this moment; the child takes it, and takes it again after each restart.
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound").to_string()
    };
    let url = format!("http://{address}").parse().expect("a URL");
    let gateway = StripeGateway::new(GatewayConfig::new(url, API_KEY.into())).expect("made");

    let mut answered: Vec<(String, Reference)> = Vec::new();
    for round in 0..4 {
        let child = start(&folder, &address);
        eventually("the gateway's start", async || {
            gateway.find(&Reference("pi_ok_0".into())).await.is_ok()
        })
        .await;
        // Every earlier answer is repeated from the ledger alone.
        for (key, reference) in &answered {
            let again = gateway.confirm(key, reference).await.expect("answered");
            assert_eq!(again, Confirmation::Confirmed(reference.clone()));
        }
        let count = watch::Sender::new(0);
        let orders = (0..16).map(|lane| place_until_killed(&gateway, round, lane, &count));
        // By then the other lanes are anywhere in a call.
        let (enough, mut counted) = (random.random_range(15..100), count.subscribe());
        let killer = async {
            let counted = counted.wait_for(|count| *count >= enough);
            let done = tokio::time::timeout(Duration::from_secs(30), counted).await;
            done.expect("it answers").expect("it is counted");
            drop(child);
        };
        let (lanes, ()) = futures::join!(futures::future::join_all(orders), killer);
        answered.extend(lanes.into_iter().flatten());
    }

    assert!(answered.len() >= 4 * 15, "only {} orders", answered.len());
    let lines = ledger::read(&folder.path().join("ledger.jsonl")).expect("whole lines");
    let booked = ledger::authorizations(&lines);
    for (key, reference) in &answered {
        assert!(booked[&reference.0].is_live(), "{key}");
        let confirms =
            lines.iter().filter(|line| line.op == Op::Confirm && line.reference == reference.0);
        assert_eq!(confirms.count(), 1, "{key}");
    }
}

/// Confirms one order after the other until the gateway is gone. Returns the orders for which an answer came.
async fn place_until_killed(
    gateway: &StripeGateway,
    round: usize,
    lane: usize,
    count: &watch::Sender<usize>,
) -> Vec<(String, Reference)> {
    let mut answered = Vec::new();
    for number in 0.. {
        let key = format!("{round}/{lane}/{number}");
        let created = gateway.create(&key, &charge(SandboxMethod::Ok)).await;
        let Ok(Creation::Created(reference)) = created else { break };
        let key = format!("confirm {key}");
        match gateway.confirm(&key, &reference).await {
            Ok(confirmation) => {
                assert_eq!(confirmation, Confirmation::Confirmed(reference.clone()));
                answered.push((key, reference));
                count.send_modify(|count| *count += 1);
            }
            Err(_) => break,
        }
    }
    answered
}
