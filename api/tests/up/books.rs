//! Three books that do not trust the database, and the checker that joins them with it.

use std::collections::{BTreeMap, BTreeSet};

/// What clients, the gateway and a subscriber wrote down, and what the database says at the end.
#[derive(Default, Clone)]
pub(crate) struct Books {
    /// Orders that were answered 202.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Order -> status, of all orders.
    pub(crate) orders: BTreeMap<String, String>,
    /// Order -> live authorizations, by the gateway's ledger.
    pub(crate) live: BTreeMap<String, usize>,
    /// Events in the order of their arrival: (subject, sequence, type, id).
    pub(crate) events: Vec<(String, u64, String, String)>,
    /// (product, reserved, held by pending orders).
    pub(crate) stock: Vec<(String, i64, i64)>,
}

impl Books {
    /// Everything that does not add up, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for order in &self.acknowledged {
            match self.orders.get(order).map(String::as_str) {
                Some("pending" | "failed") => {}
                other => faults.push(format!("the acknowledged order {order} is {other:?}")),
            }
        }
        for (order, status) in &self.orders {
            let (live, wanted) =
                (self.live.get(order).copied().unwrap_or(0), usize::from(status == "pending"));
            if live != wanted {
                faults.push(format!("order {order} is {status} with {live} live authorizations"));
            }
            let placed: BTreeSet<_> = self
                .events
                .iter()
                .filter(|(subject, _, kind, _)| subject == order && kind == "shop.order.placed.v1")
                .map(|event| &event.3)
                .collect();
            if placed.len() != wanted {
                faults.push(format!(
                    "order {order} is {status} and was announced {} times",
                    placed.len()
                ));
            }
        }
        faults.extend(self.disorder());
        for (product, reserved, held) in &self.stock {
            if reserved != held {
                faults.push(format!("{reserved} of {product} are reserved, orders hold {held}"));
            }
        }
        faults
    }

    /// First receipts of a subject come in order, without gaps; every copy has the same id.
    fn disorder(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (subject, sequence, _, id) in &self.events {
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
    use super::Books;

    fn sound() -> Books {
        let event = |order: &str| {
            (order.to_owned(), 1, "shop.order.placed.v1".to_owned(), format!("e-{order}"))
        };
        Books {
            acknowledged: ["a", "b"].map(str::to_owned).into(),
            orders: [("a", "pending"), ("b", "failed")]
                .map(|(o, s)| (o.to_owned(), s.to_owned()))
                .into(),
            live: [("a".to_owned(), 1)].into(),
            events: vec![event("a"), event("a")],
            stock: vec![("p".to_owned(), 2, 2)],
        }
    }

    #[test]
    fn sound_books_have_no_faults() {
        assert_eq!(sound().faults(), Vec::<String>::new());
    }

    #[test]
    fn every_planted_fault_is_found() {
        let plant = |what: &str, spoil: &dyn Fn(&mut Books)| {
            let mut books = sound();
            spoil(&mut books);
            assert!(!books.faults().is_empty(), "{what} was not found");
        };
        plant("a lost order", &|b| {
            b.orders.remove("a");
        });
        plant("an order without an end", &|b| {
            b.orders.insert("b".into(), "placing".into());
        });
        plant("a second authorization", &|b| {
            b.live.insert("a".into(), 2);
        });
        plant("money kept for a failed order", &|b| {
            b.live.insert("b".into(), 1);
        });
        plant("a lost event", &|b| b.events.clear());
        plant("a copy under another id", &|b| b.events[1].3 = "other".into());
        plant("a gap", &|b| b.events.push(("a".into(), 3, "x".into(), "y".into())));
        plant("stock that does not add up", &|b| b.stock[0].1 = 3);
    }
}
