//! The part of a cause that a request brings along: its id, its client's address and its trace parent.

use std::net::{IpAddr, SocketAddr};

use poem::Request;
use stepwise_workflows::shop::{Actor, Cause, cause::TraceParent};
use uuid::Uuid;

use super::proxies::Proxies;

/// The id of a request, the client's address, and the trace that the request belongs to. The edge puts it into every request.
#[derive(Debug, Clone)]
pub struct Incoming {
    id: Uuid,
    address: Option<IpAddr>,
    traceparent: Option<TraceParent>,
}

impl Incoming {
    /// Reads the client's address, which trusted proxies name, and the header `traceparent`. One that is sent twice, or has not the form of
    /// the W3C, is ignored.
    pub fn read(id: Uuid, proxies: &Proxies, request: &Request) -> Self {
        let mut sent = request.headers().get_all("traceparent").iter();
        let traceparent = match (sent.next(), sent.next()) {
            (Some(one), None) => one.to_str().ok().and_then(TraceParent::parse),
            _ => None,
        };
        let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
        let address = peer.map(|peer| proxies.client(peer, request.headers()));
        Self { id, address, traceparent }
    }

    /// Of this request.
    pub fn of(request: &Request) -> Self {
        request.data().cloned().expect("the edge puts it into every request")
    }

    /// The client's address.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The cause of what the request does for this actor.
    pub fn cause(&self, actor: Actor) -> Cause {
        Cause::of_request(actor, self.id, self.traceparent.clone())
    }
}
