//! Events that the gateway sends on its own: hints to ask the gateway, never the last word.
//!
//! The most common event is the echo of a confirm that was answered anyway; it costs one read. Only a placement that waits for its customer's
//! approval, or for an operator, gets a signal, once per event id, and then asks the gateway itself. An event that does not fit our books is kept for
//! an operator.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use stepwise_engine::{Engine, Saga as _, SignalError, WaitingOn, inbox, inspect};
use uuid::Uuid;

use super::{PlaceOrder, Signal};
use crate::payment::gateway::{GatewayEvent, GatewayEventKind};

/// The result of an event whose signature is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// The placement got a signal.
    Signalled,
    /// The event says nothing new, or a copy of it was received before.
    Nothing,
    /// The event is about an unknown payment or another amount: it is kept for an operator.
    Parked(Misfit),
}

/// How an event does not fit our books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The order is unknown.
    UnknownPayment,
    /// The order is known, but its amount is another one.
    OtherAmount,
}

impl Misfit {
    /// The word in SQL and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPayment => "unknown_payment",
            Self::OtherAmount => "other_amount",
        }
    }
}

/// Takes an event in, in the caller's transaction. Round trips: 1 for an echo, 3 to park, 6 to signal.
///
/// # Errors
/// The database's or the engine's; the gateway sends the event again.
pub async fn receive(
    engine: &Engine,
    tx: &mut PgConnection,
    event: &GatewayEvent,
) -> Result<Reception, SignalError> {
    let Some(order) = event.authorization.order_id else {
        return park(tx, event, Misfit::UnknownPayment).await;
    };
    let known: Option<(String, Decimal, String)> = sqlx::query_as(
        r#"-- webhook: read order
        select status, total_amount, currency from shop."order" where order_id = $1"#,
    )
    .bind(order)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((status, amount, currency)) = known else {
        return park(tx, event, Misfit::UnknownPayment).await;
    };
    let told = event.authorization.amount;
    if told.amount() != amount || told.currency().code() != currency {
        return park(tx, event, Misfit::OtherAmount).await;
    }
    let decides = matches!(
        event.kind,
        GatewayEventKind::Authorized | GatewayEventKind::Declined | GatewayEventKind::Cancelled
    );
    if status != "placing" || !decides {
        return Ok(Reception::Nothing);
    }
    tell(engine, tx, event, order).await
}

async fn tell(
    engine: &Engine,
    tx: &mut PgConnection,
    event: &GatewayEvent,
    order: Uuid,
) -> Result<Reception, SignalError> {
    let placement = inspect::latest_about(tx, PlaceOrder::NAME, &order.to_string()).await?;
    // A placement that waits for an operator keeps the signal. In any other state it gets the gateway's answer by itself, or asks for it.
    let waits = |on| matches!(on, Some(WaitingOn::Signal | WaitingOn::Operator));
    let Some(placement) = placement.filter(|placement| waits(placement.waiting_on)) else {
        return Ok(Reception::Nothing);
    };
    if !inbox::first_time(tx, "gateway", &event.id).await? {
        return Ok(Reception::Nothing);
    }
    engine.signal::<PlaceOrder>(tx, placement.saga_id, &event.id, Signal::GatewayReported).await?;
    Ok(Reception::Signalled)
}

async fn park(
    tx: &mut PgConnection,
    event: &GatewayEvent,
    why: Misfit,
) -> Result<Reception, SignalError> {
    tracing::warn!(
        event = event.id,
        why = why.as_str(),
        "a gateway event does not fit our books; it is parked"
    );
    sqlx::query(
        "-- webhook: park
        insert into shop.parked_gateway_event (event_id, why, kind, reference, order_id, amount, currency, happened_at, parked_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, saga.now()) on conflict do nothing",
    )
    .bind(&event.id)
    .bind(why.as_str())
    .bind(format!("{:?}", event.kind))
    .bind(&event.authorization.reference.0)
    .bind(event.authorization.order_id)
    .bind(event.authorization.amount.amount())
    .bind(event.authorization.amount.currency().code())
    .bind(event.at)
    .execute(tx)
    .await?;
    Ok(Reception::Parked(why))
}
