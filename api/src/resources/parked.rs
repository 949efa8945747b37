//! Gateway events that need a person: reading them, and the verbs that end them.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::{
    gateway_events::retry,
    payment::parked::{self, ParkedEvent, ParkedRefusal, Said},
};
use uuid::Uuid;

use super::{
    Group,
    answer::{Show as _, answer},
    shapes::MoneyShape,
    webhooks::not_answered,
    words::{ParkedWords, Word},
};
use crate::door::{
    Ask,
    caller::{By, OperatorUp, ViewerUp},
    idempotency::OptionalKey,
    json::Body,
    page::{self, Page},
    personal::Personal,
    problem::Problem,
    refuses::Refuses,
    reply::Done,
};

/// The operations about parked events.
pub struct ParkedEvents;

/// An operator's verb on a parked event.
#[derive(Debug, Object)]
struct VerbOnParkedEvent {
    /// The reason, which is kept with the event.
    #[oai(validator(max_length = 500))]
    reason: String,
}

answer! {
    /// An event of the payment gateway that needs, or has needed, a person.
    #[oai(rename = "ParkedEvent", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct ParkedShape from event: ParkedEvent {
        amount: Option<MoneyShape> = event.amount().show(),
        /// The gateway's id of the event.
        id: String = event.event_id,
        /// `waiting`, or `ended` by a verb.
        status: Word<ParkedWords> = if event.ended_at.is_some() { "ended" } else { "waiting" }.into(),
        /// `unknown_payment`, `other_amount`, `unreadable`, `contradicts_our_books`, `refund_failed` or `dispute`.
        why: String = event.why.as_str().to_owned(),
        /// The gateway's name of its kind; `reconcile` if the shop itself has found it when it compared the payment with the gateway.
        kind: String,
        /// The gateway's reference of the payment.
        reference: Option<String>,
        order_id: Option<Uuid>,
        happened_at: Option<DateTime<Utc>>,
        parked_at: DateTime<Utc>,
        ended_at: Option<DateTime<Utc>>,
        /// The last verb of an operator: `retry` or `dismiss`. An event may wait on after a retry.
        verb: Option<String>,
        /// The operator.
        verb_by: Option<String>,
        /// The operator's reason. Only admins see it.
        verb_reason: Personal<Option<String>>,
        verb_at: Option<DateTime<Utc>>,
    }
}

#[OpenApi(prefix_path = "/v1/admin/parked-events", tag = "Group::Operators")]
impl ParkedEvents {
    /// List the events of the payment gateway that wait for a person, oldest first.
    #[oai(path = "/", method = "get", operation_id = "listParkedEvents")]
    async fn list(
        &self,
        by: By<ViewerUp>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<ParkedShape>>, Problem> {
        const LIST: &str = "parked-events";
        let limit = page::limit(limit.0)?;
        let after = by.door.cursors.open(LIST, cursor.0.as_deref())?;
        let _turn = by.door.turn_to_read().await?;
        let rows = parked::waiting(&by.door.db, after, page::fetch_count(limit)).await?;
        let key = |row: &ParkedEvent| (row.parked_at, row.event_id.clone());
        let page = by.door.cursors.page(LIST, limit, rows, key, Into::into);
        Ok(Done::to(&by, &page))
    }

    /// Get an event of the payment gateway that needs a person, or that a person has ended in the last 90 days.
    #[oai(path = "/:eventId", method = "get", operation_id = "getParkedEvent")]
    async fn get(
        &self,
        by: By<ViewerUp>,
        #[oai(name = "eventId")] event_id: Path<String>,
    ) -> Result<Done<ParkedShape>, Refuses<ParkedRefusal>> {
        Ok(Done::to(&by, &parked::get(&by.door.db, &event_id.0).await?.into()))
    }

    /// Ask the payment gateway about the payment of a parked event, and apply the answer as if the event had come now. The event is `ended` if
    /// nothing is left to do; otherwise it is `waiting`, for the reason that it has now. The gateway is asked outside any transaction. 8 to 15 round
    /// trips.
    #[oai(path = "/:eventId/retry", method = "post", operation_id = "retryParkedEvent")]
    async fn retry(
        &self,
        by: By<OperatorUp>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "eventId")] event_id: Path<String>,
        body: Body<VerbOnParkedEvent>,
    ) -> Result<Done<ParkedShape>, Refuses<ParkedRefusal>> {
        let said = Said::new(&by.actor().to_string(), &body.value.reason)?;
        let (door, id) = (&by.door, event_id.0.as_str());
        let event = parked::get(&door.db, id).await?;
        // The gateway is not asked about one that is ended: the request may be a repetition, which gets the first answer.
        let truth = match event.question() {
            Some(reference) => {
                let asked = retry::ask_again(&*door.shop.gateway, reference).await;
                Some(asked.map_err(not_answered)?)
            }
            None => None,
        };
        let ask = Ask::new("retryParkedEvent", &by, &key).with(&body);
        door.command(ask, async |ctx| {
            let retried = retry::retry(ctx, id, truth.as_ref(), &said).await?;
            Ok(Done::to(&by, &retried.into()))
        })
        .await
    }

    /// End a parked event, because a person has done what it needed. 6 round trips.
    #[oai(path = "/:eventId/dismiss", method = "post", operation_id = "dismissParkedEvent")]
    async fn dismiss(
        &self,
        by: By<OperatorUp>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "eventId")] event_id: Path<String>,
        body: Body<VerbOnParkedEvent>,
    ) -> Result<Done<ParkedShape>, Refuses<ParkedRefusal>> {
        let said = Said::new(&by.actor().to_string(), &body.value.reason)?;
        let ask = Ask::new("dismissParkedEvent", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let dismissed = parked::dismiss(ctx, &event_id.0, &said).await?;
                Ok(Done::to(&by, &dismissed.into()))
            })
            .await
    }
}
