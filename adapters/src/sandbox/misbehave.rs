//! Requests that misbehave: they answer late, never, or act long after their caller has given up.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;

use super::Gateway;
use super::answer::{Format, out_of_order, respond};
use super::book::{Ask, Decision, Subject};
use super::ledger::{LineResult, Op};
use super::method::{Behaviour, SandboxMethod};

/// Executes an operation, in the way in which it behaves.
pub(super) async fn perform(gateway: &Arc<Gateway>, ask: &Ask<'_>, format: Format<'_>) -> Response {
    match misbehaving(gateway, ask) {
        None => respond(gateway, ask, format).await,
        Some(SandboxMethod::Slow) => {
            let answer = respond(gateway, ask, format).await;
            pause(gateway, gateway.timing.slow).await;
            answer
        }
        Some(SandboxMethod::TimeoutAfter) => {
            // The result is in the ledger; the caller must not learn it.
            let _unsaid = respond(gateway, ask, format).await;
            never(gateway).await
        }
        Some(SandboxMethod::ActsLate) => {
            let Some(_late) = Late::begin(gateway, ask) else { return format.in_flight() };
            never(gateway).await
        }
        Some(_) => never(gateway).await,
    }
}

/// The misbehaviour of a request. `None` if it behaves. `ActsLate` and `TimeoutBefore` behave if there is nothing left to do: the
/// request is refused, the authorization was cancelled, or the late act has happened.
fn misbehaving(gateway: &Gateway, ask: &Ask<'_>) -> Option<SandboxMethod> {
    let state = gateway.state();
    let now = chrono::Utc::now();
    // A client of PayPal tries to close an order before it voids the authorization: only one of the two requests has something to do.
    let is_unreserved = matches!(ask.subject, Subject::Unreserved(_));
    if is_unreserved && matches!(state.book.decide(ask, now), Decision::Refuse(_)) {
        return None;
    }
    match state.book.method(ask)? {
        method @ (SandboxMethod::Slow | SandboxMethod::TimeoutAfter) => Some(method),
        method @ (SandboxMethod::ActsLate | SandboxMethod::TimeoutBefore) => {
            match state.book.decide(ask, now) {
                Decision::Write(line) if line.result != LineResult::RefusedCancelled => {
                    Some(method)
                }
                _ => None,
            }
        }
        SandboxMethod::Ok
        | SandboxMethod::Declined
        | SandboxMethod::Unsupported
        | SandboxMethod::Twice
        | SandboxMethod::Challenge
        | SandboxMethod::Pending
        | SandboxMethod::Fails => None,
    }
}

/// A request that acts some time after its caller has given up. The caller's giving up drops this value.
struct Late {
    gateway: Arc<Gateway>,
    request: Option<Request>,
}

/// A request that outlives its connection.
struct Request {
    op: Op,
    key: String,
    subject: Kept,
    amount: Option<stepwise_workflows::money::Money>,
    fingerprint: Option<u64>,
}

/// The subject of a request that outlives its connection.
enum Kept {
    New { behaviour: Behaviour, order_id: String },
    PayPal,
    Named { reference: String, order_id: String },
    Unreserved(String),
    Reference(String),
}

impl Request {
    fn of(ask: &Ask<'_>) -> Self {
        let subject = match ask.subject {
            Subject::New { behaviour, order_id } => {
                Kept::New { behaviour, order_id: order_id.to_owned() }
            }
            Subject::PayPal => Kept::PayPal,
            Subject::Named { reference, order_id } => {
                Kept::Named { reference: reference.to_owned(), order_id: order_id.to_owned() }
            }
            Subject::Unreserved(reference) => Kept::Unreserved(reference.to_owned()),
            Subject::Reference(reference)
            | Subject::Approval { reference, .. }
            | Subject::Refund(reference) => Kept::Reference(reference.to_owned()),
        };
        let Ask { op, amount, fingerprint, .. } = *ask;
        Self { op, key: ask.key.to_owned(), subject, amount, fingerprint }
    }

    fn ask(&self) -> Ask<'_> {
        let subject = match &self.subject {
            Kept::New { behaviour, order_id } => Subject::New { behaviour: *behaviour, order_id },
            Kept::PayPal => Subject::PayPal,
            Kept::Named { reference, order_id } => Subject::Named { reference, order_id },
            Kept::Unreserved(reference) => Subject::Unreserved(reference),
            Kept::Reference(reference) => Subject::Reference(reference),
        };
        let Self { op, amount, fingerprint, .. } = *self;
        Ask { op, key: &self.key, subject, amount, fingerprint }
    }

    fn name(&self) -> String {
        let reference = self.ask().subject.reference().unwrap_or_default().to_owned();
        format!("{:?} {reference} {}", self.op, self.key)
    }
}

impl Late {
    /// Registers a late request. `None` if one with this key is already registered.
    fn begin(gateway: &Arc<Gateway>, ask: &Ask<'_>) -> Option<Self> {
        let request = Request::of(ask);
        let fresh = gateway.state().late.insert(request.name());
        fresh.then(|| Self { gateway: Arc::clone(gateway), request: Some(request) })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let (gateway, closing) = (Arc::clone(&self.gateway), self.gateway.closing.clone());
        let act = async move {
            tokio::time::sleep(gateway.timing.acts_late).await;
            // The caller has gone, so the result is only in the ledger.
            let _unheard = gateway.commit(&request.ask()).await;
            gateway.state().late.remove(&request.name());
        };
        self.gateway.tasks.spawn(closing.run_until_cancelled_owned(act));
    }
}

/// Keeps the connection open without an answer until the caller gives up. When the gateway stops, or after a long wait,
/// it answers with an error that does not tell the outcome.
async fn never(gateway: &Gateway) -> Response {
    pause(gateway, gateway.timing.hold).await;
    out_of_order()
}

async fn pause(gateway: &Gateway, time: Duration) {
    gateway.closing.run_until_cancelled(tokio::time::sleep(time)).await;
}
