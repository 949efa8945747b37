//! How the front door is reached: pages of other origins, its public address, and its metrics.

use reqwest::Method;
use stepwise::door::{DoorSettings, limits::Rates};

use crate::house::{House, refusal, send};

const SHOP: &str = "https://pages.shop.example";

fn settings() -> DoorSettings {
    DoorSettings {
        rates: Rates::OFF,
        allowed_origins: vec![SHOP.to_owned()],
        public_url: Some("https://api.shop.example".to_owned()),
        ..DoorSettings::default()
    }
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_call_and_others_may_not() {
    let house = House::open_as(settings()).await;
    let ask = |origin: &str, method: Method, path: &str| {
        house.ask(method, path).header("origin", origin.to_owned())
    };
    let preflight = ask(SHOP, Method::OPTIONS, "/v1/orders")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,idempotency-key");
    let answer = send(preflight).await;
    answer.is(204);
    assert_eq!(answer.header("access-control-allow-origin"), SHOP);
    assert_eq!(answer.header("access-control-allow-methods"), "GET, HEAD, POST");
    let sent = answer.header("access-control-allow-headers");
    for name in ["authorization", "content-type", "idempotency-key", "if-match", "prefer"] {
        assert!(sent.split(", ").any(|allowed| allowed == name), "{name} in {sent}");
    }
    for path in ["/v1/products", "/v1/orders", "/v1/nothing"] {
        let answer = send(ask(SHOP, Method::GET, path)).await;
        assert_eq!(answer.header("access-control-allow-origin"), SHOP, "{path}: a refusal as well");
        assert_eq!(answer.header("vary"), "origin");
        assert!(answer.header("access-control-expose-headers").contains("etag"), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "no cookies");
    }
    for stranger in ["https://shop.example", "https://pages.shop.example.org", "null"] {
        let preflight = ask(stranger, Method::OPTIONS, "/v1/orders");
        let answer = send(preflight.header("access-control-request-method", "POST")).await;
        assert_eq!(answer.problem(), refusal(405, "method_not_allowed"), "{stranger}");
        let answer = send(ask(stranger, Method::GET, "/v1/products")).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{stranger}");
        assert_eq!(answer.header("vary"), "origin", "a cache must not mix them up");
    }
    house.close().await;
}

#[tokio::test]
async fn no_page_of_another_origin_may_call_unless_it_is_configured() {
    let house = House::open().await;
    let request = house.ask(Method::OPTIONS, "/v1/orders").header("origin", SHOP);
    let answer = send(request.header("access-control-request-method", "POST")).await;
    assert_eq!(answer.problem(), refusal(405, "method_not_allowed"));
    let answer = send(house.get("/v1/products").header("origin", SHOP)).await;
    answer.is(200);
    assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), ("", ""));
    house.close().await;
}

#[tokio::test]
async fn the_document_names_the_public_address() {
    let house = House::open_as(settings()).await;
    let document = send(house.get("/openapi.json")).await.is(200).json();
    assert_eq!(document["servers"][0]["url"], "https://api.shop.example");
    house.close().await;
}

#[tokio::test]
async fn the_metrics_are_not_shown_through_a_proxy_on_this_machine() {
    let house = House::open().await;
    send(house.get("/metrics")).await.is(200);
    for header in ["x-forwarded-for", "forwarded", "via"] {
        let answer = send(house.get("/metrics").header(header, "127.0.0.1")).await;
        assert_eq!(answer.problem(), refusal(404, "not_found"), "{header}");
    }
    house.close().await;
}
