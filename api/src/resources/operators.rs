//! Reads for operators: instances (the API calls them sagas), their journals, and the workers.
//!
//! States and journals contain ids and amounts, never personal data. Links in them are masked, because anyone who
//! opens an approval link acts in the customer's name. A last error is shortened.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Any,
};
use serde_json::Value;
use stepwise_engine::{
    JournalKind, Priority, Status, WaitingOn,
    inspect::{self, Details, EffectEntry, Entry, Filter, Summary, WorkerRow},
};
use stepwise_workflows::events::{self, Recorded};
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    tag::Tag,
    words::{EffectWords, OutcomeWords, Word, mirrors},
};
use crate::door::{
    caller::{By, ViewerUp},
    page::{self, Page},
    personal::without_links,
    problem::Problem,
    reply::Done,
};

/// The maximum number of characters of a last error that are shown.
const ERROR_SHOWN: usize = 500;

/// The operations for operators.
pub struct Operators;

mirrors! {
    /// The status of an instance. Final are `completed`, `unwound` and `abandoned`.
    #[oai(rename_all = "snake_case")]
    enum SagaStatus of Status { Running, Unwinding, Paused, Stuck, Completed, Unwound, Abandoned }
}

mirrors! {
    /// The thing that an instance waits on.
    #[oai(rename = "SagaWaitingOn", rename_all = "snake_case")]
    enum Waiting of WaitingOn { Worker, Activity, Retry, Timer, Signal, Operator, Version, Children, Parent }
}

mirrors! {
    /// The priority of an instance: workers claim due instances of a higher priority first.
    #[oai(rename = "SagaPriority", rename_all = "snake_case")]
    enum PriorityShape of Priority { High, Normal, Low }
}

/// An instance in a list.
#[derive(Debug, Object)]
#[oai(rename = "Saga", rename_all = "camelCase", skip_serializing_if_is_none)]
struct SagaShape {
    /// The instance's id, which is also the id of the operation that clients see.
    id: Uuid,
    /// The saga's name: `place-order`.
    kind: String,
    version: i32,
    /// The instance's subject: an order's id.
    subject: String,
    status: SagaStatus,
    /// The reason why the instance waits, with details. Absent when the status is final.
    waiting_on: Option<Any<Value>>,
    /// The number of failed attempts of the current step.
    attempt: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    /// The tags, each as `name=value`.
    tags: Vec<String>,
    priority: PriorityShape,
    /// The instance that started it.
    parent: Option<Uuid>,
    /// The time at which the instance is called off.
    deadline_at: Option<DateTime<Utc>>,
    /// The key of the queue in which the instance waits or waited.
    queue_key: Option<String>,
    /// Whether the instance still waits in its queue.
    queued: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Summary> for SagaShape {
    fn from(saga: Summary) -> Self {
        let waiting_on = saga.waiting_on().map(Any);
        let retries = saga.waiting_on == Some(WaitingOn::Retry);
        Self {
            id: saga.saga_id,
            kind: saga.name,
            version: saga.version.into(),
            subject: saga.subject,
            status: saga.status.into(),
            waiting_on,
            attempt: saga.attempt.into(),
            next_attempt_at: saga.wake_at.filter(|_| retries),
            last_error: saga.last_error.map(|e| e.chars().take(ERROR_SHOWN).collect()),
            tags: saga.tags.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            priority: saga.priority.into(),
            parent: saga.parent,
            deadline_at: saga.deadline_at,
            queue_key: saga.queue_key,
            queued: saga.queued,
            created_at: saga.created_at,
            updated_at: saga.updated_at,
        }
    }
}

/// An instance with its state, journal, attempts and effects.
#[derive(Debug, Object)]
#[oai(rename = "SagaDetails", rename_all = "camelCase", skip_serializing_if_is_none)]
struct DetailsShape {
    #[oai(flatten)]
    saga: SagaShape,
    /// The saga's state.
    state: Any<Value>,
    /// Open undos, oldest first. Unwinding runs the last one first.
    undos: Any<Value>,
    /// The journal: one entry per commit, oldest first.
    journal: Vec<JournalShape>,
    /// All attempts of activities.
    attempts: Vec<AttemptShape>,
    /// The effects outside the database, such as payments.
    effects: Vec<EffectShape>,
    /// The last 1,000 domain events of its subject, oldest first, also those of other sagas and commands.
    events: Vec<RecordedShape>,
    /// The instances that this one started, at most 1,000.
    children: Vec<Uuid>,
    /// How many of all the started instances have not ended.
    open_children: i64,
    /// One sentence that says what happens next and when.
    next: String,
}

/// One commit of an instance.
#[derive(Debug, Object)]
#[oai(rename = "JournalEntry", rename_all = "camelCase", skip_serializing_if_is_none)]
struct JournalShape {
    seq: i32,
    /// `start`, `outcome`, `attempt`, `tx`, `timer`, `signal`, `undo`, ...
    kind: String,
    /// The event that was applied.
    event: Option<Any<Value>>,
    /// The step that the saga decided on.
    step: Option<Any<Value>>,
    /// The undo recorded with the decision, before the step ran.
    undo: Option<Any<Value>>,
    at: DateTime<Utc>,
}

impl From<&Entry> for JournalShape {
    fn from(entry: &Entry) -> Self {
        Self {
            seq: entry.seq,
            kind: entry.kind.to_string(),
            event: entry.event.clone().map(masked),
            step: entry.next.clone().map(masked),
            undo: entry.undo.clone().map(masked),
            at: entry.at,
        }
    }
}

answer! {
    /// A domain event of the shop.
    #[oai(rename = "RecordedEvent", rename_all = "camelCase")]
    struct RecordedShape from event: Recorded {
        id: Uuid = event.event_id,
        /// 1, 2, 3, ... per subject, without gaps.
        sequence: i64 = event.n,
        /// Its name in the catalogue: `OrderCreated`.
        name: String,
        /// The data that the catalogue defines for this event. Personal data is sealed.
        data: Any<Value> = masked(event.payload),
        at: DateTime<Utc> = event.recorded_at,
    }
}

/// One attempt of an activity.
#[derive(Debug, Object)]
#[oai(rename = "Attempt", rename_all = "camelCase", skip_serializing_if_is_none)]
struct AttemptShape {
    step: String,
    number: i32,
    started_at: Option<DateTime<Utc>>,
    ended_at: DateTime<Utc>,
    /// `done`. `not_done` or, if the provider answered so, `answered_no`: surely nothing happened. `unknown`: it may have happened. `not_undone`: an undo was
    /// not done, or nobody knows. `cannot_undo`: it can never be done.
    outcome: Word<OutcomeWords>,
    error: Option<String>,
}

/// An effect outside the database.
#[derive(Debug, Object)]
#[oai(rename = "Effect", rename_all = "camelCase", skip_serializing_if_is_none)]
struct EffectShape {
    /// The idempotency key that the provider was given.
    key: String,
    kind: String,
    /// The provider's own reference.
    reference: Option<String>,
    amount: Option<String>,
    currency: Option<String>,
    /// `intent`, `confirmed`, `refuted`, `undone`, or `waived` if a person answers for it.
    status: Word<EffectWords>,
    at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
}

answer! {
    /// A worker process.
    #[oai(rename = "Worker", rename_all = "camelCase")]
    struct WorkerShape from row: WorkerRow {
        id: Uuid = row.worker_id,
        name: String,
        /// The sagas that the worker can drive, with their versions.
        kinds: Any<Value> = Any(row.kinds),
        started_at: DateTime<Utc>,
        /// The end of the worker's lease on its instances.
        lease_until: DateTime<Utc>,
        alive: bool,
        /// The number of instances that the worker holds.
        holds: i64,
    }
}

/// A list of all workers.
#[derive(Debug, Object)]
struct Workers {
    items: Vec<WorkerShape>,
}

#[OpenApi(prefix_path = "/v1/admin", tag = "Group::Operators")]
impl Operators {
    /// List instances, newest first.
    #[oai(path = "/sagas", method = "get", operation_id = "listSagas")]
    #[expect(clippy::too_many_arguments, reason = "one argument is one query parameter")]
    async fn sagas(
        &self,
        by: By<ViewerUp>,
        kind: Query<Option<String>>,
        status: Query<Option<SagaStatus>>,
        subject: Query<Option<String>>,
        #[oai(name = "waitingOn")] waiting_on: Query<Option<Waiting>>,
        /// Only instances with this tag, `name=value`. Give it several times to require several tags.
        #[oai(name = "tag")]
        tags: Query<Option<Vec<Tag>>>,
        priority: Query<Option<PriorityShape>>,
        /// Only instances that this one started.
        parent: Query<Option<Uuid>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<SagaShape>>, Problem> {
        let limit = page::limit(limit.0)?;
        let filter = Filter {
            name: kind.0,
            status: status.0.map(Into::into),
            subject: subject.0,
            waiting_on: waiting_on.0.map(Into::into),
            tags: tags.0.into_iter().flatten().map(|tag| (tag.name, tag.value)).collect(),
            priority: priority.0.map(Into::into),
            parent: parent.0,
            before: by.door.cursors.open("sagas", cursor.0.as_deref())?,
            limit: page::fetch_count(limit),
        };
        let _turn = by.door.turn_to_read().await?;
        let rows = inspect::list(&by.door.db, &filter).await?;
        let page = by.door.cursors.page("sagas", limit, rows, |row| row.saga_id, Into::into);
        Ok(Done::new(&page))
    }

    /// Get an instance with its state, journal, attempts and effects.
    #[oai(path = "/sagas/:sagaId", method = "get", operation_id = "getSaga")]
    async fn saga(
        &self,
        by: By<ViewerUp>,
        #[oai(name = "sagaId")] saga_id: Path<Uuid>,
    ) -> Result<Done<DetailsShape>, Problem> {
        let _turn = by.door.turn_to_read().await?;
        let details = inspect::details(&by.door.db, saga_id.0).await?;
        let details = details
            .ok_or_else(|| Problem::not_found("saga_not_found", "There is no such saga."))?;
        let events = match details.summary.subject.parse() {
            Ok(subject) => events::of_aggregate(&mut *by.door.db.acquire().await?, subject).await?,
            Err(_) => Vec::new(),
        };
        Ok(Done::new(&shown(details, events)))
    }

    /// List worker processes and their leases.
    #[oai(path = "/workers", method = "get", operation_id = "listWorkers")]
    async fn workers(&self, by: By<ViewerUp>) -> Result<Done<Workers>, Problem> {
        let rows = inspect::workers(&by.door.db).await?;
        Ok(Done::new(&Workers { items: rows.into_iter().map(Into::into).collect() }))
    }
}

/// Masks the JSON of a saga or an event for staff.
fn masked(value: Value) -> Any<Value> {
    Any(without_links(value))
}

fn shown(details: Details, events: Vec<Recorded>) -> DetailsShape {
    let Details { summary, state, undos, journal, effects, children, open_children } = details;
    DetailsShape {
        next: what_next(&summary),
        saga: summary.into(),
        state: masked(state),
        undos: masked(undos),
        attempts: journal.iter().filter_map(|entry| attempt(entry, &journal)).collect(),
        journal: journal.iter().map(Into::into).collect(),
        effects: effects.into_iter().map(shown_effect).collect(),
        events: events.into_iter().map(Into::into).collect(),
        children,
        open_children,
    }
}

/// Turns a journal row about an attempt at a step or an undo into an attempt. Other rows count the attempts as well, but are none. The step's name is
/// in the row that decided on the step; an undo is named after the step that it takes back.
fn attempt(entry: &Entry, journal: &[Entry]) -> Option<AttemptShape> {
    let number = entry.attempt?;
    let failed = match entry.kind {
        JournalKind::Attempt => true,
        JournalKind::Outcome | JournalKind::Settled | JournalKind::Undo => false,
        _ => return None,
    };
    let decided = journal.iter().find(|row| Some(row.seq) == entry.step_no);
    let step = decided
        .and_then(|row| row.next.as_ref())
        .and_then(|next| next.get("call").or_else(|| next.get("run")).or(Some(next)))
        .and_then(inspect::name_of);
    let said = |name: &str| entry.event.as_ref()?.get(name)?.as_str().map(str::to_owned);
    // A row of an earlier release says only by its outcome that it is about an undo.
    let is_undo = entry.kind == JournalKind::Undo
        || failed
            && (entry.event.as_ref().is_some_and(|event| event.get("undo").is_some())
                || matches!(said("outcome").as_deref(), Some("not_undone" | "cannot_undo")));
    let step = match (is_undo, step) {
        (false, step) => step.unwrap_or("a step").to_owned(),
        (true, Some(step)) => format!("undo of {step}"),
        (true, None) => "undo".to_owned(),
    };
    Some(AttemptShape {
        step,
        number: number.into(),
        started_at: entry.started_at,
        ended_at: entry.at,
        outcome: said("outcome").filter(|_| failed).map_or_else(|| "done".into(), Into::into),
        error: said("error").filter(|_| failed),
    })
}

fn shown_effect(effect: EffectEntry) -> EffectShape {
    EffectShape {
        key: effect.key().to_string(),
        kind: effect.kind,
        reference: effect.reference,
        amount: effect.amount.map(|amount| amount.value().to_string()),
        currency: effect.amount.map(|amount| amount.currency().to_string()),
        status: effect.status.to_string().into(),
        at: effect.at,
        settled_at: effect.settled_at,
    }
}

fn what_next(saga: &Summary) -> String {
    let when = saga.wake_at.map_or_else(String::new, |at| format!(" at {}", at.to_rfc3339()));
    let Some(waiting_on) = saga.waiting_on else {
        return "Nothing: the saga has ended.".to_owned();
    };
    match waiting_on {
        WaitingOn::Worker => "The next worker with room drives the saga.".to_owned(),
        WaitingOn::Activity => "A worker waits for the answer of the running step.".to_owned(),
        WaitingOn::Retry => format!("The step is tried again{when}."),
        WaitingOn::Timer => format!("A timer fires{when}."),
        WaitingOn::Signal if saga.wake_at.is_some() => {
            format!("The saga waits for an event from outside, until{when}.")
                .replace("until at", "until")
        }
        WaitingOn::Signal => "The saga waits for an event from outside.".to_owned(),
        WaitingOn::Operator => "The saga waits for an operator.".to_owned(),
        WaitingOn::Children | WaitingOn::Parent | WaitingOn::Version => {
            format!("The saga waits on: {waiting_on}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::{ParseFromJSON, ToJSON};
    use serde_json::json;
    use stepwise_engine::AttemptOutcome;

    use super::{
        super::words::{Words as _, words_of},
        *,
    };

    /// Asserts that a shape has each of these words.
    fn assert_has<S: ParseFromJSON + ToJSON>(words: impl IntoIterator<Item = String>) {
        for word in words {
            let shape = S::parse_from_json(Some(json!(word))).ok();
            assert_eq!(shape.and_then(|shape| shape.to_json()), Some(json!(word)));
        }
    }

    #[test]
    fn the_statuses_and_the_things_to_wait_on_have_the_words_of_the_engine() {
        assert_has::<SagaStatus>(words_of::<Status>());
        assert_has::<Waiting>(words_of::<WaitingOn>());
    }

    /// A journal row about the first attempt at step 1.
    fn row(kind: JournalKind, event: Value) -> Entry {
        Entry {
            seq: 2,
            kind,
            event: Some(event),
            step_no: Some(1),
            attempt: Some(1),
            started_at: None,
            next: None,
            undo: None,
            at: DateTime::default(),
        }
    }

    #[test]
    fn only_a_try_of_a_step_or_an_undo_is_an_attempt_and_an_undo_has_a_name_of_its_own() {
        use JournalKind as K;
        let next = Some(json!({ "call": { "Charge": 7 } }));
        let decided = Entry { seq: 1, next, attempt: None, ..row(K::Start, json!("order")) };
        let failed = |outcome: &str| row(K::Attempt, json!({ "outcome": outcome, "error": "no" }));
        let undo = json!({ "outcome": "answered_no", "error": "no", "undo": true });
        let rows = [
            failed("unknown"),
            row(K::Probe, json!("never seen")),
            row(K::Settled, json!("Charged")),
            failed("not_undone"),
            row(K::Attempt, undo),
            row(K::Undo, json!("reference")),
            row(K::Dropped, json!(null)),
            row(K::Children, json!({})),
            row(K::ChildrenCalledOff, json!(null)),
            decided,
        ];
        let shown = rows.iter().filter_map(|entry| attempt(entry, &rows));
        let shown = shown.map(|attempt| (attempt.step, attempt.outcome.as_str().to_owned()));
        let expected = [
            ("Charge", "unknown"),
            ("Charge", "done"),
            ("undo of Charge", "not_undone"),
            ("undo of Charge", "answered_no"),
            ("undo of Charge", "done"),
        ];
        assert_eq!(
            shown.collect::<Vec<_>>(),
            expected.map(|(step, outcome)| (step.to_owned(), outcome.to_owned()))
        );
    }

    #[test]
    fn an_attempt_that_failed_is_shown_with_its_outcome() {
        for outcome in words_of::<AttemptOutcome>() {
            let entry = row(JournalKind::Attempt, json!({ "outcome": outcome, "error": "no" }));
            let shown = attempt(&entry, &[]).expect("it is one");
            assert_eq!((shown.outcome.as_str(), shown.error.as_deref()), (&*outcome, Some("no")));
            assert!(OutcomeWords::ALL.contains(&shown.outcome.as_str()));
        }
    }
}
