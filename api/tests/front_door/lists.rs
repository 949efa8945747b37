//! Lists of products and orders: filters, search, order and cursors.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{House, refusal, send},
    shopper::{Shopper, id, product},
};

/// Name, description, price.
const GOODS: [(&str, &str, &str); 6] = [
    ("Espresso cups, set of four", "White porcelain.", "24.00"),
    ("Cast-iron skillet", "For eggs. Never in a dishwasher.", "44.99"),
    ("Bluetooth keyboard", "Works with tablets.", "79.00"),
    ("Dishwasher tablets", "Sixty of them.", "12.50"),
    ("Coffee mill", "Grinds beans for one espresso cup.", "32.00"),
    ("Draft of a lamp", "Not yet on sale.", "59.99"),
];

struct Catalogue<'h> {
    house: &'h House,
    admin: String,
    category: Uuid,
}

impl<'h> Catalogue<'h> {
    /// Creates the goods. The last one stays a draft.
    async fn new(house: &'h House) -> Self {
        let admin = house.key("admin", &[]).await;
        let post = async |path: &str, body: &Value| {
            let request = house.ask(Method::POST, path).bearer_auth(&admin);
            let request = request.header("idempotency-key", Uuid::now_v7().to_string());
            send(request.json(body)).await
        };
        let category = post("/v1/categories", &json!({"name": "Kitchen"})).await.is(201).json();
        let category = id(&category["id"]);
        for (name, description, price) in GOODS {
            let body = json!({
                "name": name, "description": description, "categoryId": category,
                "price": {"amount": price, "currency": "USD"},
            });
            let product = post("/v1/products", &body).await.is(201).json();
            if !name.starts_with("Draft") {
                let product = id(&product["id"]);
                post(&format!("/v1/products/{product}/activate"), &json!({})).await.is(200);
            }
        }
        Self { house, admin, category }
    }

    /// The names on all pages of this list, read page by page.
    async fn names(&self, query: &str, token: Option<&str>) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/products?limit=2&{query}{cursor}");
            let mut request = self.house.get(&path);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let page = send(request).await.is(200).json();
            let items = page["items"].as_array().expect("a list");
            names.extend(items.iter().map(|item| item["name"].as_str().expect("text").to_owned()));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return names,
            }
        }
    }

    async fn refused(&self, query: &str) -> (u16, String) {
        send(self.house.get(&format!("/v1/products?{query}"))).await.problem()
    }
}

#[tokio::test]
async fn a_search_finds_words_in_any_form_and_names_that_are_spelt_nearly_so() {
    let house = House::open().await;
    let catalogue = Catalogue::new(&house).await;
    let find = |query: &'static str| catalogue.names(query, None);
    assert_eq!(find("search=skillets").await, [GOODS[1].0], "the plural");
    let both = [GOODS[0].0, GOODS[4].0];
    assert_eq!(find("search=espresso+cup").await, both, "a name counts more than a description");
    assert_eq!(find("search=dishwasher").await, [GOODS[3].0, GOODS[1].0]);
    assert_eq!(find("search=dishwasher+-eggs").await, [GOODS[3].0]);
    assert_eq!(find("search=bluetoth").await, [GOODS[2].0], "a letter is missing");
    assert_eq!(find("search=keybord").await, [GOODS[2].0]);
    assert_eq!(find("search=skil").await, [GOODS[1].0], "the begin of a word");
    for nothing in
        ["search=zebra", "search=%27+or+1%3D1", "search=%25", "search=the", "search=lamp"]
    {
        assert!(find(nothing).await.is_empty(), "{nothing}");
    }
    let staff = catalogue.names("search=lamp", Some(&catalogue.admin)).await;
    assert_eq!(staff, [GOODS[5].0]);
    // A name that changes is found under the new one.
    let list = send(house.get("/v1/products?search=mill")).await.is(200).json();
    let mill = id(&list["items"][0]["id"]);
    let rename = house.ask(Method::PATCH, &format!("/v1/products/{mill}"));
    send(rename.bearer_auth(&catalogue.admin).json(&json!({"name": "Grinder"}))).await.is(200);
    assert_eq!(find("search=grinders").await, ["Grinder"]);
    house.close().await;
}

#[tokio::test]
async fn products_are_filtered_and_sorted_page_by_page() {
    let house = House::open().await;
    let catalogue = Catalogue::new(&house).await;
    let find = |query: &'static str| catalogue.names(query, None);
    let named = |of: &[usize]| of.iter().map(|n| GOODS[*n].0.to_owned()).collect::<Vec<_>>();
    assert_eq!(find("").await, named(&[0, 1, 2, 3, 4]));
    assert_eq!(find("sort=newest").await, named(&[4, 3, 2, 1, 0]));
    assert_eq!(find("sort=cheapest").await, named(&[3, 0, 4, 1, 2]));
    assert_eq!(find("sort=dearest").await, named(&[2, 1, 4, 0, 3]));
    assert_eq!(find("minPrice=24&maxPrice=44.99&sort=cheapest").await, named(&[0, 4, 1]));
    assert_eq!(find("search=espresso&sort=dearest").await, named(&[4, 0]));
    assert_eq!(find("status=active&maxPrice=13").await, named(&[3]));
    let category = format!("categoryId={}", catalogue.category);
    assert_eq!(catalogue.names(&category, None).await.len(), 5);
    let other = format!("categoryId={}", Uuid::now_v7());
    assert!(catalogue.names(&other, None).await.is_empty());
    let drafts = catalogue.names("status=draft", Some(&catalogue.admin)).await;
    assert_eq!(drafts, named(&[5]));
    house.close().await;
}

#[tokio::test]
async fn a_list_refuses_what_it_cannot_do_and_cursors_that_it_did_not_give() {
    let house = House::open().await;
    let catalogue = Catalogue::new(&house).await;
    let shopper = Shopper::unverified(&house).await;
    let long = format!("search={}", "a".repeat(101));
    for query in [
        "search=",
        "search=+",
        &long,
        "minPrice=cheap",
        "minPrice=-1",
        "maxPrice=1e9",
        "sort=name",
        "status=sold",
        "limit=101",
        "categoryId=1",
    ] {
        assert_eq!(catalogue.refused(query).await, refusal(400, "invalid_parameter"), "{query}");
    }
    assert_eq!(catalogue.refused("price=1").await, refusal(400, "unknown_parameter"));
    assert_eq!(catalogue.refused("status=draft").await, refusal(403, "forbidden"));
    let first = send(house.get("/v1/products?limit=1&search=espresso")).await.is(200).json();
    let cursor = first["nextCursor"].as_str().expect("there are more");
    let mut changed = cursor.to_owned();
    changed.replace_range(30..31, if &cursor[30..31] == "A" { "B" } else { "A" });
    for query in [
        format!("cursor={cursor}"),
        format!("search=espresso&sort=newest&cursor={cursor}"),
        format!("search=cup&cursor={cursor}"),
        format!("search=espresso&cursor={changed}"),
        "search=espresso&cursor=e30".to_owned(),
    ] {
        assert_eq!(catalogue.refused(&query).await, refusal(400, "invalid_cursor"), "{query}");
    }
    for query in [
        "status=open",
        "from=yesterday",
        "to=2026-13-01T00:00:00Z",
        "from=-262143-01-01T00:00:00Z",
        "to=%2B262142-01-01T00:00:00Z",
    ] {
        let answer = shopper.get(&format!("/v1/orders?{query}")).await;
        assert_eq!(answer.problem(), refusal(400, "invalid_parameter"), "{query}");
    }
    let answer = shopper.get("/v1/orders?sort=total").await;
    assert_eq!(answer.problem(), refusal(400, "unknown_parameter"));
    house.close().await;
}

#[tokio::test]
async fn orders_are_found_by_status_and_time() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let shopper = Shopper::new(&house).await;
    let (address, ok) = (shopper.address().await, shopper.method("ok").await);
    let mut placed = Vec::new();
    for _ in 0..3 {
        shopper.add(thing, 1).await.is(200);
        let order = shopper.place(&shopper.order(address, ok), 20).await;
        placed.insert(0, order.is(201).json());
    }
    let cancelled = id(&placed[1]["id"]);
    shopper.cancel(cancelled, 20).await.is(200);
    let ids = async |token: &str, query: &str| {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/orders?limit=1&{query}{cursor}");
            let page = send(house.get(&path).bearer_auth(token)).await.is(200).json();
            let items = page["items"].as_array().expect("a list");
            ids.extend(items.iter().map(|item| id(&item["id"])));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    };
    let all: Vec<Uuid> = placed.iter().map(|order| id(&order["id"])).collect();
    let middle = placed[1]["createdAt"].as_str().expect("a time").replace('+', "%2B");
    for token in [&shopper.token, &admin] {
        assert_eq!(ids(token, "").await, all);
        assert_eq!(ids(token, "status=cancelled").await, [cancelled]);
        assert_eq!(ids(token, "status=pending").await, [all[0], all[2]]);
        assert_eq!(ids(token, &format!("from={middle}")).await, all[..2]);
        assert_eq!(ids(token, &format!("to={middle}")).await, all[2..]);
        assert_eq!(ids(token, &format!("status=pending&from={middle}")).await, all[..1]);
    }
    house.close().await;
}
