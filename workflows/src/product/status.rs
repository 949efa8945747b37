//! activateProduct, deactivateProduct, deleteProduct.

use uuid::Uuid;

use crate::{
    events::{DomainEvent, Told, tell},
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why a product's status was not changed.
    #[derive(Debug, thiserror::Error)]
    pub enum ProductStatusRefusal {
        /// Unknown or deleted.
        #[error("There is no such product.")]
        ProductNotFound => NotFound "product_not_found",
        /// It is already so, or (deactivating) it is still a draft.
        #[error("the product's status does not allow this")]
        InvalidStatusTransition => Conflict "invalid_status_transition",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Puts a draft or inactive product on sale. 2 round trips besides business time.
pub async fn activate_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let activated_at = ctx.now().await?;
    let told = tell([DomainEvent::ProductActivated { product_id, activated_at }]);
    change(ctx, product_id, &["draft", "inactive"], "active", told).await
}

/// Takes an active product off sale; a saga takes it out of all carts. 2 round trips besides business time, and the start of the saga.
pub async fn deactivate_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let deactivated_at = ctx.now().await?;
    let told = tell([DomainEvent::ProductDeactivated { product_id, deactivated_at }]);
    change(ctx, product_id, &["active"], "inactive", told).await
}

async fn change(
    ctx: &mut Context<'_>,
    product_id: Uuid,
    from: &[&str],
    to: &str,
    told: Told,
) -> Result<(), ProductStatusRefusal> {
    let now = ctx.now().await?;
    let changed: Option<Option<i64>> = sqlx::query_scalar(
        "-- product: change status
        with found as materialized (
            select product_id, status from shop.product
            where product_id = $1 and deleted_at is null for no key update
        ), changed as (
            update shop.product p set status = $3, version = version + 1,
                event_count = event_count + $4, updated_at = $5
            from found f where p.product_id = f.product_id and f.status = any($2)
            returning p.event_count
        )
        select (select event_count from changed) from found",
    )
    .bind(product_id)
    .bind(from)
    .bind(to)
    .bind(told.count())
    .bind(now)
    .fetch_optional(&mut **ctx)
    .await?;
    let counter = changed
        .ok_or(ProductStatusRefusal::ProductNotFound)?
        .ok_or(ProductStatusRefusal::InvalidStatusTransition)?;
    Ok(ctx.record(told.up_to(counter)).await?)
}

/// Deletes a product softly: it leaves the catalogue, and a saga takes it out of all carts; old orders keep naming it. 2 round trips besides business
/// time, and the start of the saga.
pub async fn delete_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<(), ProductStatusRefusal> {
    let (deleted_by, deleted_at) = (ctx.cause.actor.id(), ctx.now().await?);
    let told = tell([DomainEvent::ProductDeleted { product_id, deleted_by, deleted_at }]);
    let counter: Option<i64> = sqlx::query_scalar(
        "-- product: delete
        update shop.product set deleted_at = $2, version = version + 1,
            event_count = event_count + $3, updated_at = $2
        where product_id = $1 and deleted_at is null
        returning event_count",
    )
    .bind(product_id)
    .bind(deleted_at)
    .bind(told.count())
    .fetch_optional(&mut **ctx)
    .await?;
    let counter = counter.ok_or(ProductStatusRefusal::ProductNotFound)?;
    Ok(ctx.record(told.up_to(counter)).await?)
}
