//! The public address of a shop, and settings that are refused by name.

use std::fs;

use serde_json::json;

use crate::site::{Site, eventually};

const PUBLIC: &str = "https://shop.example";

#[tokio::test]
async fn mails_events_and_the_document_name_the_public_address() {
    let site = Site::new();
    let up = site.up(&["--public-url", "https://shop.example/"]).await;
    assert!(up.base.starts_with("http://127.0.0.1:"), "this machine uses the local address");
    let (status, document) = up.get("", "/openapi.json").await;
    assert_eq!((status, &document["servers"][0]["url"]), (200, &json!(PUBLIC)));

    let ada = json!({"email": "ada@example.net", "password": "a lantern hums over wet slate",
        "firstName": "Ada", "lastName": "Byron"});
    let (status, customer) = up.post("", "/v1/customers", &ada).await;
    assert_eq!(status, 201, "{customer}");
    eventually("the mail", async || {
        let files = fs::read_dir(site.data.join("mail")).expect("a folder");
        let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
        let mut mails = texts.filter(|text| text.starts_with("To: ada@example.net\r\n"));
        mails.any(|text| text.contains(PUBLIC))
    })
    .await;

    let (_, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    let mut stream = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a plain client")
        .get(format!("{}/v1/events/stream", up.base))
        .bearer_auth(up.token("service"))
        .send()
        .await
        .expect("it answers");
    let mut read = String::new();
    while !read.contains("dataschema") {
        let part = stream.chunk().await.expect("it goes on").expect("an event comes");
        read.push_str(&String::from_utf8_lossy(&part));
    }
    assert!(read.contains(&format!("\"dataschema\":\"{PUBLIC}/schemas/shop.")), "{read}");
    drop(stream);
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn a_setting_that_cannot_be_right_is_refused_by_its_name_before_anything_starts() {
    let site = Site::new();
    for (option, value) in [
        ("--public-url", "https://shop.example/shop"),
        ("--allow-origin", "*"),
        ("--trusted-proxy", "everybody"),
        ("--proxy-header", "x-real-ip"),
        ("--currency", "dollars"),
        ("--currency", "JPY"),
        ("--shipping-cost", "free"),
        ("--free-shipping-from", "50.001"),
        ("--tax-rates", "CA=7.25"),
    ] {
        let (code, line) = site.refusal(&["up", option, value]).await;
        assert_eq!(code, 2, "{option}: {line}");
        let named = if value == "JPY" { "--shipping-cost" } else { option };
        assert!(line.contains(named), "{option} {value}: {line}");
    }
    assert!(!site.data.exists(), "nothing was started");
}
