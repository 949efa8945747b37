//! Events that are kept for an operator, or counted.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Reception;
use crate::{
    order::outside::{self, Disputed, Disputing},
    payment::{
        gateway::{GatewayEvent, News, Reference},
        parked::{self, Misfit, Parked, plain},
    },
};

/// The maximum number of kinds of events that are counted separately.
const KINDS_AT_MOST: i64 = 500;

/// Books a dispute, and keeps the event for a person if it says something new.
pub(super) async fn book_dispute(
    tx: &mut PgConnection,
    event: &GatewayEvent,
    order: Uuid,
) -> Result<Reception, sqlx::Error> {
    let News::Dispute { reference, amount, status, .. } = &event.news else {
        return Ok(Reception::Nothing);
    };
    let reference = Reference(plain(&reference.0));
    let (reference, id) = (&reference, &*event.id);
    let news = Disputing { event: id, reference, amount: *amount, status: *status };
    match outside::dispute(tx, order, &news).await? {
        Disputed::Booked => park(tx, event, Misfit::Dispute, Some(order)).await,
        Disputed::OtherCurrency => park(tx, event, Misfit::OtherAmount, Some(order)).await,
        Disputed::Known => Ok(Reception::Nothing),
    }
}

/// Keeps an event for an operator, for this reason. Round trips: 1 or 2.
pub(super) async fn park(
    tx: &mut PgConnection,
    event: &GatewayEvent,
    why: Misfit,
    order: Option<Uuid>,
) -> Result<Reception, sqlx::Error> {
    let (reference, order_id, amount) = match &event.news {
        News::Authorization(_, found) => {
            (Some(&found.reference), order.or(found.order_id), Some(found.amount))
        }
        News::Refund { authorization, refund } => (Some(authorization), order, Some(refund.amount)),
        News::Dispute { authorization, amount, .. } => (Some(authorization), order, Some(*amount)),
        News::Approval { reference, .. } => (Some(reference), order, None),
        News::NoConcern | News::Unreadable => (None, order, None),
    };
    let (id, kind, at) = (&*event.id, &*event.name, event.at);
    let parked = Parked { id, why, kind, reference, order_id, amount, at };
    Ok(match parked::park(tx, &parked).await? {
        true => Reception::Parked(why),
        false => Reception::Full,
    })
}

/// Counts an event that concerns no payment of this shop.
pub(super) async fn count(
    tx: &mut PgConnection,
    event: &GatewayEvent,
) -> Result<Reception, sqlx::Error> {
    sqlx::query(
        "-- webhook: count
        insert into shop.gateway_event_count as counted (kind, events, last_event_id, last_at)
        select case when exists (select from shop.gateway_event_count where kind = $1)
                      or (select count(*) from shop.gateway_event_count) < $3
                    then $1 else 'other' end, 1, $2, saga.now()
        on conflict (kind) do update set events = counted.events + 1,
            last_event_id = excluded.last_event_id, last_at = excluded.last_at",
    )
    .bind(&event.name)
    .bind(&event.id)
    .bind(KINDS_AT_MOST)
    .execute(tx)
    .await?;
    Ok(Reception::NoConcern)
}
