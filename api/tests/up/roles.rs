//! The roles as separate processes, on a database that `up` does not run.

use std::net::TcpListener;

use stepwise_engine::testing::Database;

use crate::site::{Site, eventually};

#[tokio::test]
async fn api_worker_relay_and_gateway_also_work_as_processes_of_their_own() {
    let database = Database::fresh(&[]).await;
    let (site, url) = (Site::new(), database.url());
    // Fill the shop with an `up` on the user's database.
    let mut up = site.up(&["--database-url", &url]).await;
    assert_eq!(up.demo["databaseUrl"], url.as_str());
    assert!(!site.data.join("postgres").exists(), "no database of its own");
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("bound").port().to_string()
    };
    up.leave_to(&port).await;

    let _gateway = site.role(&["gateway", "--port", &port]);
    let roles = |role: &'static str| site.role(&[role, "--database-url", &url, "--port", &port]);
    eventually("the gateway's note", async || site.gateway_lives()).await;
    let (mut api, mut worker, mut relay) = (roles("serve"), roles("work"), roles("relay"));
    eventually("the front door", async || up.is_ready().await).await;
    let (_, ready) = up.get("", "/readyz").await;
    assert_eq!(
        (&ready["worker"]["state"], &ready["gateway"]["state"]),
        (&"elsewhere".into(), &"ok".into())
    );
    let (_, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    let waiting = async || {
        let left: i64 = sqlx::query_scalar("select count(*) from saga.outbox")
            .fetch_one(database.pool())
            .await
            .expect("readable");
        left == 0
    };
    eventually("the events to be published", waiting).await;
    for role in [&mut api, &mut worker, &mut relay] {
        crate::site::kill("TERM", &role.id().expect("it runs").to_string());
        assert!(role.wait().await.expect("ours").success());
    }
    database.close().await;
}
