//! Money that the gateway moved without being asked by this shop: an authorization that lapsed, a capture or a refund by hand at the provider,
//! a refund that failed days later, a dispute.
//!
//! The gateway's word is the truth. An event only says that something has changed; [`apply`] takes what the gateway answers when it is
//! asked, so copies of events and events in a wrong order change nothing. A move that the shop has asked for itself is left to the saga that
//! asked for it.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    refund::given_back,
    store::{LockedOrder, lock_order, lock_order_paid_by},
};
use crate::{
    events::{Told, tell},
    money::{Currency, Money},
    payment::{
        PaymentState,
        gateway::{
            Authorization, AuthorizationStatus, DisputeStatus, GatewayError, MadeRefund,
            PaymentGateway, Reference, RefundStatus,
        },
        parked::plain,
        store::{Balance, Transaction, transactions_of},
    },
    shop::Context,
};

/// The result of comparing a payment with the gateway's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The books say the same, or a saga of ours is about to make them say so.
    Agrees,
    /// The books were corrected.
    Corrected,
    /// The books were corrected: a refund that they counted has failed, so its money did not reach the customer.
    RefundFailed(Money),
    /// The books say something that the gateway's word cannot follow from. Nothing was changed.
    Contradicts,
    /// A saga of ours is about to book a move, and the gateway's word says more. Nothing was changed; ask again later.
    Later,
}

/// The gateway's answer to the question about an authorization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// The authorization; `None`: the gateway does not know it.
    pub authorization: Option<Authorization>,
    /// All of its refunds.
    pub refunds: Vec<MadeRefund>,
}

impl Truth {
    /// Whether every amount that the gateway names is in this currency.
    fn is_in(&self, currency: Currency) -> bool {
        let authorization = self.authorization.iter().flat_map(|found| match found.status {
            AuthorizationStatus::Captured { captured, refunded } => {
                vec![found.amount, captured, refunded]
            }
            _ => vec![found.amount],
        });
        let refunds = self.refunds.iter().map(|made| made.amount);
        authorization.chain(refunds).all(|amount| amount.currency() == currency)
    }
}

/// Asks the gateway about an authorization. Outside any transaction.
///
/// # Errors
/// The gateway's.
pub async fn ask(
    gateway: &dyn PaymentGateway,
    reference: &Reference,
) -> Result<Truth, GatewayError> {
    let authorization = gateway.find(reference).await?;
    let is_taken =
        |found: &Authorization| matches!(found.status, AuthorizationStatus::Captured { .. });
    let refunds = match &authorization {
        Some(found) if is_taken(found) => gateway.refunds(reference).await?,
        _ => Vec::new(),
    };
    Ok(Truth { authorization, refunds })
}

/// Brings the order's payment with this authorization into agreement with the gateway. `None`: there is no such order. 2 round trips, 1 to 4 more to correct.
pub async fn apply(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    truth: &Truth,
) -> Result<Option<Applied>, sqlx::Error> {
    use AuthorizationStatus as A;
    use PaymentState as P;

    let locked = match &truth.authorization {
        Some(found) => lock_order_paid_by(ctx, order_id, &plain(&found.reference.0)).await?,
        None => lock_order(ctx, order_id).await?,
    };
    let Some(order) = locked else { return Ok(None) };
    ctx.learn_now(order.now);
    let Some(authorization) = &truth.authorization else { return Ok(Some(Applied::Contradicts)) };
    let is_in_force = order.authorization_id.as_deref() == Some(&*authorization.reference.0);
    if is_in_force && !truth.is_in(order.paid_amount()?.currency()) {
        return Ok(Some(Applied::Contradicts));
    }
    let booked = transactions_of(ctx, order.payment_id).await?;
    let asked = |kind: &str| booked.iter().any(|row| row.kind == kind && row.is_open());
    Ok(Some(match (order.payment_state, &authorization.status) {
        (P::Authorizing, _) => Applied::Later,
        // Of an authorization that the books do not have, or that another payment has replaced.
        (_, status) if !is_in_force => match status {
            A::Authorized | A::Captured { .. } => Applied::Contradicts,
            _ => Applied::Agrees,
        },
        (P::Authorized, A::Authorized)
        | (
            P::Voided | P::Declined,
            A::Cancelled
            | A::Declined(_)
            | A::Unsupported
            | A::Created
            | A::Processing
            | A::ApprovalRequired(_),
        ) => Applied::Agrees,
        (P::Authorized, A::Cancelled) if asked("void") => Applied::Agrees,
        (P::Authorized, A::Cancelled) => {
            let moved = Moved::outside("void", order.paid_amount()?, &authorization.reference);
            book(ctx, &order, &moved).await?;
            set(ctx, &order, P::Voided, order.refunded_amount()?, &tell([])).await?;
            Applied::Corrected
        }
        (P::Authorized, A::Captured { captured, .. }) if asked("capture") => {
            let is_ours = *captured == order.paid_amount()? && truth.refunds.is_empty();
            if is_ours { Applied::Agrees } else { Applied::Later }
        }
        (P::Authorized, A::Captured { captured, .. }) => {
            let moved = Moved::outside("capture", *captured, &authorization.reference);
            book(ctx, &order, &moved).await?;
            set(ctx, &order, P::Captured, order.refunded_amount()?, &tell([])).await?;
            match refunds(ctx, &order, &booked, *captured, &truth.refunds).await? {
                Applied::Agrees => Applied::Corrected,
                applied => applied,
            }
        }
        (P::Captured | P::PartiallyRefunded | P::Refunded, A::Captured { captured, .. }) => {
            refunds(ctx, &order, &booked, *captured, &truth.refunds).await?
        }
        _ => Applied::Contradicts,
    }))
}

/// Books every refund that the books do not have, and every failure of one that they have.
async fn refunds(
    ctx: &mut Context<'_>,
    order: &LockedOrder,
    booked: &[Transaction],
    captured: Money,
    made: &[MadeRefund],
) -> Result<Applied, sqlx::Error> {
    let rows = || booked.iter().filter(|row| row.kind == "refund");
    let is_asked = booked.iter().any(|row| row.gives_back() && row.is_open());
    let fails = |refund: &MadeRefund| matches!(refund.status, RefundStatus::Failed(_));
    let is_booked = |refund: &MadeRefund| rows().any(|row| row.key == refund.key);
    if is_asked && made.iter().any(|made| made.key.is_some() && fails(made) && !is_booked(made)) {
        return Ok(Applied::Later);
    }
    let books = Balance::of(booked, captured.currency());
    let mut balance = Balance { captured: captured.amount(), ..books };
    let (mut told, mut applied) = (Vec::new(), Applied::Agrees);
    for refund in made {
        let is_it = |row: &&Transaction| {
            row.reference.as_deref() == Some(&*refund.reference.0)
                || (row.key.is_some() && row.key == refund.key)
        };
        let row = rows().find(is_it);
        match (row.map(|row| &*row.state), &refund.status) {
            // Its saga books it.
            (None, _) if refund.key.is_some() && is_asked => {}
            (None, RefundStatus::Failed(reason)) => {
                let moved = Moved { reason: Some(reason.as_str()), ..Moved::refund(refund) };
                book(ctx, order, &Moved { state: "failed", ..moved }).await?;
                applied = applied.or(Applied::Corrected);
            }
            (None, RefundStatus::Succeeded | RefundStatus::Pending) => {
                book(ctx, order, &Moved::refund(refund)).await?;
                balance.refunded += refund.amount.amount();
                told.push(given_back(order, refund.amount, &refund.reference.0));
                applied = applied.or(Applied::Corrected);
            }
            (Some("succeeded"), RefundStatus::Failed(reason)) => {
                fail(ctx, row.map(|row| row.transaction_id), reason.as_str()).await?;
                balance.refunded -= refund.amount.amount();
                let before = match applied {
                    Applied::RefundFailed(before) => before,
                    _ => Money::zero(captured.currency()),
                };
                let failed = before.plus(refund.amount).unwrap_or(refund.amount);
                applied = Applied::RefundFailed(failed);
            }
            _ => {}
        }
    }
    if applied == Applied::Agrees {
        return Ok(applied);
    }
    // More than was authorized may have been taken and given back outside.
    let back = balance.given_back().min(order.paid_amount()?.amount());
    let back = Money::stored(back, captured.currency().code())?;
    let told = tell(told);
    set(ctx, order, balance.state(), back, &told).await?;
    ctx.record(told.after(order.payment_event_count)).await?;
    Ok(applied)
}

impl Applied {
    /// A failed refund is said, whatever else was corrected.
    fn or(self, other: Self) -> Self {
        if matches!(self, Self::RefundFailed(_)) { self } else { other }
    }
}

/// A row of the books.
#[derive(Clone, Copy)]
struct Moved<'a> {
    kind: &'a str,
    state: &'a str,
    amount: Money,
    reference: &'a Reference,
    key: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> Moved<'a> {
    fn outside(kind: &'a str, amount: Money, reference: &'a Reference) -> Self {
        Self { kind, state: "succeeded", amount, reference, key: None, reason: None }
    }

    /// A pending refund counts as done, because the gateway has accepted it. If it fails, the gateway says so.
    fn refund(refund: &'a MadeRefund) -> Self {
        let moved = Self::outside("refund", refund.amount, &refund.reference);
        Self { key: refund.key.as_deref(), ..moved }
    }
}

async fn book(
    tx: &mut PgConnection,
    order: &LockedOrder,
    moved: &Moved<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- payment: book what the gateway did by itself
        insert into shop.payment_transaction (transaction_id, payment_id, kind, state, amount, currency, key, reference,
            reason, requested_at, settled_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, saga.now(), saga.now())",
    )
    .bind(Uuid::now_v7())
    .bind(order.payment_id)
    .bind(moved.kind)
    .bind(moved.state)
    .bind(moved.amount.amount())
    .bind(moved.amount.currency().code())
    .bind(moved.key)
    .bind(&moved.reference.0)
    .bind(moved.reason)
    .execute(tx)
    .await?;
    Ok(())
}

async fn fail(tx: &mut PgConnection, row: Option<Uuid>, reason: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- payment: a refund has failed after all
        update shop.payment_transaction set state = 'failed', reason = $2, settled_at = saga.now()
        where transaction_id = $1",
    )
    .bind(row)
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(())
}

/// Sets the payment's state and what was given back of it.
async fn set(
    tx: &mut PgConnection,
    order: &LockedOrder,
    state: PaymentState,
    refunded: Money,
    told: &Told,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- payment: as the gateway says
        with shown as (
            -- The order shows its payment, so its entity tag changes.
            update shop."order" set version = version + 1, updated_at = $5 where order_id = $6
        )
        update shop.payment set state = $2, refunded_amount = $3, event_count = event_count + $4,
            updated_at = $5, ask_at = null
        where payment_id = $1"#,
    )
    .bind(order.payment_id)
    .bind(state.as_str())
    .bind(refunded.amount())
    .bind(told.count())
    .bind(order.now)
    .bind(order.order_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// The news about a dispute.
#[derive(Debug, Clone)]
pub struct Disputing<'a> {
    /// The id of the event that brings the news.
    pub event: &'a str,
    /// The provider's reference of the dispute.
    pub reference: &'a Reference,
    /// The disputed amount.
    pub amount: Money,
    /// The state of the dispute.
    pub status: DisputeStatus,
}

/// The result of booking a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disputed {
    /// The books say the same, or the event is a copy of one that a person was told of before.
    Known,
    /// The dispute, or the decision about it, is in the books now.
    Booked,
    /// The amount is not in the payment's currency. Nothing was changed.
    OtherCurrency,
}

/// Books a dispute of the order's payment, or the decision about it. A bank may decide again later, so a decision replaces another one. 2 round trips.
pub async fn dispute(
    tx: &mut PgConnection,
    order_id: Uuid,
    news: &Disputing<'_>,
) -> Result<Disputed, sqlx::Error> {
    let Disputing { event, reference, amount, status } = *news;
    let Some(order) = lock_order(tx, order_id).await? else { return Ok(Disputed::Known) };
    if amount.currency() != order.paid_amount()?.currency() {
        return Ok(Disputed::OtherCurrency);
    }
    let state = match status {
        DisputeStatus::Open => "requested",
        DisputeStatus::Lost => "succeeded",
        DisputeStatus::Won => "failed",
    };
    let done = sqlx::query(
        r#"-- payment: book a dispute
        with paid as (
            select payment_id from shop."order" where order_id = $1
        ), known as (
            select transaction_id, state from shop.payment_transaction t join paid using (payment_id)
            where t.kind = 'dispute' and t.reference = $3
        ), decided as (
            update shop.payment_transaction t set state = $4, settled_at = saga.now()
            from known where t.transaction_id = known.transaction_id and known.state <> $4 and $4 <> 'requested'
                -- A late copy of an earlier decision does not bring that decision back.
                and not exists (select from shop.parked_gateway_event where event_id = $7)
            returning 1
        ), opened as (
            insert into shop.payment_transaction (transaction_id, payment_id, kind, state, amount, currency, reference,
                requested_at, settled_at)
            select $2, payment_id, 'dispute', $4, $5, $6, $3, saga.now(), case when $4 <> 'requested' then saga.now() end
            from paid where not exists (select from known)
            returning 1
        )
        select from decided union all select from opened"#,
    )
    .bind(order_id)
    .bind(Uuid::now_v7())
    .bind(&reference.0)
    .bind(state)
    .bind(amount.amount())
    .bind(amount.currency().code())
    .bind(event)
    .fetch_optional(tx)
    .await?;
    Ok(if done.is_some() { Disputed::Booked } else { Disputed::Known })
}
