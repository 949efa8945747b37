//! Stock, and the audit of its changes.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::inventory::{
    self, AuditRow, Reserved, Stock, UnknownProduct,
    commands::{self, InventoryRefusal, Item},
};
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    words::{StockChanges, Word},
};
use crate::door::{
    Ask,
    caller::{By, StockKeeper, StockReader},
    idempotency::{OptionalKey, RequiredKey},
    json::Body,
    page::{self, Page},
    refuses::Refuses,
    reply::Done,
};

/// The operations about stock.
pub struct Inventory;

/// A new quantity on hand.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SetInventoryQuantity {
    /// Required if the product has variants.
    #[oai(nullable)]
    variant_id: Option<Uuid>,
    /// The quantity on hand, 0 or more.
    quantity: i32,
    /// The reason, which is recorded in the audit.
    reason: String,
}

/// A change of the quantity on hand.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AdjustInventory {
    /// Required if the product has variants.
    #[oai(nullable)]
    variant_id: Option<Uuid>,
    /// The difference; negative to reduce the quantity.
    adjustment: i32,
    /// The reason, which is recorded in the audit.
    reason: String,
}

/// A manual reservation.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReserveInventory {
    /// Required if the product has variants.
    #[oai(nullable)]
    variant_id: Option<Uuid>,
    /// The quantity, 1 or more.
    quantity: i32,
    /// The order for which the stock is reserved.
    order_id: Uuid,
}

/// The release of a manual reservation.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReleaseInventory {
    /// Required if the product has variants.
    #[oai(nullable)]
    variant_id: Option<Uuid>,
    /// The quantity, 1 or more.
    quantity: i32,
    /// The reason, which is recorded in the audit.
    reason: String,
}

answer! {
    /// The stock of a product or of one of its variants.
    #[oai(rename = "Stock", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct StockShape from stock: Stock {
        product_id: Uuid,
        variant_id: Option<Uuid>,
        /// The quantity on hand.
        on_hand: i32,
        /// The reserved quantity.
        reserved: i32,
        /// The available quantity: on hand and not reserved.
        available: i32 = stock.available(),
        /// The stock is low if fewer than this are available.
        low_stock_threshold: i32,
        /// reserveInventory only: the time at which all that was reserved for this order is released, unless the order ends before.
        reserved_until: Option<DateTime<Utc>> = None,
    }
}

/// The stock of a product: one entry, or one for each variant.
#[derive(Debug, Object)]
struct Stocks {
    items: Vec<StockShape>,
}

answer! {
    /// One change of a stock.
    #[oai(rename = "StockChange", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct ChangeShape from row: AuditRow {
        /// `set`, `adjusted`, `reserved`, `released` or `deducted`.
        change: Word<StockChanges>,
        /// The caller who made the change.
        actor: Uuid,
        reason: String,
        order_id: Option<Uuid>,
        on_hand_before: i32,
        on_hand_after: i32,
        reserved_before: i32,
        reserved_after: i32,
        changed_at: DateTime<Utc>,
    }
}

#[OpenApi(prefix_path = "/v1/products", tag = "Group::Inventory")]
impl Inventory {
    /// Set the quantity on hand.
    #[oai(path = "/:productId/inventory", method = "put", operation_id = "setInventoryQuantity")]
    async fn set(
        &self,
        by: By<StockKeeper>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<SetInventoryQuantity>,
    ) -> Result<Done<StockShape>, Refuses<InventoryRefusal>> {
        let SetInventoryQuantity { variant_id, quantity, reason } = &body.value;
        let item = Item { product_id: product_id.0, variant_id: *variant_id };
        let ask = Ask::new("setInventoryQuantity", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let set = commands::set_inventory_quantity(ctx, item, *quantity, reason);
                Ok(Done::new(&set.await?.into()))
            })
            .await
    }

    /// Change the quantity on hand by a difference.
    #[oai(path = "/:productId/inventory/adjust", method = "post", operation_id = "adjustInventory")]
    async fn adjust(
        &self,
        by: By<StockKeeper>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<AdjustInventory>,
    ) -> Result<Done<StockShape>, Refuses<InventoryRefusal>> {
        let AdjustInventory { variant_id, adjustment, reason } = &body.value;
        let item = Item { product_id: product_id.0, variant_id: *variant_id };
        let ask = Ask::new("adjustInventory", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let adjusted = commands::adjust_inventory(ctx, item, *adjustment, reason);
                Ok(Done::new(&adjusted.await?.into()))
            })
            .await
    }

    /// Reserve stock for an order manually. It is released when the order ends or when the time is over that the answer says.
    #[oai(
        path = "/:productId/inventory/reserve",
        method = "post",
        operation_id = "reserveInventory"
    )]
    async fn reserve(
        &self,
        by: By<StockKeeper>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<ReserveInventory>,
    ) -> Result<Done<StockShape>, Refuses<InventoryRefusal>> {
        let ReserveInventory { variant_id, quantity, order_id } = &body.value;
        let item = Item { product_id: product_id.0, variant_id: *variant_id };
        let ask = Ask::new("reserveInventory", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let Reserved { stock, expires_at } =
                    inventory::reserve_inventory(ctx, item, *quantity, *order_id).await?;
                let reserved_until = Some(expires_at);
                Ok(Done::new(&StockShape { reserved_until, ..stock.into() }))
            })
            .await
    }

    /// Release stock that was reserved manually.
    #[oai(
        path = "/:productId/inventory/release",
        method = "post",
        operation_id = "releaseInventory"
    )]
    async fn release(
        &self,
        by: By<StockKeeper>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<ReleaseInventory>,
    ) -> Result<Done<StockShape>, Refuses<InventoryRefusal>> {
        let ReleaseInventory { variant_id, quantity, reason } = &body.value;
        let item = Item { product_id: product_id.0, variant_id: *variant_id };
        let ask = Ask::new("releaseInventory", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let released = commands::release_inventory(ctx, item, *quantity, reason);
                Ok(Done::new(&released.await?.into()))
            })
            .await
    }

    /// Get the stock of a product.
    #[oai(path = "/:productId/inventory", method = "get", operation_id = "getInventory")]
    async fn get(
        &self,
        by: By<StockReader>,
        #[oai(name = "productId")] product_id: Path<Uuid>,
    ) -> Result<Done<Stocks>, Refuses<UnknownProduct>> {
        let mut db = by.door.db.acquire().await?;
        let stocks = inventory::stock_in_use(&mut db, product_id.0).await?;
        if stocks.is_empty() {
            return Err(UnknownProduct::NotFound.into());
        }
        Ok(Done::new(&Stocks { items: stocks.into_iter().map(Into::into).collect() }))
    }

    /// List the changes of a product's stock, newest first.
    #[oai(
        path = "/:productId/inventory/audit",
        method = "get",
        operation_id = "listInventoryAudit"
    )]
    async fn audit(
        &self,
        by: By<StockReader>,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        #[oai(name = "variantId")] variant_id: Query<Option<Uuid>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<ChangeShape>>, Refuses<UnknownProduct>> {
        let limit = page::limit(limit.0)?;
        let list = format!("inventory/{}/{:?}", product_id.0, variant_id.0);
        let before: Option<i64> = by.door.cursors.open(&list, cursor.0.as_deref())?;
        let _turn = by.door.turn_to_read().await?;
        let mut db = by.door.db.acquire().await?;
        let stocks = inventory::stock_of(&mut db, product_id.0).await?;
        let stock = stocks
            .iter()
            .find(|stock| stock.variant_id == variant_id.0)
            .ok_or(UnknownProduct::NotFound)?;
        let rows =
            inventory::audit_of(&mut db, stock.inventory_id, before, page::fetch_count(limit));
        let page = by.door.cursors.page(&list, limit, rows.await?, |row| row.n, Into::into);
        Ok(Done::new(&page))
    }
}
