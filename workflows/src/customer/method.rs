//! addPaymentMethod, listPaymentMethods, getPaymentMethod, removePaymentMethod: the gateway's token, never a card.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{is_active, lock};
use crate::{
    money::Money,
    payment::gateway::{MethodToken, Reference},
    refusal::refusals,
    shop::Context,
    text::{self, BadField, BadText},
};

/// The command.
#[derive(Debug, Clone)]
pub struct AddPaymentMethod {
    /// The customer.
    pub customer_id: Uuid,
    /// The gateway's token, which the customer's browser got for the card.
    pub token: MethodToken,
    /// Such as `visa`: lower-case letters, digits and `_`, at most 32.
    pub brand: String,
    /// The last four digits, to recognise it by.
    pub last4: String,
}

/// A saved payment method. The token is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethodView {
    /// The method.
    pub payment_method_id: Uuid,
    /// The customer.
    pub customer_id: Uuid,
    /// `card` or `paypal`.
    pub kind: String,
    /// Such as `visa`.
    pub brand: String,
    /// The last four digits; absent where there are none.
    pub last4: Option<String>,
    /// When it was saved.
    pub created_at: DateTime<Utc>,
    /// The approval of a method of the kind `paypal`; absent for a card.
    pub approval: Option<ApprovalView>,
}

/// A customer's approval at PayPal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalView {
    /// `pending`, `approved`, `used` or `expired`.
    pub status: String,
    /// The total of the one order that the method pays.
    pub amount: Money,
    /// Until when the customer may approve, or an order may be paid with it. `None`: PayPal has not opened it yet.
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    payment_method_id: Uuid,
    customer_id: Uuid,
    kind: String,
    brand: String,
    last4: Option<String>,
    created_at: DateTime<Utc>,
    status: Option<String>,
    amount: Option<Decimal>,
    currency: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for PaymentMethodView {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let approval = match (row.status, row.amount, row.currency) {
            (Some(status), Some(amount), Some(currency)) => {
                let amount = Money::stored(amount, &currency)?;
                Some(ApprovalView { status, amount, expires_at: row.expires_at })
            }
            _ => None,
        };
        let Row { payment_method_id, customer_id, kind, brand, last4, created_at, .. } = row;
        Ok(Self { payment_method_id, customer_id, kind, brand, last4, created_at, approval })
    }
}

refusals! {
    /// Why a payment method is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownMethod {
        /// Unknown, removed, or somebody else's.
        #[error("There is no such payment method.")]
        NotFound => NotFound "payment_method_not_found",
    }
}

refusals! {
    /// Why a payment method was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum PaymentMethodRefusal {
        /// Unknown, or the account is being erased.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// No such method of this customer.
        #[error("there is no such payment method")]
        PaymentMethodNotFound => NotFound "payment_method_not_found",
        /// The customer has as many cards as the shop keeps for one.
        #[error("the account has too many payment methods: remove one first")]
        TooMany => Conflict "too_many_payment_methods",
        /// Not a gateway's token: 3 to 255 letters, digits, `_` and `-`.
        #[error("not a payment gateway's token such as pm_1N8f")]
        InvalidToken => Unprocessable "invalid_token" at "/token",
        /// Not a brand such as `visa`.
        #[error("not a card brand such as visa")]
        InvalidBrand => Unprocessable "invalid_brand" at "/brand",
        /// Not four digits.
        #[error("not the last four digits of a card")]
        InvalidLast4 => Unprocessable "invalid_last4" at "/last4",
        /// A field is missing or holds what must never be kept, such as a card number.
        #[error(transparent)]
        InvalidField(#[from] BadField),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Saves a payment method that is used as its token came. If the customer has saved the token already, the answer is the method that is there. 2 round
/// trips: lock the customer, so that the methods are looked up and counted one at a time; write.
pub async fn add_payment_method(
    ctx: &mut Context<'_>,
    command: &AddPaymentMethod,
) -> Result<PaymentMethodView, PaymentMethodRefusal> {
    Ok(save(ctx, command, None).await?.method)
}

/// The result of [`save`].
pub(crate) struct Saved {
    pub(crate) method: PaymentMethodView,
    /// False: the customer had saved the token already.
    pub(crate) is_new: bool,
}

/// Saves a payment method with this word for its attachment ([`super::attachment`]). A method that is there already keeps its own. 2 round trips.
pub(crate) async fn save(
    ctx: &mut Context<'_>,
    command: &AddPaymentMethod,
    attachment: Option<&str>,
) -> Result<Saved, PaymentMethodRefusal> {
    let token = text::field("token", &command.token.0, 255)?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if token.len() < 3 || !token.chars().all(is_word) {
        return Err(PaymentMethodRefusal::InvalidToken);
    }
    let brand = text::field("brand", &command.brand, 100)?;
    let is_brand = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if brand.len() > 32 || !brand.chars().all(is_brand) {
        return Err(PaymentMethodRefusal::InvalidBrand);
    }
    let last4 = command.last4.trim();
    if last4.is_empty() {
        return Err(BadField { field: "last4", problem: BadText::Missing }.into());
    }
    if last4.len() != 4 || !last4.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PaymentMethodRefusal::InvalidLast4);
    }
    if lock(ctx, command.customer_id).await?.is_none() {
        return Err(PaymentMethodRefusal::CustomerNotFound);
    }
    let new_id = Uuid::now_v7();
    let saved: Option<Row> = sqlx::query_as(ADD)
        .bind(new_id)
        .bind(command.customer_id)
        .bind(token)
        .bind(brand)
        .bind(last4)
        .bind(ctx.shop.config.most_saved)
        .bind(attachment)
        .fetch_optional(&mut **ctx)
        .await?;
    let method: PaymentMethodView = saved.ok_or(PaymentMethodRefusal::TooMany)?.try_into()?;
    Ok(Saved { is_new: method.payment_method_id == new_id, method })
}

/// A row of the same token is answered in place of a new one: removing either would detach the token of both. One that the gateway has refused is none.
const ADD: &str = "-- payment method: add
    with cards as materialized (
        select * from shop.payment_method
        where customer_id = $2 and kind = 'card' and removed_at is null
    ), known as (
        select * from cards where token = $3 and attachment is distinct from 'refused' order by payment_method_id limit 1
    ), added as (
        insert into shop.payment_method
            (payment_method_id, customer_id, kind, token, brand, last4, created_at, attachment)
        select $1, $2, 'card', $3, $4, $5, saga.now(), $7
        where not exists (select from known) and (select count(*) from cards) < $6
        returning *
    )
    select payment_method_id, customer_id, kind, brand, last4, created_at, null as status,
           null::numeric as amount, null as currency, null::timestamptz as expires_at
    from (select * from known union all select * from added) saved";

macro_rules! methods {
    ($name:literal, $which:literal) => {
        concat!(
            "-- payment method: ",
            $name,
            "
        select m.payment_method_id, m.customer_id, m.kind, m.brand, m.last4, m.created_at, a.amount, a.currency, a.expires_at,
               case when a.state = 'approved' and a.expires_at <= saga.now() then 'expired' else a.state end as status
        from shop.payment_method m left join shop.paypal_approval a using (payment_method_id)
        where ",
            $which
        )
    };
}

/// The payment methods of a customer after this one, oldest first. 1 round trip.
pub async fn list_payment_methods(
    connection: &mut PgConnection,
    customer_id: Uuid,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<PaymentMethodView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(methods!(
        "list",
        "m.customer_id = $1 and m.removed_at is null and ($2::uuid is null or m.payment_method_id > $2)
        order by m.payment_method_id limit $3"
    ))
    .bind(customer_id)
    .bind(after)
    .bind(count)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(PaymentMethodView::try_from).collect()
}

/// A payment method that its customer has saved. `None`: unknown, removed, or somebody else's. 1 round trip.
pub async fn get_saved_method(
    connection: &mut PgConnection,
    customer_id: Uuid,
    payment_method_id: Uuid,
) -> Result<Option<PaymentMethodView>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(methods!(
        "get saved",
        "m.payment_method_id = $1 and m.customer_id = $2 and m.removed_at is null"
    ))
    .bind(payment_method_id)
    .bind(customer_id)
    .fetch_optional(connection)
    .await?;
    row.map(PaymentMethodView::try_from).transpose()
}

/// A payment method, also one that was removed. `None`: unknown, or another customer's than `customer_id`, if that is given. 1 round trip.
pub async fn get_payment_method(
    connection: &mut PgConnection,
    payment_method_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<PaymentMethodView>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(methods!(
        "get",
        "m.payment_method_id = $1 and m.customer_id = coalesce($2, m.customer_id)"
    ))
    .bind(payment_method_id)
    .bind(customer_id)
    .fetch_optional(connection)
    .await?;
    row.map(PaymentMethodView::try_from).transpose()
}

/// With what a payment is authorized.
pub(crate) struct Means {
    /// The gateway's token of the method.
    pub(crate) token: MethodToken,
    /// The account at the gateway to which it is attached.
    pub(crate) account: Option<Reference>,
    /// Whether it is still to be attached. Until then nobody knows whether an account goes with it.
    pub(crate) is_asked: bool,
}

/// With what a payment with this method is authorized; `None`: there is no such method, or it was removed. 1 round trip.
pub(crate) async fn means(
    db: impl PgExecutor<'_>,
    payment_method_id: Uuid,
) -> Result<Option<Means>, sqlx::Error> {
    let means: Option<(Option<String>, Option<String>, bool)> = sqlx::query_as(
        "-- payment method: means
        select m.token, g.reference, coalesce(m.attachment = 'asked', false)
        from shop.payment_method m
        left join shop.gateway_customer g on g.customer_id = m.customer_id and m.attachment = 'attached'
        where m.payment_method_id = $1 and m.removed_at is null",
    )
    .bind(payment_method_id)
    .fetch_optional(db)
    .await?;
    Ok(means.and_then(|(token, account, is_asked)| {
        Some(Means { token: MethodToken(token?), account: account.map(Reference), is_asked })
    }))
}

/// Removes a payment method; a payment that was made with it stays as it is. Answers whether it is attached at the gateway, or is to be. 2 round trips.
pub(crate) async fn remove(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    payment_method_id: Uuid,
) -> Result<bool, PaymentMethodRefusal> {
    if !is_active(ctx, customer_id).await? {
        return Err(PaymentMethodRefusal::CustomerNotFound);
    }
    let is_attached: Option<bool> = sqlx::query_scalar(
        "-- payment method: remove
        update shop.payment_method set removed_at = saga.now()
        where payment_method_id = $1 and customer_id = $2 and removed_at is null
        returning coalesce(attachment in ('asked', 'attached'), false)",
    )
    .bind(payment_method_id)
    .bind(customer_id)
    .fetch_optional(&mut **ctx)
    .await?;
    is_attached.ok_or(PaymentMethodRefusal::PaymentMethodNotFound)
}
