//! Reading of any address: `HEAD`, the addresses in `Location`, and the pages about problems.

use std::collections::BTreeMap;

use reqwest::{Method, header};
use serde_json::{Value, json};
use stepwise::door::codes::meaning;
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, address, product},
};

fn document() -> Value {
    serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON")
}

/// The headers that say something about the resource.
fn said(answer: &Answer) -> BTreeMap<String, String> {
    let told =
        answer.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
    told.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body_wherever_there_is_get() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let goods = product(&house, &admin, "20.00", 5).await;
    let document = document();
    let mut paths: Vec<(String, bool)> =
        ["/openapi.json", "/docs", "/problems/out-of-stock", "/v1/products"]
            .map(|path| (path.to_owned(), false))
            .to_vec();
    paths.push((format!("/v1/products/{goods}"), false));
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if methods["get"].is_object() {
            let id = Uuid::now_v7().to_string();
            let parts = path.split('/').map(|part| if part.starts_with('{') { &*id } else { part });
            let is_stream =
                methods["get"]["responses"]["200"]["content"]["text/event-stream"].is_object();
            paths.push((parts.collect::<Vec<_>>().join("/"), is_stream));
        }
    }
    assert!(paths.len() > 25, "only {} addresses", paths.len());
    let mut found = 0;
    for (path, is_stream) in &paths {
        let head = send(house.ask(Method::HEAD, path).bearer_auth(&admin)).await;
        assert_eq!(head.text, "", "{path}");
        if *is_stream {
            assert_eq!((head.status, head.header("allow")), (405, "GET"), "{path}");
            continue;
        }
        let get = send(house.get(path).bearer_auth(&admin)).await;
        assert_eq!((head.status, said(&head)), (get.status, said(&get)), "{path}");
        assert_eq!(head.header("content-length"), get.text.len().to_string(), "{path}");
        found += u32::from(get.status == 200);
    }
    assert!(found > 10, "only {found} were found");
    let no_get = send(house.ask(Method::HEAD, "/v1/sessions")).await;
    assert_eq!((no_get.status, no_get.header("allow")), (405, "POST"));
    house.close().await;
}

#[tokio::test]
async fn the_location_of_an_address_and_of_a_payment_method_answers_its_owner() {
    let house = House::open().await;
    let (shopper, other) = (Shopper::unverified(&house).await, Shopper::unverified(&house).await);
    let method = json!({"token": "pm_sandbox_ok", "brand": "visa", "last4": "4242"});
    for (list, body, unknown) in [
        ("addresses", address(), "address_not_found"),
        ("payment-methods", method, "payment_method_not_found"),
    ] {
        let added = shopper.post(&format!("/v1/customers/{{me}}/{list}"), &body).await;
        let at = added.is(201).header("location").to_owned();
        let read = shopper.get(&at).await;
        assert_eq!(read.is(200).json(), added.json());
        assert_eq!(other.get(&at).await.problem(), refusal(404, "customer_not_found"));
        let id = at.rsplit('/').next().expect("an id");
        let theirs = other.get(&format!("/v1/customers/{{me}}/{list}/{id}")).await;
        assert_eq!(theirs.problem(), refusal(404, unknown));
        send(shopper.ask(Method::DELETE, &at)).await.is(204);
        assert_eq!(shopper.get(&at).await.problem(), refusal(404, unknown));
    }
    house.close().await;
}

/// The codes that the document lists.
fn codes(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            let listed = fields.get("code").and_then(|code| code["enum"].as_array());
            found
                .extend(listed.into_iter().flatten().filter_map(|c| c.as_str()).map(str::to_owned));
            fields.values().for_each(|field| codes(field, found));
        }
        Value::Array(values) => values.iter().for_each(|value| codes(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_type_of_each_problem_leads_to_a_page_that_says_what_it_means_and_what_to_do() {
    let house = House::open().await;
    let refused = send(house.get("/v1/me")).await.json();
    let page = send(house.get(refused["type"].as_str().expect("an address"))).await.is(200).json();
    assert_eq!((&page["code"], &page["type"]), (&json!("token_missing"), &refused["type"]));
    let mut listed = Vec::new();
    codes(&document(), &mut listed);
    listed.sort();
    listed.dedup();
    assert!(listed.len() > 50, "{listed:?}");
    for code in &listed {
        let at = format!("/problems/{}", code.replace('_', "-"));
        let page = send(house.get(&at)).await.is(200).json();
        assert_eq!((&page["code"], &page["type"]), (&json!(code), &json!(at)));
        for text in [&page["meaning"], &page["advice"]] {
            let text = text.as_str().expect("a sentence");
            assert!(text.ends_with('.') && !text.contains('{'), "{code}: {text}");
        }
        assert!(meaning(code).is_some());
        let html = send(house.get(&at).header(header::ACCEPT, "text/html,*/*;q=0.8")).await;
        assert_eq!(html.is(200).header("content-type"), "text/html; charset=utf-8");
        assert!(html.text.contains(page["title"].as_str().expect("a title")), "{}", html.text);
    }
    for unknown in ["nothing-of-the-kind", "%3Cscript%3E"] {
        let answer = send(house.get(&format!("/problems/{unknown}"))).await;
        assert_eq!(answer.problem(), refusal(404, "problem_not_found"));
    }
    house.close().await;
}
