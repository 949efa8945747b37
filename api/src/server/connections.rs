//! Counts and limits the open connections, in total and per origin.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::door::origin::Origin;

/// The limits of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The limit of all connections together.
    pub total: usize,
    /// The limit of connections from one address (for IPv6: from one /64 network).
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 10_000, per_address: 1_000 }
    }
}

/// Counts the open connections.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_origin: HashMap<Origin, usize>,
}

/// The reason why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMany {
    InTotal,
    FromOneAddress,
}

impl TooMany {
    /// The reason's label in the metric `http_connections_refused_total`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::InTotal => "total",
            Self::FromOneAddress => "address",
        }
    }
}

/// The place of an open connection. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    counts: Arc<Counts>,
    origin: Origin,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Counts { limits, open: Mutex::default() }))
    }

    /// Takes a place for a connection from this address. The limit per address does not count for a trusted proxy, which has the connections of
    /// many clients.
    pub(super) fn admit(&self, address: IpAddr, is_proxy: bool) -> Result<Place, TooMany> {
        let origin = Origin::of(address);
        let mut open = self.0.open.lock().expect("nothing panics while holding it");
        if open.total >= self.0.limits.total {
            return Err(TooMany::InTotal);
        }
        let of_origin = open.by_origin.entry(origin).or_default();
        if !is_proxy && *of_origin >= self.0.limits.per_address {
            return Err(TooMany::FromOneAddress);
        }
        *of_origin += 1;
        open.total += 1;
        metrics::gauge!("http_connections").set(u32::try_from(open.total).unwrap_or(u32::MAX));
        Ok(Place { counts: Arc::clone(&self.0), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock().expect("nothing panics while holding it");
        open.total -= 1;
        metrics::gauge!("http_connections").set(u32::try_from(open.total).unwrap_or(u32::MAX));
        if let Some(count) = open.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                open.by_origin.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_its_connection_is_gone() {
        let connections = Connections::new(ConnectionLimits { total: 3, per_address: 2 });
        let admit = |text: &str| connections.admit(text.parse().expect("an address"), false);
        let first = admit("192.0.2.1").expect("the first");
        let _second = admit("192.0.2.1").expect("the second");
        assert_eq!(admit("192.0.2.1").map(drop), Err(TooMany::FromOneAddress));
        let other = admit("192.0.2.2").expect("another address");
        assert_eq!(admit("192.0.2.3").map(drop), Err(TooMany::InTotal));
        let proxy = || connections.admit("192.0.2.1".parse().expect("an address"), true);
        assert_eq!(proxy().map(drop), Err(TooMany::InTotal));
        drop(other);
        assert!(proxy().is_ok(), "a proxy may have more than its share");
        drop(first);
        assert!(admit("192.0.2.1").is_ok());
    }
}
