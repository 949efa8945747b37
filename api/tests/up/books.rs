//! The checker of the chaos test. It compares the database with the records of three others: clients, gateway and subscriber.

use std::collections::{BTreeMap, BTreeSet};

use stepwise_adapters::sandbox::ledger::Move;
use stepwise_tests::money;

/// The records of the clients, the gateway and a subscriber, and the database's content at the end.
#[derive(Default, Clone)]
pub(crate) struct Books {
    /// Key of a placement -> every order that an answer to this key has named. A refused placement has none.
    pub(crate) answers: BTreeMap<String, BTreeSet<String>>,
    /// Order -> whether its cancellation was accepted, for each requested cancellation.
    pub(crate) cancels: BTreeMap<String, bool>,
    /// Order -> (status, number of integration events according to its row), for all orders.
    pub(crate) orders: BTreeMap<String, (String, u64)>,
    /// Order -> number of live authorizations, according to the gateway's ledger.
    pub(crate) live: BTreeMap<String, usize>,
    /// The received events, in the order of their arrival.
    pub(crate) events: Vec<Event>,
    /// The movements of money according to the shop's transactions, and according to the gateway's ledger.
    pub(crate) booked: Vec<Move>,
    pub(crate) ledger: Vec<Move>,
    /// The stock of all products.
    pub(crate) stock: Vec<Stock>,
}

/// A received event.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) kind: String,
    pub(crate) id: String,
}

/// The stock of a product.
#[derive(Clone, sqlx::FromRow)]
pub(crate) struct Stock {
    pub(crate) product: String,
    /// The quantity before the first order.
    pub(crate) seeded: i64,
    pub(crate) on_hand: i64,
    pub(crate) reserved: i64,
    /// The quantity that pending orders have taken.
    pub(crate) held: i64,
}

const PLACED: &str = "shop.order.placed.v1";
const CANCELLED: &str = "shop.order.cancelled.v1";
const REFUNDED: &str = "shop.payment.refund-processed.v1";
const FAILED: &str = "shop.payment.failed.v1";

impl Books {
    /// Describes all contradictions between the records. Every client must have been answered before.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.unanswered_for();
        faults.extend(self.wrong_ends());
        faults.extend(self.disorder());
        faults.extend(money::differences(&self.booked, &self.ledger));
        for stock in &self.stock {
            let Stock { product, seeded, on_hand, reserved, held } = stock;
            if on_hand != seeded {
                faults.push(format!("{on_hand} of {product} are on hand, {seeded} were seeded"));
            }
            if reserved != held {
                faults.push(format!("{reserved} of {product} are reserved, orders hold {held}"));
            }
        }
        faults
    }

    /// Checks that each key has one order and each order a key, and that no money and no event is without an order.
    fn unanswered_for(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, named) in &self.answers {
            if named.len() > 1 {
                faults.push(format!("{key} was answered with {named:?}"));
            }
            for order in named {
                if !self.orders.contains_key(order) {
                    faults.push(format!("the acknowledged order {order} is lost"));
                }
                if let Some(other) = keys.insert(order, key) {
                    faults.push(format!("order {order} was made under {other} and {key}"));
                }
            }
        }
        let told = self.orders.keys().filter(|order| !keys.contains_key(order.as_str()));
        faults.extend(told.map(|order| format!("no client was told of order {order}")));
        let with_money = self.live.iter().filter(|(_, live)| **live > 0).map(|(order, _)| order);
        let unknown = with_money.filter(|order| !self.orders.contains_key(*order));
        faults.extend(unknown.map(|order| format!("money is reserved for {order}, no order")));
        let subjects: BTreeSet<_> = self.events.iter().map(|event| &event.subject).collect();
        let unknown = subjects.into_iter().filter(|subject| !self.orders.contains_key(*subject));
        faults.extend(unknown.map(|subject| format!("an event is about {subject}, no order")));
        faults
    }

    /// Checks that each order has the end that its customer was told, with the money and the events of that end.
    fn wrong_ends(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (order, (status, published)) in &self.orders {
            let allowed: &[&str] = match self.cancels.get(order) {
                Some(true) => &["cancelled"],
                Some(false) => &["failed"],
                None => &["pending", "failed"],
            };
            if !allowed.contains(&status.as_str()) {
                faults.push(format!("order {order} is {status}, not one of {allowed:?}"));
            }
            let live = self.live.get(order).copied().unwrap_or(0);
            if live != usize::from(status == "pending") {
                faults.push(format!("order {order} is {status} with {live} live authorizations"));
            }
            let told = self.told(order);
            let right: &[&[&str]] = match status.as_str() {
                "pending" => &[&[PLACED]],
                "failed" => &[&[FAILED]],
                // The order was cancelled while it was being placed, or afterwards.
                "cancelled" => &[&[], &[PLACED, CANCELLED, REFUNDED]],
                _ => &[],
            };
            if !right.contains(&told.as_slice()) || told.len() as u64 != *published {
                faults.push(format!("order {order} is {status} ({published} events): {told:?}"));
            }
        }
        faults
    }

    /// The events of an order, without copies.
    fn told(&self, order: &str) -> Vec<&str> {
        let mut ids = BTreeSet::new();
        let about = self.events.iter().filter(|event| event.subject == order);
        about.filter(|event| ids.insert(&event.id)).map(|event| event.kind.as_str()).collect()
    }

    /// Checks that the first receipts of a subject are in order and without gaps, and that every copy has the same id.
    fn disorder(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Event { subject, sequence, id, .. } in &self.events {
            let ids = seen.entry(subject).or_default();
            let place = usize::try_from(*sequence).expect("a small number").saturating_sub(1);
            match ids.get(place) {
                Some(earlier) if *earlier == id => {}
                Some(earlier) => {
                    faults.push(format!("{subject} {sequence} came as {earlier} and as {id}"));
                }
                None if place == ids.len() => ids.push(id),
                None => faults.push(format!("{subject} {sequence} came after {}", ids.len())),
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;
    use stepwise_adapters::sandbox::ledger::Move;

    use super::{Books, CANCELLED, Event, FAILED, PLACED, REFUNDED, Stock};

    fn event(subject: &str, sequence: u64, kind: &str) -> Event {
        let id = format!("{subject}-{sequence}");
        Event { subject: subject.into(), sequence, kind: kind.into(), id }
    }

    fn authorized() -> Move {
        let text = str::to_owned;
        Move {
            order_id: text("a"),
            kind: text("authorize"),
            key: text("saga-2"),
            reference: text("pi"),
            amount: Decimal::ONE,
            currency: text("USD"),
        }
    }

    /// Records without contradictions: a is placed (its event came twice), b failed, c was cancelled after it was placed, d before.
    fn sound() -> Books {
        let order = |(name, status, events): (&str, &str, u64)| {
            (name.to_owned(), (status.to_owned(), events))
        };
        Books {
            answers: ["a", "b", "c", "d"].map(|o| (format!("k-{o}"), [o.to_owned()].into())).into(),
            cancels: [("b", false), ("c", true), ("d", true)].map(|(o, c)| (o.into(), c)).into(),
            orders: [
                ("a", "pending", 1),
                ("b", "failed", 1),
                ("c", "cancelled", 3),
                ("d", "cancelled", 0),
            ]
            .map(order)
            .into(),
            live: [("a".to_owned(), 1), ("c".to_owned(), 0)].into(),
            events: vec![
                event("a", 1, PLACED),
                event("c", 1, PLACED),
                event("a", 1, PLACED),
                event("c", 2, CANCELLED),
                event("b", 1, FAILED),
                event("c", 3, REFUNDED),
            ],
            booked: vec![authorized()],
            ledger: vec![authorized()],
            stock: vec![Stock { product: "p".into(), seeded: 9, on_hand: 9, reserved: 2, held: 2 }],
        }
    }

    #[test]
    fn sound_books_have_no_faults() {
        assert_eq!(sound().faults(), Vec::<String>::new());
    }

    /// Changes the records, and checks that the fault is found and described with these words.
    fn found(words: &str, plant: impl FnOnce(&mut Books)) {
        let mut books = sound();
        plant(&mut books);
        let faults = books.faults();
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words} not in {faults:?}");
    }

    #[test]
    fn planted_faults_of_orders_are_found() {
        found("the acknowledged order a is lost", |b| drop(b.orders.remove("a")));
        found("no client was told of order a", |b| drop(b.answers.remove("k-a")));
        found("k-a was answered with", |b| {
            b.answers.entry("k-a".into()).or_default().insert("d".into());
        });
        found("order a was made under k-a and k-x", |b| {
            b.answers.insert("k-x".into(), ["a".to_owned()].into());
        });
        found("order a is placing, not one of", |b| {
            b.orders.insert("a".into(), ("placing".into(), 1));
        });
        found("order c is pending, not one of [\"cancelled\"]", |b| {
            b.orders.insert("c".into(), ("pending".into(), 3));
        });
        found("order a is pending, not one of [\"failed\"]", |b| {
            b.cancels.insert("a".into(), false);
        });
    }

    #[test]
    fn planted_faults_of_money_are_found() {
        found("order a is pending with 2 live", |b| {
            b.live.insert("a".into(), 2);
        });
        found("order a is pending with 0 live", |b| {
            b.live.remove("a");
        });
        found("order b is failed with 1 live", |b| {
            b.live.insert("b".into(), 1);
        });
        found("order c is cancelled with 1 live", |b| {
            b.live.insert("c".into(), 1);
        });
        found("only the gateway booked", |b| b.booked.clear());
        found("only we booked", |b| b.ledger.clear());
        found("money is reserved for x, no order", |b| {
            b.live.insert("x".into(), 1);
        });
    }

    #[test]
    fn planted_faults_of_events_are_found() {
        found("order a is pending (1 events): []", |b| b.events.retain(|e| e.subject != "a"));
        found("order c is cancelled (3 events): []", |b| b.events.retain(|e| e.subject != "c"));
        found("order c is cancelled (3 events): [\"shop.order.placed", |b| drop(b.events.pop()));
        found("a 1 came as a-1 and as other", |b| b.events[2].id = "other".into());
        found("c 3 came after 1", |b| b.events.swap(3, 5));
        found("c 3 came after 1", |b| drop(b.events.remove(3)));
        found("order d is cancelled (0 events)", |b| b.events.push(event("d", 1, PLACED)));
        found("an event is about x, no order", |b| b.events.push(event("x", 1, PLACED)));
    }

    #[test]
    fn planted_faults_of_stock_are_found() {
        found("3 of p are reserved, orders hold 2", |b| b.stock[0].reserved = 3);
        found("8 of p are on hand, 9 were seeded", |b| b.stock[0].on_hand = 8);
    }
}
