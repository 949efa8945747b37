//! Products and categories.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use stepwise_workflows::{
    category::{self, CategoryView, CreateCategoryRefusal},
    product::{
        self, CreateProductRefusal, ProductFilter, ProductOrder, ProductPlace,
        ProductStatusRefusal, ProductView, UnknownProduct, UpdateProductRefusal, VariantView,
    },
};
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    shapes::MoneyShape,
    words::{ProductWords, Word},
};
use crate::door::{
    Ask,
    caller::{AdminOnly, Anyone, By, CatalogueKeeper, Visitor, forbidden},
    idempotency::OptionalKey,
    json::Body,
    matching::{IfMatch, Stale},
    page::{self, Page},
    problem::Problem,
    reads::FirstPage,
    refuses::Refuses,
    reply::{Created, Done, Gone},
};

/// The operations about products and categories.
pub struct Catalogue;

/// A new product. It is a draft until it is activated.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateProduct {
    /// 1 to 200 characters.
    name: String,
    /// At most 5,000 characters.
    description: String,
    /// 0.01 or more, in the shop's currency.
    price: MoneyShape,
    category_id: Uuid,
}

/// The changes to a product. Fields that are left out or null stay as they are.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateProduct {
    #[oai(nullable)]
    name: Option<String>,
    #[oai(nullable)]
    price: Option<MoneyShape>,
    #[oai(nullable)]
    description: Option<String>,
}

/// A new variant. Without a price of its own it has the product's price.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AddProductVariant {
    /// The variant's name, such as `blue, XL`.
    name: String,
    #[oai(nullable)]
    price: Option<MoneyShape>,
}

answer! {
    /// A product.
    #[oai(rename = "Product", rename_all = "camelCase")]
    struct ProductShape from product: ProductView {
        id: Uuid = product.product_id,
        name: String,
        description: String,
        price: MoneyShape,
        category_id: Uuid,
        /// `draft`, `active` or `inactive`.
        status: Word<ProductWords>,
        /// The quantity that can be ordered, of all variants together.
        available: i32,
        /// The product's variants. If there are any, an order must name one.
        variants: Vec<VariantShape>,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    }
}

answer! {
    /// A variant of a product.
    #[oai(rename = "ProductVariant", rename_all = "camelCase")]
    struct VariantShape from variant: VariantView {
        id: Uuid = variant.variant_id,
        name: String,
        price: MoneyShape,
        available: i32,
    }
}

/// A new category.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateCategory {
    name: String,
    /// The parent category. Absent or null for a root category.
    #[oai(nullable)]
    parent_category_id: Option<Uuid>,
}

answer! {
    /// A category.
    #[oai(rename = "Category", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct CategoryShape from category: CategoryView {
        id: Uuid = category.category_id,
        name: String,
        parent_category_id: Option<Uuid>,
        /// 1 to 3.
        depth: i32,
        created_at: DateTime<Utc>,
    }
}

/// The status of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum ProductStatus {
    Draft,
    Active,
    Inactive,
}

/// The order of a list of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum ProductSort {
    /// The best match first. Needs a search.
    Relevance,
    /// The oldest first.
    Oldest,
    /// The newest first.
    Newest,
    /// The lowest price first.
    Cheapest,
    /// The highest price first.
    Dearest,
}

/// The status that a list of products is limited to. `None`: none.
fn status_shown(
    trusted: bool,
    asked: Option<ProductStatus>,
) -> Result<Option<&'static str>, Problem> {
    match asked {
        None if trusted => Ok(None),
        None | Some(ProductStatus::Active) => Ok(Some("active")),
        Some(_) if !trusted => Err(forbidden("Only staff see products that are not on sale.")),
        Some(ProductStatus::Draft) => Ok(Some("draft")),
        Some(ProductStatus::Inactive) => Ok(Some("inactive")),
    }
}

fn price_limit(name: &str, text: Option<&str>) -> Result<Option<Decimal>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let is_plain = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let price = text.parse().ok().filter(|_| is_plain);
    let wrong = || format!("`{name}` must be a price such as 9.99.");
    price.map(Some).ok_or_else(|| Problem::bad_request("invalid_parameter", wrong()))
}

fn searched(text: String) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 {
        let detail = "`search` must have 1 to 100 characters.";
        return Err(Problem::bad_request("invalid_parameter", detail));
    }
    Ok(text.to_owned())
}

/// Without a search all products are equally relevant.
fn order_of(sort: Option<ProductSort>, is_search: bool) -> ProductOrder {
    match sort {
        None | Some(ProductSort::Relevance) if is_search => ProductOrder::Relevance,
        None | Some(ProductSort::Relevance | ProductSort::Oldest) => ProductOrder::Oldest,
        Some(ProductSort::Newest) => ProductOrder::Newest,
        Some(ProductSort::Cheapest) => ProductOrder::Cheapest,
        Some(ProductSort::Dearest) => ProductOrder::Dearest,
    }
}

fn shown(product: ProductView) -> Done<ProductShape> {
    let version = product.version;
    Done::new(&ProductShape::from(product)).tagged(version)
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Catalogue")]
impl Catalogue {
    /// Add a product as a draft.
    #[oai(path = "/products", method = "post", operation_id = "createProduct")]
    async fn create(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<CreateProduct>,
    ) -> Result<Created<ProductShape>, Refuses<CreateProductRefusal>> {
        let ask = Ask::new("createProduct", &by, &key).with(&body);
        let CreateProduct { name, description, price, category_id } = body.value;
        let price = price.read("/price", "invalid_price")?;
        let command = product::CreateProduct { name, description, price, category_id };
        by.door
            .command(ask, async |ctx| {
                let created = product::create_product(ctx, command);
                let product = created.await?;
                let (at, version) =
                    (format!("/v1/products/{}", product.product_id), product.version);
                Ok(Created::new(&ProductShape::from(product)).at(at).tagged(version))
            })
            .await
    }

    /// Change a product. The change is recorded and carts are refreshed.
    #[oai(path = "/products/:productId", method = "patch", operation_id = "updateProduct")]
    async fn update(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<UpdateProduct>,
    ) -> Result<Done<ProductShape>, Refuses<(UpdateProductRefusal, Stale)>> {
        let ask = Ask::new("updateProduct", &by, &key).with(&body);
        let UpdateProduct { name, price, description } = body.value;
        let price = price.map(|price| price.read("/price", "invalid_data")).transpose()?;
        let id = product_id.0;
        let command = product::UpdateProduct { product_id: id, name, price, description };
        by.door
            .command(ask, async |ctx| {
                seen.check(product::lock_version(ctx, id)).await?;
                let updated = product::update_product(ctx, command);
                Ok(shown(updated.await?))
            })
            .await
    }

    /// Delete a product for good, from the catalogue and all carts. Existing orders keep its name.
    #[oai(path = "/products/:productId", method = "delete", operation_id = "deleteProduct")]
    async fn delete(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "productId")] product_id: Path<Uuid>,
    ) -> Result<Gone, Refuses<(ProductStatusRefusal, Stale)>> {
        by.door
            .command(Ask::new("deleteProduct", &by, &key), async |ctx| {
                seen.check(product::lock_version(ctx, product_id.0)).await?;
                product::delete_product(ctx, product_id.0).await?;
                Ok(Gone::gone())
            })
            .await
    }

    /// Activate a product, so that it is on sale.
    #[oai(
        path = "/products/:productId/activate",
        method = "post",
        operation_id = "activateProduct"
    )]
    async fn activate(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "productId")] product_id: Path<Uuid>,
    ) -> Result<Done<ProductShape>, Refuses<(ProductStatusRefusal, Stale)>> {
        by.door
            .command(Ask::new("activateProduct", &by, &key), async |ctx| {
                seen.check(product::lock_version(ctx, product_id.0)).await?;
                product::activate_product(ctx, product_id.0).await?;
                known(ctx, product_id.0).await
            })
            .await
    }

    /// Deactivate a product, so that it is no longer on sale.
    #[oai(
        path = "/products/:productId/deactivate",
        method = "post",
        operation_id = "deactivateProduct"
    )]
    async fn deactivate(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "productId")] product_id: Path<Uuid>,
    ) -> Result<Done<ProductShape>, Refuses<(ProductStatusRefusal, Stale)>> {
        by.door
            .command(Ask::new("deactivateProduct", &by, &key), async |ctx| {
                seen.check(product::lock_version(ctx, product_id.0)).await?;
                product::deactivate_product(ctx, product_id.0).await?;
                known(ctx, product_id.0).await
            })
            .await
    }

    /// Add a variant to a product.
    #[oai(
        path = "/products/:productId/variants",
        method = "post",
        operation_id = "addProductVariant"
    )]
    async fn add_variant(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "productId")] product_id: Path<Uuid>,
        body: Body<AddProductVariant>,
    ) -> Result<Created<ProductShape>, Refuses<(UpdateProductRefusal, Stale)>> {
        let ask = Ask::new("addProductVariant", &by, &key).with(&body);
        let AddProductVariant { name, price } = body.value;
        let price = price.map(|price| price.read("/price", "invalid_data")).transpose()?;
        let id = product_id.0;
        by.door
            .command(ask, async |ctx| {
                seen.check(product::lock_version(ctx, id)).await?;
                let added = product::add_product_variant(ctx, id, &name, price);
                let product = added.await?;
                let version = product.version;
                let reply = Created::new(&ProductShape::from(product));
                Ok(reply.at(format!("/v1/products/{id}")).tagged(version))
            })
            .await
    }

    /// Get a product. Only staff see products that are not on sale.
    #[oai(path = "/products/:productId", method = "get", operation_id = "getProduct")]
    async fn get(
        &self,
        visitor: Visitor<CatalogueKeeper>,
        #[oai(name = "productId")] product_id: Path<Uuid>,
    ) -> Result<Done<ProductShape>, Refuses<UnknownProduct>> {
        let product = visitor.door.reads.products.get(product_id.0).await?;
        let visible = product.filter(|p| visitor.trusted || p.status == "active");
        Ok(shown(visible.ok_or(UnknownProduct::NotFound)?))
    }

    /// List products. Only staff see products that are not on sale. A search finds words of names and descriptions in any form, or, if no product has
    /// them, names that are spelt nearly so.
    #[oai(path = "/products", method = "get", operation_id = "listProducts")]
    #[expect(clippy::too_many_arguments, reason = "one argument is one query parameter")]
    async fn list(
        &self,
        visitor: Visitor<CatalogueKeeper>,
        #[oai(name = "categoryId")] category_id: Query<Option<Uuid>>,
        /// Words to search for, 1 to 100 characters.
        #[oai(validator(min_length = 1, max_length = 100))]
        search: Query<Option<String>>,
        /// The lowest price, in the shop's currency: `9.99`.
        #[oai(name = "minPrice", validator(pattern = r"^[0-9]{1,10}(\.[0-9]{1,4})?$"))]
        min_price: Query<Option<String>>,
        /// The highest price, in the shop's currency: `19.99`.
        #[oai(name = "maxPrice", validator(pattern = r"^[0-9]{1,10}(\.[0-9]{1,4})?$"))]
        max_price: Query<Option<String>>,
        /// Only staff may ask for another status than `active`.
        status: Query<Option<ProductStatus>>,
        /// The default is `relevance` with a search, and `oldest` without; without a search `relevance` is `oldest`.
        sort: Query<Option<ProductSort>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<ProductShape>>, Problem> {
        let (door, limit) = (&visitor.door, page::limit(limit.0)?);
        let filter = ProductFilter {
            category_id: category_id.0,
            status: status_shown(visitor.trusted, status.0)?,
            min_price: price_limit("minPrice", min_price.0.as_deref())?,
            max_price: price_limit("maxPrice", max_price.0.as_deref())?,
            search: search.0.map(searched).transpose()?,
        };
        let order = order_of(sort.0, filter.search.is_some());
        let list = format!("products/{filter:?}/{order:?}");
        let after: Option<ProductPlace> = door.cursors.open(&list, cursor.0.as_deref())?;
        let count = page::fetch_count(limit);
        let first = FirstPage::of(&filter, order, count).filter(|_| after.is_none());
        let rows = match first {
            Some(page) => door.reads.first_pages.get(page).await?.unwrap_or_default().to_vec(),
            None => {
                let _turn = door.turn_to_read().await?;
                let mut db = door.db.acquire().await?;
                product::list_products(&mut db, &filter, order, after.as_ref(), count).await?
            }
        };
        let page =
            door.cursors.page(&list, limit, rows, |(_, place)| place.clone(), |(p, _)| p.into());
        Ok(Done::new(&page))
    }

    /// Add a category. Categories nest at most three levels deep.
    #[oai(path = "/categories", method = "post", operation_id = "createCategory")]
    async fn create_category(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<CreateCategory>,
    ) -> Result<Created<CategoryShape>, Refuses<CreateCategoryRefusal>> {
        let ask = Ask::new("createCategory", &by, &key).with(&body);
        let CreateCategory { name, parent_category_id } = &body.value;
        by.door
            .command(ask, async |ctx| {
                let created = category::create_category(ctx, name, *parent_category_id);
                let category = CategoryShape::from(created.await?);
                let at = format!("/v1/products?categoryId={}", category.id);
                Ok(Created::new(&category).at(at))
            })
            .await
    }

    /// List all categories.
    #[oai(path = "/categories", method = "get", operation_id = "listCategories")]
    async fn categories(
        &self,
        by: Anyone,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<CategoryShape>>, Problem> {
        let (door, limit) = (&by.door, page::limit(limit.0)?);
        let after = door.cursors.open("categories", cursor.0.as_deref())?;
        let mut db = door.db.acquire().await?;
        let rows = category::list_categories(&mut db, after, page::fetch_count(limit)).await?;
        let page = door.cursors.page("categories", limit, rows, |row| row.category_id, Into::into);
        Ok(Done::new(&page))
    }
}

async fn known(tx: &mut PgConnection, product_id: Uuid) -> Result<Done<ProductShape>, Problem> {
    Ok(shown(product::get_product(tx, product_id).await?.ok_or(UnknownProduct::NotFound)?))
}
