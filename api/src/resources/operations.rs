//! Operations: the long-running work of a command, from the first 202 to its end.
//!
//! An operation is an instance of a saga as its caller sees it. The saga itself declares what that is
//! ([`sagas::ShopSaga`]), so no saga is named here. A request that waits for the end reads the instance by
//! primary key now and then. If the instance ends in this process, the engine wakes the request at once; the
//! reads are needed only for instances that end in another process.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use poem::{IntoResponse, Response, web::sse::Event};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::Path,
    payload::EventStream,
    registry::{MetaResponses, Registry},
    types::{Any, ToJSON, Type},
};
use serde_json::{Value, json};
use stepwise_engine::{
    Saga, Status, WaitingOn,
    inspect::{self, Summary},
};
use stepwise_workflows::{
    customer::method::{self, PaymentMethodView},
    erasure::{self, ErasureView},
    order::{self, OrderView},
    sagas::{self, About},
    shop::Context,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    order_shape::OrderShape,
    wallet::{self, MethodShape},
    words::{OperationWords, Word},
};
use crate::door::{
    Ask, Door,
    caller::{By, Caller, OperationReader, Role},
    personal::{OwnersOnly, shown_to},
    problem::{Problem, ProblemBody},
    reply::{Done, Reply, described},
};

/// The longest time between two reads of an instance while a request waits.
const LOOK: Duration = Duration::from_millis(500);

/// The operations about operations.
pub struct Operations;

/// Long-running work that a command has started.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Operation", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct OperationShape {
    /// The operation's id.
    pub id: Uuid,
    /// The saga's name: `place-order`.
    kind: String,
    /// The id of the operation's subject, such as an order.
    subject: String,
    /// `running`, `succeeded`, `failed` or `needs_attention`.
    status: Word<OperationWords>,
    /// The reason why the operation waits, with details. Absent once the operation has ended.
    waiting_on: Option<Any<Value>>,
    /// The action that the customer must take.
    action: Option<Action>,
    /// The result: the order, the payment method, or the erasure.
    result: Option<Any<Value>>,
    /// The reason why it failed.
    problem: Option<Any<Value>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// An action that the customer must take.
#[derive(Debug, Clone, Object)]
#[oai(rename = "CustomerAction", rename_all = "camelCase", skip_serializing_if_is_none)]
struct Action {
    /// `approve_payment`.
    #[oai(rename = "type")]
    kind: String,
    /// The page to which the customer must go. Only the customer sees this link, because anyone who opens it can approve.
    url: OwnersOnly<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl From<sagas::Action> for Action {
    fn from(action: sagas::Action) -> Self {
        match action {
            sagas::Action::ApprovePayment { url, expires_at } => {
                let url = OwnersOnly::new(url);
                Self { kind: "approve_payment".to_owned(), url, expires_at }
            }
        }
    }
}

impl OperationShape {
    /// An operation that was just started: an instance of the saga `S`. Its start time comes from its id, so this needs no query.
    pub fn begun<S: Saga>(id: Uuid, subject: Uuid) -> Self {
        let at = time_in(id);
        Self {
            id,
            kind: S::NAME.to_owned(),
            subject: subject.to_string(),
            status: "running".into(),
            waiting_on: Some(Any(json!({ "on": "worker" }))),
            action: None,
            result: None,
            problem: None,
            created_at: at,
            updated_at: at,
        }
    }

    /// The 202 answer of the operation's command.
    pub fn accepted(&self, caller: &Caller) -> Reply<202, Self> {
        Reply::to(caller, self).at(format!("/v1/operations/{}", self.id))
    }
}

/// The time in a UUIDv7, to the millisecond.
fn time_in(id: Uuid) -> DateTime<Utc> {
    let stamp = id.get_timestamp().map(|stamp| stamp.to_unix());
    stamp
        .and_then(|(s, ns)| DateTime::from_timestamp(i64::try_from(s).ok()?, ns))
        .unwrap_or_default()
}

/// The answer to a command that starts an operation: 202, or the result if the client waited for the end.
pub enum Begun<const FINAL: u16, T = OrderShape> {
    /// The operation continues.
    Accepted(Reply<202, OperationShape>),
    /// The operation succeeded within the wait.
    Ended(Reply<FINAL, T>),
}

impl<const FINAL: u16, T: Send> IntoResponse for Begun<FINAL, T> {
    fn into_response(self) -> Response {
        match self {
            Self::Accepted(reply) => reply.into_response(),
            Self::Ended(reply) => reply.into_response(),
        }
    }
}

impl<const FINAL: u16, T: Type> ApiResponse for Begun<FINAL, T> {
    fn meta() -> MetaResponses {
        let responses = vec![described::<OperationShape>(202), described::<T>(FINAL)];
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        OperationShape::register(registry);
        T::register(registry);
    }
}

answer! {
    /// The erasure of a customer. It has no personal data.
    #[oai(rename = "Erasure", rename_all = "camelCase", skip_serializing_if_is_none)]
    pub struct ErasureShape from erasure: ErasureView {
        /// The id that stands for the customer in orders from now on.
        anonymized_id: Uuid,
        /// When everything was deleted. Absent while the erasure goes on.
        erased_at: Option<DateTime<Utc>>,
    }
}

/// The resource that an operation is about, which is its result in the end.
#[derive(Clone)]
pub enum Resource {
    /// An order.
    Order(Box<OrderView>),
    /// A payment method.
    PaymentMethod(Box<PaymentMethodView>),
    /// The erasure of a customer.
    Erasure(ErasureView),
}

impl Resource {
    /// The address of the resource. `None`: it has none but its operation's.
    fn address(&self) -> Option<String> {
        match self {
            Self::Order(order) => Some(format!("/v1/orders/{}", order.id)),
            Self::PaymentMethod(method) => Some(wallet::address_of(method)),
            Self::Erasure(_) => None,
        }
    }

    fn into_json(self) -> Option<Value> {
        match self {
            Self::Order(order) => OrderShape::from(*order).to_json(),
            Self::PaymentMethod(method) => MethodShape::from(*method).to_json(),
            Self::Erasure(erasure) => ErasureShape::from(erasure).to_json(),
        }
    }
}

impl From<Resource> for Option<OrderShape> {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::Order(order) => Some(OrderShape::from(*order)),
            Resource::PaymentMethod(_) | Resource::Erasure(_) => None,
        }
    }
}

impl From<Resource> for Option<MethodShape> {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::PaymentMethod(method) => Some(MethodShape::from(*method)),
            Resource::Order(_) | Resource::Erasure(_) => None,
        }
    }
}

impl From<Resource> for Option<ErasureShape> {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::Erasure(erasure) => Some(ErasureShape::from(erasure)),
            Resource::Order(_) | Resource::PaymentMethod(_) => None,
        }
    }
}

/// Runs the command of a request that starts an operation. `start` runs in the command's transaction and returns the operation
/// ([`OperationShape::begun`]). Then waits for the end of the operation, if the client asked to wait ([`wait`]).
pub async fn begin<const FINAL: u16, T: ToJSON>(
    door: &Door,
    caller: &Caller,
    ask: Ask<'_>,
    patience: Duration,
    start: impl AsyncFnOnce(&mut Context<'_>) -> Result<OperationShape, Problem> + Clone,
) -> Result<Begun<FINAL, T>, Problem>
where
    Option<T>: From<Resource>,
{
    let accepted: Reply<202, OperationShape> = door
        .command::<202, _, Problem>(ask, async |ctx| Ok(start.clone()(ctx).await?.accepted(caller)))
        .await?;
    wait(door, caller, accepted, patience).await
}

/// Waits for the end of the `accepted` operation, if the client asked to wait. If the operation ends within
/// the wait, returns its result. If it needs the customer first, returns 202 with the action.
pub async fn wait<const FINAL: u16, T: ToJSON>(
    door: &Door,
    caller: &Caller,
    accepted: Reply<202, OperationShape>,
    patience: Duration,
) -> Result<Begun<FINAL, T>, Problem>
where
    Option<T>: From<Resource>,
{
    let location = accepted.answer.location.as_deref().unwrap_or_default();
    let id = location.rsplit('/').next().and_then(|id| id.parse::<Uuid>().ok());
    let (Some(id), false) = (id, patience.is_zero()) else { return Ok(Begun::Accepted(accepted)) };
    let settled = tokio::select! {
        settled = settled(door, id, Instant::now() + patience) => settled?,
        () = door.stop.cancelled() => None,
    };
    let Some(summary) = settled else { return Ok(Begun::Accepted(accepted)) };
    let seen = see(door, caller, summary).await?.ok_or_else(unknown)?;
    if let Some(refusal) = seen.refusal {
        return Err(refusal);
    }
    let Some(result) = seen.result else {
        return Ok(Begun::Accepted(seen.operation.accepted(caller)));
    };
    let at = result.address().unwrap_or_else(|| format!("/v1/operations/{id}"));
    match Option::<T>::from(result) {
        Some(result) => Ok(Begun::Ended(Reply::to(caller, &result).at(at))),
        None => Ok(Begun::Accepted(seen.operation.accepted(caller))),
    }
}

/// Reads the instance until it has ended or needs a person, or the time is up.
async fn settled(door: &Door, id: Uuid, until: Instant) -> Result<Option<Summary>, Problem> {
    let mut ended = door.engine.watch(id);
    loop {
        let summary = inspect::summary(&door.db, id).await?;
        if let Some(saga) = summary
            && (status(&saga) != "running" || action(door, &saga).await?.is_some())
        {
            return Ok(Some(saga));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        tokio::select! {
            // An error means that there will be no wake-up: then wait for the time to pass.
            Ok(()) = ended.changed() => {}
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
        }
    }
}

/// An operation as one caller may see it, with its result if it has ended.
struct Seen {
    operation: OperationShape,
    result: Option<Resource>,
    refusal: Option<Problem>,
}

/// Reads what the caller may see of an instance. `None` if it belongs to another customer. 1 round trip,
/// 5 more while the instance waits with a time limit.
async fn see(door: &Door, caller: &Caller, saga: Summary) -> Result<Option<Seen>, Problem> {
    let resource = resource(door, caller, &saga).await?;
    let is_staff = !matches!(caller.role, Role::Customer | Role::Guest);
    if resource.is_none() && !is_staff {
        return Ok(None);
    }
    let action = action(door, &saga).await?;
    let status = status(&saga);
    let refusal = (status == "failed").then(|| refusal(&saga));
    let result = resource.filter(|_| status == "succeeded");
    let problem = refusal.as_ref().map(|refusal| {
        let body: ProblemBody = refusal.body(&format!("/v1/operations/{}", saga.saga_id), "");
        Any(without_request(body.to_json().unwrap_or_default()))
    });
    let operation = OperationShape {
        id: saga.saga_id,
        waiting_on: saga.waiting_on().map(Any),
        kind: saga.name,
        subject: saga.subject,
        status: status.into(),
        action,
        result: shown_to(caller, || result.clone().and_then(Resource::into_json)).map(Any),
        problem,
        created_at: time_in(saga.saga_id),
        updated_at: saga.updated_at,
    };
    Ok(Some(Seen { operation, result, refusal }))
}

/// The resource that an instance is about. `None` if there is none that the caller may see. 1 round trip.
async fn resource(
    door: &Door,
    caller: &Caller,
    saga: &Summary,
) -> Result<Option<Resource>, Problem> {
    let about = sagas::named(&saga.name).map_or(About::NoResource, |listed| listed.about());
    let (Ok(id), own) = (saga.subject.parse::<Uuid>(), caller.own_customer()) else {
        return Ok(None);
    };
    let mut db = door.db.acquire().await?;
    Ok(match about {
        About::NoResource => None,
        About::Order => {
            let order = order::get_order(&door.shop, &mut db, id, own).await?;
            order.map(|order| Resource::Order(Box::new(order)))
        }
        About::PaymentMethod => {
            let method = method::get_payment_method(&mut db, id, own).await?;
            method.map(|method| Resource::PaymentMethod(Box::new(method)))
        }
        About::Customer => {
            let erasure = erasure::get_erasure(&mut db, id).await?;
            let may = |erasure: &ErasureView| own.is_none_or(|own| own == erasure.customer_id);
            erasure.filter(may).map(Resource::Erasure)
        }
    })
}

/// The problem with which an operation failed. It belongs to the operation, not to a request.
fn without_request(mut problem: Value) -> Value {
    if let Some(fields) = problem.as_object_mut() {
        fields.remove("requestId");
    }
    problem
}

fn status(saga: &Summary) -> &'static str {
    match saga.status {
        Status::Completed => "succeeded",
        Status::Unwound | Status::Abandoned => "failed",
        Status::Stuck | Status::Paused => "needs_attention",
        Status::Running | Status::Unwinding => "running",
    }
}

/// The action that the customer must take now. Only an instance that waits with a time limit is asked for one.
async fn action(door: &Door, saga: &Summary) -> Result<Option<Action>, Problem> {
    let waits = saga.status == Status::Running
        && saga.waiting_on != Some(WaitingOn::Worker)
        && saga.pending.pointer("/timer").is_some();
    let Some(listed) = sagas::named(&saga.name).filter(|_| waits) else { return Ok(None) };
    let details = inspect::details(&door.db, saga.saga_id).await?;
    Ok(details.and_then(|details| listed.action(details.state)).map(Action::from))
}

/// The reason why an operation failed, as the problem that its command would have returned.
fn refusal(saga: &Summary) -> Problem {
    if saga.status == Status::Abandoned {
        return Problem::conflict(
            "operation_abandoned",
            "An operator has ended this operation; ask the shop about its result.",
        );
    }
    match sagas::named(&saga.name) {
        Some(listed) => Problem::of(listed.refused(saga.reason.clone())),
        None => Problem::conflict("operation_failed", "The operation was undone."),
    }
}

fn unknown() -> Problem {
    Problem::not_found("operation_not_found", "There is no such operation.")
}

#[OpenApi(prefix_path = "/v1/operations", tag = "Group::Operations")]
impl Operations {
    /// Get an operation.
    #[oai(path = "/:operationId", method = "get", operation_id = "getOperation")]
    async fn get(
        &self,
        by: By<OperationReader>,
        #[oai(name = "operationId")] id: Path<Uuid>,
    ) -> Result<Done<OperationShape>, Problem> {
        let saga = inspect::summary(&by.door.db, id.0).await?.ok_or_else(unknown)?;
        let seen = see(&by.door, &by, saga).await?.ok_or_else(unknown)?;
        Ok(Done::to(&by, &seen.operation))
    }

    /// Stream an operation: one event for each change, the last one at its end.
    #[oai(path = "/:operationId/events", method = "get", operation_id = "streamOperation")]
    async fn stream(
        &self,
        by: By<OperationReader>,
        #[oai(name = "operationId")] id: Path<Uuid>,
    ) -> Result<EventStream<BoxStream<'static, OperationShape>>, Problem> {
        let saga = inspect::summary(&by.door.db, id.0).await?.ok_or_else(unknown)?;
        let first = see(&by.door, &by, saga).await?.ok_or_else(unknown)?.operation;
        let (door, caller) = (Arc::clone(&by.door), Caller::clone(&by));
        let changes = door.stream(&caller, changes(by, first))?;
        let shown = EventStream::new(changes).to_event(move |operation: OperationShape| {
            Event::message(shown_to(&caller, || operation.to_json_string()))
        });
        Ok(shown.keep_alive(Duration::from_secs(15)))
    }
}

/// A stream of the operation as it is now and after each change, until it has ended.
fn changes(
    by: By<OperationReader>,
    first: OperationShape,
) -> impl stream::Stream<Item = OperationShape> + Send {
    let ended = by.door.engine.watch(first.id);
    let began = (by, ended, None::<OperationShape>, Some(first));
    stream::unfold(began, |(by, mut ended, last, first)| async move {
        if let Some(first) = first {
            return Some((first.clone(), (by, ended, Some(first), None)));
        }
        let last =
            last.filter(|last| matches!(last.status.as_str(), "running" | "needs_attention"))?;
        loop {
            tokio::select! {
                Ok(()) = ended.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            let saga = inspect::summary(&by.door.db, last.id).await.ok()??;
            if saga.updated_at == last.updated_at {
                continue;
            }
            let next = see(&by.door, &by, saga).await.ok()??.operation;
            return Some((next.clone(), (by, ended, Some(next), None)));
        }
    })
}
