//! Products as the catalogue shows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use crate::money::{Currency, Money};

/// A product with its variants. Absent fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductView {
    /// The product.
    pub product_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its description, perhaps empty.
    pub description: String,
    /// The price of one, for variants without a price of their own.
    pub price: Money,
    /// Where it belongs.
    pub category_id: Uuid,
    /// `draft`, `active` or `inactive`.
    pub status: String,
    /// How many can be ordered, of all variants together; `i32::MAX` if there are more.
    pub available: i32,
    /// Its variants, oldest first; where there are some, one must be chosen.
    pub variants: Vec<VariantView>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Raised by every change; the entity tag.
    #[serde(skip)]
    pub version: i64,
}

/// A variant of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantView {
    /// The variant.
    pub variant_id: Uuid,
    /// Its name, such as `blue, XL`.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// How many can be ordered.
    pub available: i32,
}

/// The columns and tables of [`Row`], with more columns.
macro_rules! view {
    ($more:literal) => {
        concat!("select p.product_id, p.name, p.description, p.price, p.currency, p.category_id, p.status,
                p.created_at, p.updated_at, p.version, stock.available, stock.variants", $more, "
         from shop.product p, lateral (
             select least(coalesce(sum(i.on_hand - i.reserved), 0), 2147483647)::int as available,
                    coalesce(jsonb_agg(jsonb_build_object(
                        'variantId', v.variant_id, 'name', v.name,
                        'price', jsonb_build_object(
                            'amount', coalesce(v.price, p.price)::text, 'currency', p.currency),
                        'available', i.on_hand - i.reserved
                    ) order by v.variant_id) filter (where v.variant_id is not null), '[]')
                        as variants
             from shop.inventory i
             left join shop.product_variant v using (variant_id)
             where i.product_id = p.product_id and (i.variant_id is not null) = p.has_variants
         ) stock")
    };
}
pub(super) use view;

/// One product that was not deleted. 1 round trip.
pub async fn get_product(
    connection: &mut PgConnection,
    product_id: Uuid,
) -> Result<Option<ProductView>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(concat!(
        "-- product: get\n",
        view!(""),
        " where p.product_id = $1 and p.deleted_at is null"
    ))
    .bind(product_id)
    .fetch_optional(connection)
    .await?;
    row.map(Row::view).transpose()
}

/// The products with these ids that were not deleted. 1 round trip.
pub async fn get_products(
    connection: &mut PgConnection,
    product_ids: &[Uuid],
) -> Result<HashMap<Uuid, ProductView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "-- product: get many\n",
        view!(""),
        " where p.product_id = any($1) and p.deleted_at is null"
    ))
    .bind(product_ids)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok((row.product_id, row.view()?))).collect()
}

/// A currency other than this one in which a product is priced, if there is such a product. 1 round trip.
pub async fn other_currency(
    db: impl PgExecutor<'_>,
    currency: Currency,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- product: other currency\nselect currency from shop.product where currency <> $1 limit 1",
    )
    .bind(currency.code())
    .fetch_optional(db)
    .await
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub(super) product_id: Uuid,
    name: String,
    description: String,
    price: Decimal,
    currency: String,
    category_id: Uuid,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
    available: i32,
    variants: Json<Vec<VariantView>>,
    /// The value by which a list is ordered.
    #[sqlx(default)]
    pub(super) place: Option<Decimal>,
}

impl Row {
    pub(super) fn view(self) -> Result<ProductView, sqlx::Error> {
        Ok(ProductView {
            product_id: self.product_id,
            name: self.name,
            description: self.description,
            price: Money::stored(self.price, &self.currency)?,
            category_id: self.category_id,
            status: self.status,
            available: self.available,
            variants: self.variants.0,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        })
    }
}
