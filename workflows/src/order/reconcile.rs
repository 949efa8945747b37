//! Comparing payments with the gateway although it has sent no event, because an event may be lost.
//!
//! A payment is first asked about an hour after it was made. Then the time between two questions is as long as it has been unchanged: at most six hours
//! while its money is reserved, because an authorization lapses, and at most 30 days after it was taken. Payments whose money is being moved are left to the saga
//! that moves it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    outside::{self, Applied, Truth},
    store::lock_order,
};
use crate::{
    payment::{
        gateway::Reference,
        parked::{Misfit, Parked, RECONCILE, park},
    },
    shop::Context,
};

/// A payment to ask the gateway about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Question {
    /// The order.
    pub order_id: Uuid,
    /// Its payment in force.
    pub payment_id: Uuid,
    /// The gateway's reference of the authorization.
    #[sqlx(try_from = "String")]
    pub reference: Reference,
    /// When the payment last changed. An answer is applied only if it has not changed since.
    pub changed_at: DateTime<Utc>,
}

/// The payment that has waited longest to be asked about; `None`: none is due. A payment that was chosen is due again later, whatever comes of the
/// question, so that the next instance begins with others. 1 round trip, 1 row operation.
///
/// # Errors
/// The database's.
pub async fn choose(ctx: &mut Context<'_>) -> Result<Option<Question>, sqlx::Error> {
    sqlx::query_as(
        r#"-- reconcile: choose
        with chosen as (
            select p.payment_id from shop.payment p join shop."order" o using (order_id)
            where p.state in ('authorized', 'captured', 'partially_refunded', 'refunded')
              and coalesce(p.ask_at, p.created_at) <= saga.now()
              and p.updated_at <= saga.now() - interval '1 hour'
              and p.authorization_id is not null and o.payment_id = p.payment_id
              and not exists (select from shop.payment_transaction t
                              where t.payment_id = p.payment_id and t.settled_at is null and t.kind <> 'dispute')
            order by coalesce(p.ask_at, p.created_at) limit 1
            for update of p skip locked
        )
        update shop.payment p
        set ask_at = saga.now() + greatest(interval '1 hour', least(saga.now() - p.updated_at,
            case when p.state = 'authorized' then interval '6 hours' else interval '30 days' end))
        from chosen where p.payment_id = chosen.payment_id
        returning p.order_id, p.payment_id, p.authorization_id as reference, p.updated_at as changed_at"#,
    )
    .fetch_optional(&mut **ctx)
    .await
}

/// Brings the payment into agreement with the gateway's answer, unless it has changed since it was chosen. Keeps a contradiction for a person. 2 round
/// trips, those of [`outside::apply`], and 1 to keep it.
///
/// # Errors
/// The database's.
pub async fn apply(
    ctx: &mut Context<'_>,
    question: &Question,
    truth: &Truth,
) -> Result<(), sqlx::Error> {
    let Question { order_id, payment_id, reference, changed_at } = question;
    let Some(order) = lock_order(ctx, *order_id).await? else { return Ok(()) };
    let is_unchanged: Option<bool> = sqlx::query_scalar(
        "-- reconcile: has it changed
        select updated_at = $2 and not exists (select from shop.payment_transaction t
            where t.payment_id = p.payment_id and t.settled_at is null and t.kind <> 'dispute')
        from shop.payment p where payment_id = $1",
    )
    .bind(payment_id)
    .bind(changed_at)
    .fetch_optional(&mut **ctx)
    .await?;
    if order.payment_id != *payment_id || is_unchanged != Some(true) {
        return Ok(());
    }
    let paid = order.paid_amount()?;
    let (why, amount) = match outside::apply(ctx, *order_id, truth).await? {
        Some(Applied::Agrees | Applied::Corrected | Applied::Later) => return Ok(()),
        Some(Applied::RefundFailed(amount)) => (Misfit::RefundFailed, amount),
        Some(Applied::Contradicts) | None => (Misfit::ContradictsOurBooks, paid),
    };
    // Each further refund that fails is a row of its own.
    let failed = truth.refunds.iter().filter(|made| made.has_failed()).count();
    let news = Parked {
        id: &format!("reconcile-{payment_id}-{}-{failed}", why.as_str()),
        why,
        kind: RECONCILE,
        reference: Some(reference),
        order_id: Some(*order_id),
        amount: Some(amount),
        at: None,
    };
    park(ctx, &news).await?;
    Ok(())
}
