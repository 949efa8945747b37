//! Requests that misbehave: they answer late, never, or act long after their caller has given up.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;

use super::Gateway;
use super::answer::{in_flight, out_of_order, respond};
use super::book::{Ask, Decision, Subject};
use super::ledger::{LineResult, Op};
use super::method::SandboxMethod;
use super::params::Fields;

/// Executes an operation, in the way in which it behaves.
pub(super) async fn perform(gateway: &Arc<Gateway>, ask: &Ask<'_>, fields: &Fields) -> Response {
    match misbehaving(gateway, ask) {
        None => respond(gateway, ask, fields).await,
        Some(SandboxMethod::Slow) => {
            let answer = respond(gateway, ask, fields).await;
            pause(gateway, gateway.timing.slow).await;
            answer
        }
        Some(SandboxMethod::TimeoutAfter) => {
            // The result is in the ledger; the caller must not learn it.
            let _unsaid = respond(gateway, ask, fields).await;
            never(gateway).await
        }
        Some(SandboxMethod::ActsLate) => {
            let Some(_late) = Late::begin(gateway, ask) else { return in_flight() };
            never(gateway).await
        }
        Some(_) => never(gateway).await,
    }
}

/// The misbehaviour of a request. `None` if it behaves. `ActsLate` and `TimeoutBefore` behave if there is nothing left to do: the
/// request is refused, the authorization was cancelled, or the late act has happened.
fn misbehaving(gateway: &Gateway, ask: &Ask<'_>) -> Option<SandboxMethod> {
    let state = gateway.state();
    match state.book.method(ask)? {
        method @ (SandboxMethod::Slow | SandboxMethod::TimeoutAfter) => Some(method),
        method @ (SandboxMethod::ActsLate | SandboxMethod::TimeoutBefore) => {
            match state.book.decide(ask, chrono::Utc::now()) {
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
    reference: String,
    order_id: String,
    behaviour: Option<super::method::Behaviour>,
    amount: Option<stepwise_workflows::money::Money>,
    fingerprint: Option<u64>,
}

impl Request {
    fn of(ask: &Ask<'_>) -> Self {
        let (reference, order_id, behaviour) = match ask.subject {
            Subject::New { behaviour, order_id } => ("", order_id, Some(behaviour)),
            Subject::Reference(reference)
            | Subject::Approval { reference, .. }
            | Subject::Refund(reference) => (reference, "", None),
        };
        Self {
            op: ask.op,
            key: ask.key.to_owned(),
            reference: reference.to_owned(),
            order_id: order_id.to_owned(),
            behaviour,
            amount: ask.amount,
            fingerprint: ask.fingerprint,
        }
    }

    fn ask(&self) -> Ask<'_> {
        let subject = match self.behaviour {
            Some(behaviour) => Subject::New { behaviour, order_id: &self.order_id },
            None => Subject::Reference(&self.reference),
        };
        let Self { op, amount, fingerprint, .. } = *self;
        Ask { op, key: &self.key, subject, amount, fingerprint }
    }

    fn name(&self) -> String {
        format!("{:?} {} {}", self.op, self.reference, self.key)
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
