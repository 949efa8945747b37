//! createProduct, updateProduct, addProductVariant.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ProductView, get_product};
use crate::{
    events::{Change, DomainEvent, tell},
    money::Money,
    refusal::{Field, refusals},
    shop::{Context, Shop},
    text::{self, BadField},
};

/// Prices stay below this, so that no cart can exceed what an amount holds.
const DEAREST: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

/// The command.
#[derive(Debug, Clone)]
pub struct CreateProduct {
    /// 1 to 200 characters.
    pub name: String,
    /// At most 5,000 characters, may be empty.
    pub description: String,
    /// At least 0.01, in the shop's currency.
    pub price: Money,
    /// Where it belongs.
    pub category_id: Uuid,
}

refusals! {
    /// Why a product was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum CreateProductRefusal {
        /// Missing, longer than 200 characters, or not fit to be kept.
        #[error(transparent)]
        InvalidName(BadField) => Unprocessable "invalid_name" at "/name",
        /// Too long or not fit to be kept.
        #[error(transparent)]
        InvalidDescription(BadField),
        /// Below 0.01, a million or more, or not in the shop's currency.
        #[error("a price is at least 0.01 and below 1,000,000, in the currency of the shop")]
        InvalidPrice => Unprocessable "invalid_price" at "/price",
        /// No such category.
        #[error("there is no such category")]
        CategoryNotFound => NotFound "category_not_found",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Creates a product, as a draft, with an empty inventory. 3 round trips besides business time.
pub async fn create_product(
    ctx: &mut Context<'_>,
    command: CreateProduct,
) -> Result<ProductView, CreateProductRefusal> {
    let name =
        text::field("name", &command.name, 200).map_err(CreateProductRefusal::InvalidName)?;
    let description =
        description(&command.description).map_err(CreateProductRefusal::InvalidDescription)?;
    if !is_price(ctx.shop, command.price) {
        return Err(CreateProductRefusal::InvalidPrice);
    }
    let (product_id, category_id) = (Uuid::now_v7(), command.category_id);
    let created_by = ctx.cause.actor.id();
    let created_at = ctx.now().await?;
    let told = tell([DomainEvent::ProductCreated {
        product_id,
        name: name.clone(),
        price: command.price,
        category_id,
        status: "draft",
        created_by,
        created_at,
    }]);
    sqlx::query(
        "-- product: create
        with created as (
            insert into shop.product
                (product_id, category_id, name, description, price, currency, status,
                 event_count, created_by, created_at, updated_at)
            values ($1, $2, $3, $4, $5, $6, 'draft', $10, $7, $11, $11)
            returning product_id, created_at
        )
        insert into shop.inventory (inventory_id, product_id, low_stock_threshold, updated_at)
        select $8, product_id, $9, created_at from created",
    )
    .bind(product_id)
    .bind(category_id)
    .bind(&name)
    .bind(description)
    .bind(command.price.amount())
    .bind(command.price.currency().code())
    .bind(created_by)
    .bind(Uuid::now_v7())
    .bind(ctx.shop.config.low_stock_threshold)
    .bind(told.count())
    .bind(created_at)
    .execute(&mut **ctx)
    .await
    .map_err(|error| match constraint(&error) {
        Some("a_product_has_a_known_category") => CreateProductRefusal::CategoryNotFound,
        _ => CreateProductRefusal::Database(error),
    })?;
    ctx.record(told.after(0)).await?;
    get_product(ctx, product_id)
        .await?
        .ok_or(CreateProductRefusal::Database(sqlx::Error::RowNotFound))
}

fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

fn description(raw: &str) -> Result<String, BadField> {
    text::paragraphs(raw, 5000).map_err(|problem| BadField { field: "description", problem })
}

fn is_price(shop: &Shop, price: Money) -> bool {
    price.currency() == shop.config.currency
        && price.amount() >= Decimal::new(1, 2)
        && price.amount() < DEAREST
}

/// The command: what is given is changed.
#[derive(Debug, Clone)]
pub struct UpdateProduct {
    /// The product.
    pub product_id: Uuid,
    /// 1 to 200 characters.
    pub name: Option<String>,
    /// At least 0.01, in the shop's currency.
    pub price: Option<Money>,
    /// At most 5,000 characters.
    pub description: Option<String>,
}

refusals! {
    /// Why a product was not changed.
    #[derive(Debug, thiserror::Error)]
    pub enum UpdateProductRefusal {
        /// Unknown or deleted.
        #[error("There is no such product.")]
        ProductNotFound => NotFound "product_not_found",
        /// A text is missing, too long or not fit to be kept.
        #[error(transparent)]
        InvalidData(#[from] BadField) => Unprocessable "invalid_data" with wrong_field,
        /// Below 0.01, a million or more, or not in the shop's currency.
        #[error("a price is at least 0.01 and below 1,000,000, in the currency of the shop")]
        InvalidPrice => Unprocessable "invalid_data" at "/price",
        /// Another variant of the product has the name.
        #[error("another variant of this product has this name")]
        VariantNameNotUnique => Conflict "name_not_unique",
        /// A first variant, while the product itself still has stock that no variant would own.
        #[error("set the stock of the product to 0 before it gets variants")]
        StockWithoutVariant => Conflict "stock_without_variant",
        /// The product has as many variants as it may have.
        #[error("a product has at most {most_variants} variants")]
        TooManyVariants {
            /// The most variants.
            most_variants: i64,
        } => Conflict "too_many_variants",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

fn wrong_field(bad: &BadField) -> Vec<Field> {
    vec![Field { pointer: format!("/{}", bad.field).into(), detail: bad.to_string() }]
}

/// Changes what is given and logs what that changed. 4 round trips; 2 where nothing changes.
pub async fn update_product(
    ctx: &mut Context<'_>,
    command: UpdateProduct,
) -> Result<ProductView, UpdateProductRefusal> {
    let product_id = command.product_id;
    let name = command.name.map(|name| text::field("name", &name, 200)).transpose()?;
    let description = command.description.map(|text| description(&text)).transpose()?;
    if command.price.is_some_and(|price| !is_price(ctx.shop, price)) {
        return Err(UpdateProductRefusal::InvalidPrice);
    }
    let before = locked(ctx, product_id).await?;
    let old_price = Money::stored(before.price, &before.currency)?;
    let mut changed_fields = BTreeMap::new();
    if let Some(new) = name.as_ref().filter(|new| **new != before.name) {
        changed_fields.insert("name", Change { old: json!(before.name), new: json!(new) });
    }
    if let Some(new) = description.as_ref().filter(|new| **new != before.description) {
        let change = Change { old: json!(before.description), new: json!(new) };
        changed_fields.insert("description", change);
    }
    if let Some(new) = command.price.filter(|new| *new != old_price) {
        changed_fields.insert("price", Change { old: json!(old_price), new: json!(new) });
    }
    if !changed_fields.is_empty() {
        let (updated_by, updated_at) = (ctx.cause.actor.id(), before.now);
        let told = tell([DomainEvent::ProductUpdated {
            product_id,
            changed_fields,
            updated_by,
            updated_at,
        }]);
        sqlx::query(
            "-- product: update
            update shop.product
            set name = coalesce($2, name), description = coalesce($3, description),
                price = coalesce($4, price), version = version + 1,
                event_count = event_count + $5, updated_at = $6
            where product_id = $1",
        )
        .bind(product_id)
        .bind(name)
        .bind(description)
        .bind(command.price.map(Money::amount))
        .bind(told.count())
        .bind(updated_at)
        .execute(&mut **ctx)
        .await?;
        ctx.record(told.after(before.event_count)).await?;
    }
    get_product(ctx, product_id).await?.ok_or(UpdateProductRefusal::ProductNotFound)
}

#[derive(sqlx::FromRow)]
struct Locked {
    name: String,
    description: String,
    price: Decimal,
    currency: String,
    has_variants: bool,
    event_count: i64,
    now: chrono::DateTime<chrono::Utc>,
}

/// Locks a product and returns its version, which is its entity tag. `None`: it is unknown or deleted. 1 round trip.
pub async fn lock_version(
    tx: &mut PgConnection,
    product_id: Uuid,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- product: lock version
        select version::text from shop.product
        where product_id = $1 and deleted_at is null for no key update",
    )
    .bind(product_id)
    .fetch_optional(tx)
    .await
}

async fn locked(ctx: &mut Context<'_>, product_id: Uuid) -> Result<Locked, UpdateProductRefusal> {
    let locked: Option<Locked> = sqlx::query_as(
        "-- product: lock
        select name, description, price, currency, has_variants, event_count,
               saga.now() as now
        from shop.product where product_id = $1 and deleted_at is null for no key update",
    )
    .bind(product_id)
    .fetch_optional(&mut **ctx)
    .await?;
    let locked = locked.ok_or(UpdateProductRefusal::ProductNotFound)?;
    ctx.learn_now(locked.now);
    Ok(locked)
}

/// Adds a variant with an empty inventory; `price` of its own or, without one, the product's. The
/// first variant takes the place of the product itself, which must have no stock left. 5 round trips.
pub async fn add_product_variant(
    ctx: &mut Context<'_>,
    product_id: Uuid,
    name: &str,
    price: Option<Money>,
) -> Result<ProductView, UpdateProductRefusal> {
    let name = text::field("name", name, 200)?;
    if price.is_some_and(|price| !is_price(ctx.shop, price)) {
        return Err(UpdateProductRefusal::InvalidPrice);
    }
    let before = locked(ctx, product_id).await?;
    check_room_for_variant(ctx, product_id, before.has_variants).await?;
    let variant_id = Uuid::now_v7();
    let added = json!({ "variantId": variant_id, "name": name, "price": price });
    let change = Change { old: serde_json::Value::Null, new: added };
    let told = tell([DomainEvent::ProductUpdated {
        product_id,
        changed_fields: BTreeMap::from([("variants", change)]),
        updated_by: ctx.cause.actor.id(),
        updated_at: before.now,
    }]);
    sqlx::query(
        "-- product: add a variant
        with variant as (
            insert into shop.product_variant (variant_id, product_id, name, price, created_at)
            values ($2, $1, $3, $4, $8)
        ), stock as (
            insert into shop.inventory
                (inventory_id, product_id, variant_id, low_stock_threshold, updated_at)
            values ($5, $1, $2, $6, $8)
        )
        update shop.product set has_variants = true, version = version + 1,
            event_count = event_count + $7, updated_at = $8
        where product_id = $1",
    )
    .bind(product_id)
    .bind(variant_id)
    .bind(&name)
    .bind(price.map(Money::amount))
    .bind(Uuid::now_v7())
    .bind(ctx.shop.config.low_stock_threshold)
    .bind(told.count())
    .bind(before.now)
    .execute(&mut **ctx)
    .await
    .map_err(|error| match constraint(&error) {
        Some("a_variant_name_is_unique_in_its_product") => {
            UpdateProductRefusal::VariantNameNotUnique
        }
        _ => UpdateProductRefusal::Database(error),
    })?;
    ctx.record(told.after(before.event_count)).await?;
    get_product(ctx, product_id).await?.ok_or(UpdateProductRefusal::ProductNotFound)
}

/// Refuses a variant too many, and a first one beside stock of the product itself. The caller has locked the product. 1 round trip.
async fn check_room_for_variant(
    ctx: &mut Context<'_>,
    product_id: Uuid,
    has_variants: bool,
) -> Result<(), UpdateProductRefusal> {
    if has_variants {
        let most_variants = ctx.shop.config.most_variants;
        let variants: i64 = sqlx::query_scalar(
            "-- product: count the variants
            select count(*) from shop.product_variant where product_id = $1",
        )
        .bind(product_id)
        .fetch_one(&mut **ctx)
        .await?;
        return if variants < most_variants {
            Ok(())
        } else {
            Err(UpdateProductRefusal::TooManyVariants { most_variants })
        };
    }
    let has_stock: bool = sqlx::query_scalar(
        "-- product: has it stock of its own
        select coalesce(bool_or(on_hand > 0), false) from (
            select on_hand from shop.inventory
            where product_id = $1 and variant_id is null for update
        ) own",
    )
    .bind(product_id)
    .fetch_one(&mut **ctx)
    .await?;
    if has_stock { Err(UpdateProductRefusal::StockWithoutVariant) } else { Ok(()) }
}
