//! Conventions that hold for every address.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use poem::Endpoint;

use reqwest::Method;
use serde_json::Value;
use stepwise::door::edge::{Edge, RouteTable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::house::{House, refusal, send};

#[tokio::test]
async fn an_unknown_address_is_a_problem_whatever_it_is_made_of() {
    let house = House::open().await;
    let long = format!("/v1/{}", "x".repeat(8_000));
    for path in ["/", "/nothing", "/v1/orders/../..", "/v1/%00", "/v1/%ff%fe", long.as_str()] {
        let answer = send(house.get(path)).await;
        assert_eq!(answer.problem(), refusal(404, "not_found"), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_method_an_address_does_not_know_is_405_with_the_ones_it_knows() {
    let house = House::open().await;
    for method in ["OPTIONS", "TRACE", "PROPFIND", "DELETE"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a token");
        let answer = send(house.ask(method.clone(), "/healthz")).await;
        assert_eq!(answer.problem(), refusal(405, "method_not_allowed"), "{method}");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{method}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_query_parameter_nobody_knows_is_refused_by_name() {
    let house = House::open().await;
    let answer = send(house.get("/healthz?page=1")).await;
    assert_eq!(answer.problem(), refusal(400, "unknown_parameter"));
    house.close().await;
}

/// Every operation with an id in its address refuses an invalid id before it queries anything, so that none answers 500.
#[tokio::test]
async fn a_nul_in_a_path_or_query_parameter_is_refused_wherever_it_stands() {
    let house = House::open().await;
    let document: Value =
        serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("it is JSON");
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().expect("paths by address") {
        for (method, operation) in methods.as_object().expect("operations by method") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a token");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of = |place| parameters.clone().filter(move |p| p["in"] == place);
            let name = |p: &Value| p["name"].as_str().expect("a parameter has a name").to_owned();
            let in_queries = of("query").map(|p| format!("{path}?{}=a%00b", name(p)));
            let in_paths = of("path").map(|p| path.replace(&format!("{{{}}}", name(p)), "a%00b"));
            for address in in_queries.chain(in_paths) {
                let answer = send(house.ask(method.clone(), &address)).await;
                assert_eq!(answer.problem(), refusal(400, "invalid_character"), "{address}");
                asked += 1;
            }
        }
    }
    assert!(asked > 50, "only {asked} addresses were asked");
    let escaped = send(house.get("/v1/admin/sagas?subject=%2500")).await;
    assert_eq!(escaped.status, 401, "`%00` as text is a subject like any other");
    house.close().await;
}

#[tokio::test]
async fn a_token_in_the_address_is_refused() {
    let house = House::open().await;
    for query in ["token=abc", "access_token=abc", "x=sk_test_1_2"] {
        let answer = send(house.get(&format!("/healthz?{query}"))).await;
        assert_eq!(answer.problem(), refusal(400, "token_in_query"), "{query}");
    }
    house.close().await;
}

#[tokio::test]
async fn the_database_away_is_503_within_two_seconds_and_says_when_to_come_back() {
    let house = House::open().await;
    send(house.get("/readyz")).await.is(200);
    // All connections are in use. An overloaded or lost database looks the same to the front door.
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(house.door.db.acquire().await.expect("one of ten"));
    }
    let began = Instant::now();
    let answer = send(house.get("/readyz")).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(answer.problem(), refusal(503, "database_unavailable"));
    assert_eq!(answer.json()["retryable"], true);
    assert_eq!(answer.header("retry-after"), "1");
    drop(taken);
    send(house.get("/readyz")).await.is(200);
    send(house.get("/healthz")).await.is(200);
    house.close().await;
}

#[tokio::test]
async fn lists_and_searches_leave_half_of_the_connections_to_others() {
    let house = House::open().await;
    send(house.get("/v1/products?search=cup")).await.is(200);
    let mut admin = house.database.pool().begin().await.expect("a connection");
    let lock = "lock table shop.product in access exclusive mode";
    sqlx::query(lock).execute(&mut *admin).await.expect("nobody uses it");
    let searches: Vec<_> =
        (0..20).map(|_| tokio::spawn(send(house.get("/v1/products?search=cup")))).collect();
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        // A transaction would see the sessions as they were at its first look.
        let found = sqlx::query_scalar::<_, i64>(waiting).fetch_one(house.database.pool());
        let found = found.await.expect("read");
        assert!(found <= 5, "{found} of the 10 connections are used for searches");
        if found == 5 {
            break;
        }
        assert!(Instant::now() < deadline, "{found} searches wait for the lock");
    }
    let began = Instant::now();
    send(house.get("/readyz")).await.is(200);
    send(house.get("/v1/categories")).await.is(200);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    admin.rollback().await.expect("nothing was changed");
    for search in searches {
        let answer = search.await.expect("it does not panic");
        if answer.status != 200 {
            let (status, code) = answer.problem();
            assert!(status == 503 && ["reads_busy", "busy"].contains(&code.as_str()), "{code}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_connection_closed() {
    let house = House::open().await;
    let address = house.base.trim_start_matches("http://").to_owned();
    let attempts = [
        // two contradictory lengths of the body
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for attempt in attempts {
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        stream.write_all(attempt.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers and closes");
        assert!(answer.starts_with("HTTP/1.1 400"), "{attempt}: {answer}");
    }
    house.close().await;
}

#[tokio::test]
async fn the_document_and_its_page_are_served_without_the_network() {
    let house = House::open().await;
    let document = send(house.get("/openapi.json")).await;
    assert!(document.is(200).json()["openapi"].as_str().is_some_and(|v| v.starts_with("3.0")));
    let page = send(house.get("/docs")).await;
    assert!(page.is(200).text.contains("swagger"));
    assert!(!page.text.contains("src=\"http"), "nothing is fetched from elsewhere");
    house.close().await;
}

/// Sends a request whose body never ends, one byte after each of these pauses. Returns the answer and when it came.
async fn send_slowly(house: &House, key: &str, every: Duration) -> (String, Duration) {
    let address = house.base.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut incoming, mut outgoing) = stream.into_split();
    let head = format!(
        "POST /v1/categories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    );
    let began = Instant::now();
    outgoing.write_all(head.as_bytes()).await.expect("it reads");
    let trickling = async {
        // This fails once the server has closed the connection.
        while outgoing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(every).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let answered = async {
        // A byte that arrives after the answer may reset the connection.
        while incoming.read_buf(&mut answer).await.is_ok_and(|bytes| bytes > 0) {}
    };
    tokio::select! {
        () = answered => {}
        () = trickling => {}
    }
    (String::from_utf8(answer).expect("UTF-8"), began.elapsed())
}

#[tokio::test]
async fn a_body_that_does_not_come_or_trickles_is_given_up_after_ten_seconds() {
    let house = House::open().await;
    let key = house.key("admin", &[]).await;
    let slow = [Duration::from_secs(60), Duration::from_millis(200)];
    let answers = join_all(slow.map(|every| send_slowly(&house, &key, every))).await;
    for (answer, took) in answers {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
        assert!((9..12).contains(&took.as_secs()), "{took:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_handler_that_panics_is_a_problem_and_the_server_goes_on() {
    let house = House::open().await;
    let document = serde_json::json!({"paths": {"/boom": {"get": {}}}});
    let table = RouteTable::new(&document, &[]);
    let edge = Edge::new(poem::endpoint::make_sync(boom), Arc::clone(&house.door), table);
    for _ in 0..2 {
        let request = poem::Request::builder().uri_str("/boom").header("host", "x").finish();
        let response = edge.call(request).await.expect("the edge lets nothing through");
        assert_eq!(response.status(), 500);
        let body = response.into_body().into_string().await.expect("text");
        let body: serde_json::Value = serde_json::from_str(&body).expect("a problem");
        assert_eq!(body["code"], "internal_error");
        assert!(!body.to_string().contains("nobody may read this"));
    }
    house.close().await;
}

fn boom(_: poem::Request) {
    panic!("nobody may read this");
}
