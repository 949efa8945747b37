//! Payment methods at the gateway: each is attached to the account that the gateway has of its customer.
//!
//! `asked -> attached -> detached`, or `asked -> refused`: then the method is used as its token came. A method that was saved before, and one of PayPal,
//! has no attachment. The words are those of the column.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::payment::gateway::{MethodToken, Reference};

/// The word for a method that a saga is to attach.
pub(crate) const ASKED: &str = "asked";

/// The word for a method that is attached.
pub(crate) const ATTACHED: &str = "attached";

/// The word for a method that is not attached and will not be.
pub(crate) const REFUSED: &str = "refused";

/// The word for a method that was attached until it was removed.
pub(crate) const DETACHED: &str = "detached";

/// A payment method as its saga sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Kept {
    /// The customer.
    pub(crate) customer_id: Uuid,
    token: Option<String>,
    attachment: Option<String>,
    /// Whether the customer has removed it.
    pub(crate) is_removed: bool,
    account: Option<String>,
    /// Whether the customer has another method with the same token, which was not removed. New methods are not saved so; earlier versions did.
    pub(crate) is_kept_by_another: bool,
}

impl Kept {
    /// The gateway's token; `None`: there is none any more.
    pub(crate) fn token(&self) -> Option<MethodToken> {
        self.token.clone().map(MethodToken)
    }

    /// The account of the customer at the gateway, if it was opened.
    pub(crate) fn account(&self) -> Option<Reference> {
        self.account.clone().map(Reference)
    }

    /// Whether the method is in this word's state.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.attachment.as_deref() == Some(word)
    }
}

/// The payment method, also one that was removed. `None`: there is no such method. 1 round trip.
pub(crate) async fn read(
    db: impl PgExecutor<'_>,
    payment_method_id: Uuid,
) -> Result<Option<Kept>, sqlx::Error> {
    sqlx::query_as(
        "-- payment method: at the gateway
        select m.customer_id, m.token, m.attachment, m.removed_at is not null as is_removed, g.reference as account,
               exists (select from shop.payment_method o
                       where o.customer_id = m.customer_id and o.payment_method_id <> m.payment_method_id
                         and o.token = m.token and o.removed_at is null
                         and o.attachment is distinct from 'refused') as is_kept_by_another
        from shop.payment_method m left join shop.gateway_customer g using (customer_id)
        where m.payment_method_id = $1",
    )
    .bind(payment_method_id)
    .fetch_optional(db)
    .await
}

/// Keeps the account that was opened for the method's customer, unless there is one already, and answers the one that counts. `None`: the customer has
/// been erased. 1 round trip, 1 row operation.
pub(crate) async fn keep_account(
    tx: &mut PgConnection,
    payment_method_id: Uuid,
    account: &Reference,
) -> Result<Option<Reference>, sqlx::Error> {
    let kept: Option<String> = sqlx::query_scalar(
        "-- payment method: keep the account
        with owner as materialized (
            select c.customer_id from shop.payment_method m join shop.customer c using (customer_id)
            where m.payment_method_id = $1 for key share of c
        )
        insert into shop.gateway_customer as known (customer_id, reference, created_at)
        select customer_id, $2, saga.now() from owner
        on conflict (customer_id) do update set reference = known.reference
        returning reference",
    )
    .bind(payment_method_id)
    .bind(&account.0)
    .fetch_optional(tx)
    .await?;
    Ok(kept.map(Reference))
}

/// Notes that the state of a method has changed from one word to another. 1 round trip, 1 row operation.
pub(crate) async fn note(
    tx: &mut PgConnection,
    payment_method_id: Uuid,
    from: &str,
    to: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- payment method: note its attachment
        update shop.payment_method set attachment = $3 where payment_method_id = $1 and attachment = $2",
    )
    .bind(payment_method_id)
    .bind(from)
    .bind(to)
    .execute(tx)
    .await?;
    Ok(())
}
