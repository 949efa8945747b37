//! The part of a cause that a request brings along: its id and its trace parent.

use poem::Request;
use stepwise_workflows::shop::{Actor, Cause, cause::TraceParent};
use uuid::Uuid;

/// The id of a request, and the trace that it belongs to. The edge puts it into every request.
#[derive(Debug, Clone)]
pub struct Incoming {
    id: Uuid,
    traceparent: Option<TraceParent>,
}

impl Incoming {
    /// Reads the header `traceparent`. One that is sent twice, or has not the form of the W3C, is ignored.
    pub fn read(id: Uuid, request: &Request) -> Self {
        let mut sent = request.headers().get_all("traceparent").iter();
        let traceparent = match (sent.next(), sent.next()) {
            (Some(one), None) => one.to_str().ok().and_then(TraceParent::parse),
            _ => None,
        };
        Self { id, traceparent }
    }

    /// Of this request.
    pub fn of(request: &Request) -> Self {
        request.data().cloned().expect("the edge puts it into every request")
    }

    /// The cause of what the request does for this actor.
    pub fn cause(&self, actor: Actor) -> Cause {
        Cause::of_request(actor, self.id, self.traceparent.clone())
    }
}
