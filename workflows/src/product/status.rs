//! activateProduct, deactivateProduct, deleteProduct.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    events::{self, DomainEvent},
    shop::Context,
};

/// Why a product's status was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ProductStatusRefusal {
    /// Unknown or deleted.
    #[error("there is no such product")]
    ProductNotFound,
    /// It is already so, or (deactivating) it is still a draft.
    #[error("the product's status does not allow this")]
    InvalidStatusTransition,
    /// A surprise.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Puts a draft or inactive product on sale. 2 round trips.
pub async fn activate_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let (n, activated_at) = change(ctx, product_id, &["draft", "inactive"], "active").await?;
    let told = DomainEvent::ProductActivated { product_id, activated_at };
    Ok(events::record(ctx, &[told.at(n)]).await?)
}

/// Takes an active product off sale; carts show that it cannot be had. 2 round trips.
pub async fn deactivate_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let (n, deactivated_at) = change(ctx, product_id, &["active"], "inactive").await?;
    let told = DomainEvent::ProductDeactivated { product_id, deactivated_at };
    Ok(events::record(ctx, &[told.at(n)]).await?)
}

async fn change(
    tx: &mut PgConnection,
    product_id: Uuid,
    from: &[&str],
    to: &str,
) -> Result<(i64, DateTime<Utc>), ProductStatusRefusal> {
    let changed: Option<(bool, Option<i64>, DateTime<Utc>)> = sqlx::query_as(
        "-- product: change status
        with found as materialized (
            select product_id, status from shop.product
            where product_id = $1 and deleted_at is null for no key update
        ), changed as (
            update shop.product p set status = $3, version = version + 1,
                event_count = event_count + 1, updated_at = saga.now()
            from found f where p.product_id = f.product_id and f.status = any($2)
            returning p.event_count
        )
        select true, (select event_count from changed), saga.now() from found",
    )
    .bind(product_id)
    .bind(from)
    .bind(to)
    .fetch_optional(tx)
    .await?;
    match changed {
        None => Err(ProductStatusRefusal::ProductNotFound),
        Some((_, None, _)) => Err(ProductStatusRefusal::InvalidStatusTransition),
        Some((_, Some(n), at)) => Ok((n, at)),
    }
}

/// Deletes a product softly: it leaves the catalogue; old orders keep naming it. 2 round trips.
pub async fn delete_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let deleted: Option<(i64, DateTime<Utc>)> = sqlx::query_as(
        "-- product: delete
        update shop.product set deleted_at = saga.now(), version = version + 1,
            event_count = event_count + 1, updated_at = saga.now()
        where product_id = $1 and deleted_at is null
        returning event_count, deleted_at",
    )
    .bind(product_id)
    .fetch_optional(&mut **ctx)
    .await?;
    let (n, deleted_at) = deleted.ok_or(ProductStatusRefusal::ProductNotFound)?;
    let deleted_by = ctx.cause.actor.id();
    let told = DomainEvent::ProductDeleted { product_id, deleted_by, deleted_at };
    Ok(events::record(ctx, &[told.at(n)]).await?)
}
