//! Approvals at PayPal: one-time payment methods.
//!
//! `pending -> approved -> used`, back from `used` to `approved` while PayPal holds the approval, and `expired` from each of them but `approved`. A customer approves an amount at PayPal's page, and then pays
//! one order of exactly that amount with it. [`begin`] adds the method, a saga takes it from there (`offer`, `approve`, `expire`), and
//! placing an order uses it (`pay`). An approval moves no money; PayPal forgets one that is not used.
//!
//! The addresses to which PayPal sends the customer are in the row and in no state of a saga, since a shop may put anything into them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor};
use url::Url;
use uuid::Uuid;

use super::lock;
use crate::{
    money::Money,
    payment::{gateway::Reference, paypal::ApprovalRequest},
    refusal::{Field, refusals},
    shop::{Context, config::Config},
    text::{self, BadField},
};

/// The kind of the methods, which is also the word in events.
pub(crate) const KIND: &str = "paypal";

/// How many approvals of one customer may be pending at the same time.
pub const PENDING_AT_MOST: i64 = 5;

/// How long PayPal keeps an order that nobody completes: 3 hours (<https://github.com/paypal/Checkout-PHP-SDK/issues/84>).
const KEPT_S: f64 = 3.0 * 3_600.0;

/// The maximum length of an address.
const URL_CHARS: usize = 2_000;

/// The command.
#[derive(Debug, Clone)]
pub struct InitiatePayPal {
    /// The customer.
    pub customer_id: Uuid,
    /// The amount to approve: the total of the order that is to be paid.
    pub amount: Money,
    /// The address to which PayPal sends the customer after an approval.
    pub return_url: String,
    /// The address to which PayPal sends the customer who does not approve.
    pub cancel_url: String,
}

refusals! {
    /// Why no approval is asked for.
    #[derive(Debug, thiserror::Error)]
    pub enum InitiatePayPalRefusal {
        /// Unknown, or the account is being erased.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// The shop takes no payments by PayPal.
        #[error("This shop takes no payments by PayPal.")]
        NotOffered => Conflict "paypal_not_offered",
        /// Nothing, or not in the shop's currency.
        #[error("an amount is more than nothing, in the currency of the shop")]
        InvalidAmount => Unprocessable "invalid_amount" at "/amount",
        /// An address is missing, too long, or not fit to be kept.
        #[error(transparent)]
        InvalidField(#[from] BadField),
        /// Not an address of a web page, or one with a user name.
        #[error("not an address such as https://shop.example/thanks")]
        InvalidUrl(&'static str) => Unprocessable "invalid_url" with invalid_url,
        /// The origin of an address is not on the shop's list.
        #[error("the shop sends no customer to this address")]
        UrlNotAllowed(&'static str) => Unprocessable "url_not_allowed" with url_not_allowed,
        /// Too many approvals of the customer are pending, or the customer has too many payment methods.
        #[error("too many payments wait for an approval at PayPal, or there are too many payment methods")]
        TooManyApprovals => Conflict "too_many_approvals",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

fn invalid_url(field: &&'static str) -> Vec<Field> {
    at(field, "not an address such as https://shop.example/thanks")
}

fn url_not_allowed(field: &&'static str) -> Vec<Field> {
    at(field, "its origin is not on the shop's list")
}

fn at(field: &str, detail: &str) -> Vec<Field> {
    vec![Field { pointer: format!("/{field}").into(), detail: detail.to_owned() }]
}

refusals! {
    /// Why an order cannot be paid with a method of the kind `paypal`.
    #[derive(Debug, thiserror::Error)]
    pub enum NotUsable {
        /// The customer has not approved it, as far as the shop knows.
        #[error("the payment is not approved at PayPal yet")]
        NotApproved => Conflict "payment_not_approved",
        /// It was not approved, or not used, in time.
        #[error("the approval at PayPal has expired; ask for a new one")]
        Expired => Conflict "payment_method_expired",
        /// Another order is or was paid with it.
        #[error("an approval at PayPal pays one order, and this one has paid another")]
        Used => Conflict "payment_method_used",
        /// The order's total is not the amount that the customer has approved.
        #[error("{approved} were approved, and the order's total is {total}")]
        AmountMismatch {
            /// The amount that was approved.
            approved: Money,
            /// The order's total.
            total: Money,
        } => Unprocessable "amount_mismatch" at "/paymentMethodId",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

impl NotUsable {
    /// The code of [`NotUsable::NotApproved`]: PayPal may know better.
    pub const NOT_APPROVED: &str = "payment_not_approved";
}

/// Adds a payment method that cannot be used yet. 2 round trips: lock the customer, so that their approvals and methods are counted one at a
/// time; write.
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &InitiatePayPal,
) -> Result<Uuid, InitiatePayPalRefusal> {
    if ctx.shop.paypal.is_none() {
        return Err(InitiatePayPalRefusal::NotOffered);
    }
    let amount = command.amount;
    if amount.amount().is_zero() || amount.currency() != ctx.shop.config.currency {
        return Err(InitiatePayPalRefusal::InvalidAmount);
    }
    let return_url = page("returnUrl", &command.return_url, &ctx.shop.config)?;
    let cancel_url = page("cancelUrl", &command.cancel_url, &ctx.shop.config)?;
    if lock(ctx, command.customer_id).await?.is_none() {
        return Err(InitiatePayPalRefusal::CustomerNotFound);
    }
    let payment_method_id = Uuid::now_v7();
    let added = sqlx::query(
        "-- paypal: begin
        with pending as (
            select count(*) as approvals from shop.paypal_approval
            where customer_id = $2 and state = 'pending'
        ), saved as (
            select count(*) as methods
            from shop.payment_method m left join shop.paypal_approval a using (payment_method_id)
            where m.customer_id = $2 and m.removed_at is null
              and (m.kind = 'card' or a.state = 'pending' or a.state = 'approved' and a.expires_at > saga.now())
        ), method as (
            insert into shop.payment_method (payment_method_id, customer_id, kind, brand, created_at)
            select $1, $2, $8, $8, saga.now() from pending, saved
            where approvals < $7 and methods < $9
            returning payment_method_id, customer_id, created_at
        )
        insert into shop.paypal_approval
            (payment_method_id, customer_id, amount, currency, return_url, cancel_url, state, created_at)
        select payment_method_id, customer_id, $3, $4, $5, $6, 'pending', created_at from method",
    )
    .bind(payment_method_id)
    .bind(command.customer_id)
    .bind(amount.amount())
    .bind(amount.currency().code())
    .bind(return_url)
    .bind(cancel_url)
    .bind(PENDING_AT_MOST)
    .bind(KIND)
    .bind(ctx.shop.config.most_saved)
    .execute(&mut **ctx)
    .await?;
    match added.rows_affected() {
        0 => Err(InitiatePayPalRefusal::TooManyApprovals),
        _ => Ok(payment_method_id),
    }
}

/// The address as a browser reads it, if the shop may send a customer there.
fn page(field: &'static str, raw: &str, config: &Config) -> Result<String, InitiatePayPalRefusal> {
    let text = text::field(field, raw, URL_CHARS)?;
    let url = Url::parse(&text).map_err(|_| InitiatePayPalRefusal::InvalidUrl(field))?;
    let is_page = matches!(url.scheme(), "https" | "http")
        && url.username().is_empty()
        && url.password().is_none()
        && url.as_str().len() <= URL_CHARS;
    if !is_page {
        return Err(InitiatePayPalRefusal::InvalidUrl(field));
    }
    let origin = url.origin().ascii_serialization();
    if !config.return_origins.contains(&origin) {
        return Err(InitiatePayPalRefusal::UrlNotAllowed(field));
    }
    Ok(url.into())
}

/// The request for PayPal. `None`: there is no such approval. 1 round trip.
pub(crate) async fn request(
    db: impl PgExecutor<'_>,
    payment_method_id: Uuid,
) -> Result<Option<ApprovalRequest>, sqlx::Error> {
    let row: Option<(Decimal, String, String, String)> = sqlx::query_as(
        "-- paypal: request
        select amount, currency, return_url, cancel_url from shop.paypal_approval where payment_method_id = $1",
    )
    .bind(payment_method_id)
    .fetch_optional(db)
    .await?;
    row.map(|(amount, currency, return_url, cancel_url)| {
        Ok(ApprovalRequest { amount: Money::stored(amount, &currency)?, return_url, cancel_url })
    })
    .transpose()
}

/// The time that a customer has to approve.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Offered {
    /// The end of it.
    pub(crate) expires_at: DateTime<Utc>,
    left_s: f64,
}

impl Offered {
    /// How much of it is left, in business time; at least a second.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_secs_f64(self.left_s.max(1.0))
    }
}

/// Notes that PayPal has opened the approval under this reference, and lets the customer approve until the shop's or PayPal's time is up.
/// `None`: there is no such approval. 1 round trip.
pub(crate) async fn offer(
    ctx: &mut Context<'_>,
    payment_method_id: Uuid,
    reference: &Reference,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Option<Offered>, sqlx::Error> {
    let time = ctx.shop.config.paypal_approval.as_secs_f64();
    sqlx::query_as(
        "-- paypal: offer
        with opened as (
            update shop.payment_method set token = $2 where payment_method_id = $1 returning payment_method_id
        )
        update shop.paypal_approval a
        set expires_at = least(saga.now() + make_interval(secs => $3), $4)
        from opened o where a.payment_method_id = o.payment_method_id
        returning a.expires_at, extract(epoch from a.expires_at - saga.now())::float8 as left_s",
    )
    .bind(payment_method_id)
    .bind(&reference.0)
    .bind(time)
    .bind(expires_at)
    .fetch_optional(&mut **ctx)
    .await
}

/// The time that is left to approve. `None`: none. 1 round trip.
pub(crate) async fn time_left(
    db: impl PgExecutor<'_>,
    payment_method_id: Uuid,
) -> Result<Option<Duration>, sqlx::Error> {
    let offered: Option<Offered> = sqlx::query_as(
        "-- paypal: time left
        select expires_at, extract(epoch from expires_at - saga.now())::float8 as left_s
        from shop.paypal_approval where payment_method_id = $1 and expires_at > saga.now()",
    )
    .bind(payment_method_id)
    .fetch_optional(db)
    .await?;
    Ok(offered.map(|offered| offered.left()))
}

/// Makes the method usable, once, while PayPal keeps the approval. 1 round trip.
pub(crate) async fn approve(
    tx: &mut PgConnection,
    payment_method_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- paypal: approve
        update shop.paypal_approval
        set state = 'approved', order_id = null,
            expires_at = created_at + make_interval(secs => $2)
        where payment_method_id = $1 and state in ('pending', 'used')",
    )
    .bind(payment_method_id)
    .bind(KEPT_S)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes the method unusable for good. One that PayPal has never opened is removed. 1 round trip.
pub(crate) async fn expire(
    tx: &mut PgConnection,
    payment_method_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- paypal: expire
        with removed as (
            update shop.payment_method set removed_at = saga.now()
            where payment_method_id = $1 and token is null and removed_at is null
        )
        update shop.paypal_approval set state = 'expired', order_id = null
        where payment_method_id = $1 and state in ('pending', 'used')",
    )
    .bind(payment_method_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Uses the method for the order, of which it must pay exactly the total. The row is locked until the transaction ends: of two orders one gets
/// it. 1 round trip.
pub(crate) async fn pay(
    tx: &mut PgConnection,
    payment_method_id: Uuid,
    order_id: Uuid,
    total: Money,
) -> Result<(), NotUsable> {
    let (state, amount, currency): (String, Decimal, String) = sqlx::query_as(
        "-- paypal: pay
        with approval as materialized (
            select payment_method_id, amount, currency,
                   case when state = 'approved' and expires_at <= saga.now() then 'expired' else state end as state
            from shop.paypal_approval where payment_method_id = $1
            for update
        ), used as (
            update shop.paypal_approval p set state = 'used', order_id = $2
            from approval a
            where p.payment_method_id = a.payment_method_id and a.state = 'approved' and a.amount = $3
              and a.currency = $4
        )
        select state, amount, currency from approval",
    )
    .bind(payment_method_id)
    .bind(order_id)
    .bind(total.amount())
    .bind(total.currency().code())
    .fetch_one(tx)
    .await?;
    let approved = Money::stored(amount, &currency)?;
    match state.as_str() {
        "approved" if approved == total => Ok(()),
        "approved" => Err(NotUsable::AmountMismatch { approved, total }),
        "pending" => Err(NotUsable::NotApproved),
        "used" => Err(NotUsable::Used),
        _ => Err(NotUsable::Expired),
    }
}

/// The method of the kind `paypal` that an order has used, with PayPal's reference; if a method is named, that one. 1 round trip.
pub(crate) async fn used_by(
    tx: &mut PgConnection,
    order_id: Uuid,
    payment_method_id: Option<Uuid>,
) -> Result<Option<(Uuid, Reference)>, sqlx::Error> {
    let used: Option<(Uuid, String)> = sqlx::query_as(
        "-- paypal: used by
        select payment_method_id, token from shop.paypal_approval join shop.payment_method using (payment_method_id)
        where order_id = $1 and token is not null and ($2::uuid is null or payment_method_id = $2)
        order by payment_method_id desc limit 1",
    )
    .bind(order_id)
    .bind(payment_method_id)
    .fetch_optional(tx)
    .await?;
    Ok(used.map(|(method, reference)| (method, Reference(reference))))
}

/// The method whose approval has this reference. 1 round trip.
pub(crate) async fn referred_to(
    tx: &mut PgConnection,
    reference: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "-- paypal: referred to
        select payment_method_id from shop.payment_method where kind = 'paypal' and token = $1",
    )
    .bind(reference)
    .fetch_optional(tx)
    .await
}

#[cfg(test)]
mod tests;
