//! The demo customers of the chaos test. They order, some cancel, and a customer without an answer repeats the request with the same key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::site::{Up, eventually};

/// How often each payment method is chosen, of 100 orders.
const METHODS: [(&str, u32); 7] = [
    ("ok", 50),
    ("twice", 12),
    ("declined", 12),
    ("slow", 10),
    ("timeoutAfter", 6),
    ("actsLate", 6),
    ("timeoutBefore", 4),
];

/// How many of 100 orders are cancelled.
const CANCELS: u32 = 10;

/// A request of a customer, which is repeated until it is answered.
#[derive(Clone)]
struct Wish {
    customer: usize,
    key: String,
    path: String,
    body: Value,
    /// The order to cancel. `None` to place an order.
    cancels: Option<String>,
}

/// The records of the clients.
#[derive(Default)]
pub(crate) struct Clients {
    /// The requests without an answer, by key.
    open: BTreeMap<String, Wish>,
    /// The answered requests, by key, with each (operation, subject) that an answer has named; none if the request was refused.
    answered: BTreeMap<String, (Wish, BTreeSet<(String, String)>)>,
}

/// An answer.
enum Told {
    /// An order is being placed, or cancelled.
    Accepted(String),
    Refused,
    /// 5xx, or the first request with this key still runs. The client must ask again.
    Later,
    /// The server is gone.
    Nothing,
}

impl Clients {
    /// Key -> orders that answers have named, and order -> whether its cancellation was accepted.
    pub(crate) fn told(&self) -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, bool>) {
        let (mut placed, mut cancelled) = (BTreeMap::new(), BTreeMap::new());
        for (key, (wish, named)) in &self.answered {
            match &wish.cancels {
                Some(order) => drop(cancelled.insert(order.clone(), !named.is_empty())),
                None => {
                    let orders = named.iter().map(|(_, order)| order.clone()).collect();
                    placed.insert(key.clone(), orders);
                }
            }
        }
        (placed, cancelled)
    }
}

/// A client, which orders for its customers one after the other until the server is gone.
pub(crate) async fn shop_on(
    lane: usize,
    up: Arc<Up>,
    clients: Arc<Mutex<Clients>>,
    mut random: StdRng,
) {
    loop {
        let customer = lane * 10 + random.random_range(0..10);
        let who = &up.demo["customers"][customer];
        let token = who["token"].as_str().expect("a text");
        let id = who["customerId"].as_str().expect("a text");
        let product = &up.demo["productIds"][random.random_range(0..20)];
        let item = json!({ "productId": product, "quantity": random.random_range(1..4) });
        let cart = format!("/v1/customers/{id}/cart/items");
        match up.try_post(token, &cart, &Uuid::now_v7().to_string(), &item).await {
            Ok((200 | 201, _)) => {}
            // An order is already being placed from this cart, or the server is stopping.
            Ok(_) => continue,
            Err(_) => return,
        }
        let changes_mind = random.random_range(0..100) < CANCELS;
        let after = Duration::from_millis(1 << random.random_range(0..10));
        match ask(&up, &clients, placing(&up, customer, &mut random)).await {
            Told::Accepted(order) if changes_mind => {
                tokio::time::sleep(after).await;
                if let Told::Nothing = ask(&up, &clients, cancelling(customer, order)).await {
                    return;
                }
            }
            Told::Nothing => return,
            Told::Accepted(_) | Told::Refused | Told::Later => {}
        }
    }
}

fn placing(up: &Up, customer: usize, random: &mut StdRng) -> Wish {
    let mut lot = random.random_range(0..100);
    let method = METHODS.iter().find(|(_, weight)| {
        let hit = lot < *weight;
        lot = lot.saturating_sub(*weight);
        hit
    });
    let who = &up.demo["customers"][customer];
    let body = json!({
        "customerId": who["customerId"],
        "shippingAddressId": who["shippingAddressId"],
        "paymentMethodId": who["paymentMethods"][method.map_or("ok", |(name, _)| name)],
    });
    let (key, path) = (Uuid::now_v7().to_string(), "/v1/orders".to_owned());
    Wish { customer, key, path, body, cancels: None }
}

fn cancelling(customer: usize, order: String) -> Wish {
    Wish {
        customer,
        key: Uuid::now_v7().to_string(),
        path: format!("/v1/orders/{order}/cancel"),
        body: json!({ "reason": "changed my mind" }),
        cancels: Some(order),
    }
}

/// Sends a request once.
async fn ask(up: &Up, clients: &Mutex<Clients>, wish: Wish) -> Told {
    let token = up.demo["customers"][wish.customer]["token"].as_str().expect("a text").to_owned();
    let key = wish.key.clone();
    // Recorded before it is sent, so that the record exists if the client dies with the request.
    clients.lock().expect("no panic").open.insert(key.clone(), wish.clone());
    let Ok((status, answer)) = up.try_post(&token, &wish.path, &key, &wish.body).await else {
        return Told::Nothing;
    };
    if status >= 500 || answer["code"] == "request_in_flight" {
        return Told::Later;
    }
    let mut clients = clients.lock().expect("no panic");
    clients.open.remove(&key);
    let (_, named) = clients.answered.entry(key).or_insert_with(|| (wish, BTreeSet::new()));
    if status != 202 {
        assert!(named.is_empty(), "accepted, and {status} later: {answer}");
        return Told::Refused;
    }
    let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
    named.insert((text("id"), text("subject")));
    assert_eq!(named.len(), 1, "one key, one operation");
    Told::Accepted(text("subject"))
}

/// Repeats each request without an answer until it has one. Repeats each accepted request once, and checks that the answer is the same.
pub(crate) async fn ask_until_answered(up: &Up, clients: &Mutex<Clients>) {
    eventually("every client to be answered", async || {
        let open: Vec<Wish> = clients.lock().expect("no panic").open.values().cloned().collect();
        for wish in open {
            ask(up, clients, wish).await;
        }
        clients.lock().expect("no panic").open.is_empty()
    })
    .await;
    let accepted: Vec<Wish> = {
        let clients = clients.lock().expect("no panic");
        let accepted = clients.answered.values().filter(|(_, named)| !named.is_empty());
        accepted.map(|(wish, _)| wish.clone()).collect()
    };
    for wish in accepted {
        let mut told = Told::Later;
        eventually("the answer once more", async || {
            told = ask(up, clients, wish.clone()).await;
            !matches!(told, Told::Later | Told::Nothing)
        })
        .await;
        assert!(matches!(told, Told::Accepted(_)), "the same answer");
    }
}
