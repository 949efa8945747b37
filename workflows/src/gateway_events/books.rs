//! The payment of an event, as our books have it.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::payment::{
    PaymentState,
    gateway::{News, Reference},
    parked::plain,
};

/// The payment of an event, as our books have it.
#[derive(sqlx::FromRow)]
pub(super) struct Known {
    pub(super) order_id: Uuid,
    status: String,
    is_in_force: bool,
    authorization_id: Option<String>,
    #[sqlx(try_from = "String")]
    pub(super) state: PaymentState,
    pub(super) amount: Decimal,
    pub(super) currency: String,
    pub(super) refunded_amount: Decimal,
    /// The kinds of moves that a saga has asked for and not settled yet.
    asked: Vec<String>,
    /// The state of the refund that the event is about.
    pub(super) refund_state: Option<String>,
}

impl Known {
    pub(super) fn pays_with(&self, reference: &Reference) -> bool {
        // A payment that was given up is not in force. It has money to book only if somebody had taken that money.
        let has_money = self.is_in_force
            || !matches!(self.state, PaymentState::Voided | PaymentState::Declined);
        has_money && self.authorization_id.as_deref() == Some(&*reference.0)
    }

    pub(super) fn is_placing(&self) -> bool {
        self.status == "placing"
    }

    pub(super) fn asks_for(&self, kind: &str) -> bool {
        self.asked.iter().any(|asked| asked == kind)
    }
}

/// The payment with this reference of the gateway, or else the one of the order that is being authorized, or else the one in force. 1 round trip.
pub(super) async fn read(
    tx: &mut PgConnection,
    reference: &Reference,
    order_id: Option<Uuid>,
    news: &News,
) -> Result<Option<Known>, sqlx::Error> {
    let refund = match news {
        News::Refund { refund, .. } => Some(refund),
        _ => None,
    };
    sqlx::query_as(
        r#"-- webhook: read payment
        with candidate as (
            select payment_id from shop.payment where authorization_id = $1
            union all
            select payment_id from shop.payment where order_id = $2 and state = 'authorizing'
            union all
            select payment_id from shop."order" where order_id = $2
        )
        select o.order_id, o.status, p.payment_id = o.payment_id as is_in_force, p.authorization_id, p.state, p.amount,
               p.currency, p.refunded_amount,
               array(select t.kind from shop.payment_transaction t
                     where t.payment_id = p.payment_id and t.settled_at is null) as asked,
               (select t.state from shop.payment_transaction t
                where t.payment_id = p.payment_id and t.kind = 'refund' and (t.reference = $3 or t.key = $4)
                limit 1) as refund_state
        from candidate join shop.payment p using (payment_id) join shop."order" o using (order_id)
        order by coalesce(p.authorization_id = $1, false) desc, p.state = 'authorizing' desc limit 1"#,
    )
    .bind(plain(&reference.0))
    .bind(order_id)
    .bind(refund.map(|refund| plain(&refund.reference.0)))
    .bind(refund.and_then(|refund| refund.key.as_deref()).map(plain))
    .fetch_optional(tx)
    .await
}
