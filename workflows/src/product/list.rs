//! Lists of products: filters, search and order.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::view::{ProductView, Row, view};

/// The products that a list has: those for which everything that is given is true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProductFilter {
    /// Products of this category.
    pub category_id: Option<Uuid>,
    /// Products of this status.
    pub status: Option<&'static str>,
    /// Products of this price or a higher one. Prices of variants do not count.
    pub min_price: Option<Decimal>,
    /// Products of this price or a lower one.
    pub max_price: Option<Decimal>,
    /// Products whose name or description has these words, in any form and any case. If there is none, products whose name is spelt nearly so.
    pub search: Option<String>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProductOrder {
    /// The oldest first.
    #[default]
    Oldest,
    /// The newest first.
    Newest,
    /// The lowest price first.
    Cheapest,
    /// The highest price first.
    Dearest,
    /// The best match of the search first.
    Relevance,
}

/// The place of a product in a list. The next page begins after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPlace {
    product_id: Uuid,
    /// The price, or the negative rank of the match.
    value: Option<Decimal>,
    /// The products of this list are spelt nearly like the search, because none has its words.
    by_spelling: bool,
}

/// One page of products, each with its place. 1 round trip, 1 more for a search whose words no product has.
pub async fn list_products(
    connection: &mut PgConnection,
    filter: &ProductFilter,
    order: ProductOrder,
    after: Option<&ProductPlace>,
    limit: i64,
) -> Result<Vec<(ProductView, ProductPlace)>, sqlx::Error> {
    let by_spelling = after.is_some_and(|after| after.by_spelling);
    let list = List { filter, order, by_spelling };
    let found = list.page(connection, after, limit).await?;
    if found.is_empty() && after.is_none() && filter.search.is_some() {
        return List { by_spelling: true, ..list }.page(connection, None, limit).await;
    }
    Ok(found)
}

#[derive(Clone, Copy)]
struct List<'f> {
    filter: &'f ProductFilter,
    order: ProductOrder,
    by_spelling: bool,
}

impl List<'_> {
    async fn page(
        self,
        connection: &mut PgConnection,
        after: Option<&ProductPlace>,
        limit: i64,
    ) -> Result<Vec<(ProductView, ProductPlace)>, sqlx::Error> {
        let mut query = QueryBuilder::new("-- product: list\n");
        self.write(&mut query, after, limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(connection).await?;
        let placed = |row: Row| {
            let (product_id, value) = (row.product_id, row.place);
            let place = ProductPlace { product_id, value, by_spelling: self.by_spelling };
            Ok((row.view()?, place))
        };
        rows.into_iter().map(placed).collect()
    }

    /// Writes the statement. It chooses the products of the page first, and looks up their stock and variants then.
    fn write(self, query: &mut QueryBuilder<Postgres>, after: Option<&ProductPlace>, limit: i64) {
        let (value, way) = self.order_by();
        query.push("with found as (select p.product_id, ");
        query.push(value).push(" as place from shop.product p");
        if let Some(search) = &self.filter.search {
            // Names and descriptions are stored in this form.
            let search: String = search.nfc().collect();
            if self.by_spelling {
                query.push(", (select ").push_bind(search).push("::text as search) s");
            } else {
                query.push(", websearch_to_tsquery('pg_catalog.english', shop.folded(");
                query.push_bind(search).push(")) s");
            }
        }
        query.push(" where p.deleted_at is null");
        self.narrow(query);
        let sign = if way == "desc" { "<" } else { ">" };
        match after {
            Some(ProductPlace { product_id, value: Some(place), .. }) => {
                query.push(format!(" and ({value}, p.product_id) {sign} (")).push_bind(*place);
                query.push(", ").push_bind(*product_id).push(")");
            }
            Some(ProductPlace { product_id, value: None, .. }) => {
                query.push(format!(" and p.product_id {sign} ")).push_bind(*product_id);
            }
            None => {}
        }
        let by_value = if value == NO_VALUE { String::new() } else { format!("{value} {way}, ") };
        query.push(format!(" order by {by_value}p.product_id {way} limit ")).push_bind(limit);
        query.push(") ").push(view!(", found.place"));
        query.push(", found where p.product_id = found.product_id");
        query.push(format!(" order by found.place {way}, p.product_id {way}"));
    }

    /// The value by which the list is ordered, and the direction.
    fn order_by(self) -> (&'static str, &'static str) {
        match self.order {
            ProductOrder::Newest => (NO_VALUE, "desc"),
            ProductOrder::Cheapest => ("p.price", "asc"),
            ProductOrder::Dearest => ("p.price", "desc"),
            ProductOrder::Relevance if self.filter.search.is_some() => {
                let by_spelling = "-(shop.likeness(s.search, p.name) * 1000000)::int::numeric";
                let by_words = "-(ts_rank(p.words, s) * 1000000)::int::numeric";
                (if self.by_spelling { by_spelling } else { by_words }, "asc")
            }
            ProductOrder::Oldest | ProductOrder::Relevance => (NO_VALUE, "asc"),
        }
    }

    fn narrow(self, query: &mut QueryBuilder<Postgres>) {
        let ProductFilter { category_id, status, min_price, max_price, search } = self.filter;
        if let Some(category_id) = category_id {
            query.push(" and p.category_id = ").push_bind(*category_id);
        }
        if let Some(status) = status {
            query.push(" and p.status = ").push_bind(*status);
        }
        if let Some(min_price) = min_price {
            query.push(" and p.price >= ").push_bind(*min_price);
        }
        if let Some(max_price) = max_price {
            query.push(" and p.price <= ").push_bind(*max_price);
        }
        if search.is_some() {
            query.push(if self.by_spelling {
                " and shop.is_spelt_like(s.search, p.name)"
            } else {
                " and p.words @@ s"
            });
        }
    }
}

/// The list is ordered by the products' ids alone.
const NO_VALUE: &str = "null::numeric";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database;

    #[tokio::test]
    async fn every_list_can_be_read_along_an_index() {
        let database = database().await;
        let mut db = database.pool().acquire().await.expect("a connection");
        // The table is empty. What counts is whether Postgres can use the index at all.
        let forbid = "set enable_seqscan = off; set enable_sort = off";
        sqlx::raw_sql(forbid).execute(&mut *db).await.expect("allowed");
        let filter = |search: Option<&str>, category_id| ProductFilter {
            status: Some("active"),
            search: search.map(str::to_owned),
            category_id,
            ..ProductFilter::default()
        };
        let after = |value| ProductPlace { product_id: Uuid::nil(), value, by_spelling: false };
        let in_category = &filter(None, Some(Uuid::nil()));
        let (id, price) = (after(None), after(Some(Decimal::ONE)));
        for (filter, order, after, by_spelling, index) in [
            (&filter(None, None), ProductOrder::Oldest, &id, false, "product_pkey"),
            (&filter(None, None), ProductOrder::Newest, &id, false, "product_pkey"),
            (&filter(None, None), ProductOrder::Cheapest, &price, false, "product_by_price"),
            (&filter(None, None), ProductOrder::Dearest, &price, false, "product_by_price"),
            (in_category, ProductOrder::Oldest, &id, false, "product_by_category"),
            (in_category, ProductOrder::Cheapest, &price, false, "product_by_price_in_category"),
            (in_category, ProductOrder::Dearest, &price, false, "product_by_price_in_category"),
            (
                &filter(Some("cup"), None),
                ProductOrder::Relevance,
                &price,
                false,
                "product_by_words",
            ),
            (
                &filter(Some("cupp"), None),
                ProductOrder::Relevance,
                &price,
                true,
                "product_by_spelling",
            ),
        ] {
            if filter.search.is_some() {
                // In an empty table these indexes seem as good as any other.
                let forbid =
                    "drop index if exists shop.product_by_price, shop.product_by_price_in_category";
                sqlx::raw_sql(forbid).execute(&mut *db).await.expect("it is the test's own");
            }
            let list = List { filter, order, by_spelling };
            let mut query = QueryBuilder::new("explain ");
            list.write(&mut query, Some(after), 21);
            let plan: Vec<(String,)> =
                query.build_query_as().fetch_all(&mut *db).await.expect("a plan");
            let plan: String = plan.into_iter().map(|(line,)| line + "\n").collect();
            assert!(plan.contains(index), "{order:?} of {filter:?} does without {index}:\n{plan}");
        }
        drop(db);
        database.close().await;
    }
}
