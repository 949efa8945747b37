//! The reads that shoppers make most: a product, the first page of products, a cart. Simultaneous requests share them ([`Gather`]).

use std::{collections::HashMap, sync::Arc};

use futures::FutureExt;
use sqlx::PgPool;
use stepwise_engine::database;
use stepwise_workflows::{
    cart::{self, CartView},
    product::{self, ProductFilter, ProductOrder, ProductPlace, ProductView},
    shop::Shop,
};
use uuid::Uuid;

use super::gather::Gather;

/// The most ids that one statement reads.
const IDS_AT_ONCE: usize = 500;
/// The most first pages that are read at once: a statement for each, one after the other, and all of them have to end in the time of one answer.
const PAGES_AT_ONCE: usize = 16;

/// The first page of a list of products. It can be read along an index, whatever the filter and the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FirstPage {
    filter: ProductFilter,
    order: ProductOrder,
    count: i64,
}

impl FirstPage {
    /// The page of this list with so many products. `None` if the list has to be searched for them.
    pub fn of(filter: &ProductFilter, order: ProductOrder, count: i64) -> Option<Self> {
        let ProductFilter { category_id: _, status, min_price, max_price, search } = filter;
        let is_plain = search.is_none() && min_price.is_none() && max_price.is_none();
        let is_sold = *status == Some("active");
        (is_plain && is_sold).then(|| Self { filter: filter.clone(), order, count })
    }
}

/// Products with their places in a list.
pub type Products = Arc<Vec<(ProductView, ProductPlace)>>;

/// The shared reads.
pub struct Reads {
    /// Products that were not deleted, by id.
    pub products: Gather<Uuid, ProductView>,
    /// First pages of lists of products.
    pub first_pages: Gather<FirstPage, Products>,
    /// Carts, by customer or guest.
    pub carts: Gather<Uuid, CartView>,
}

impl Reads {
    /// Reads from this database.
    pub fn new(db: &PgPool, shop: &Arc<Shop>) -> Self {
        let (pool, pages, carts, shop) = (db.clone(), db.clone(), db.clone(), Arc::clone(shop));
        Self {
            products: Gather::reads(IDS_AT_ONCE, move |ids: Vec<Uuid>| {
                let pool = pool.clone();
                async move {
                    let ids = &ids;
                    database::ask(&pool, |mut db| async move {
                        product::get_products(&mut db, ids).await
                    })
                    .await
                }
                .boxed()
            }),
            first_pages: Gather::reads(PAGES_AT_ONCE, move |pages_asked: Vec<FirstPage>| {
                let pool = pages.clone();
                async move {
                    let pages = &pages_asked;
                    database::ask(&pool, |mut db| async move {
                        let mut found = HashMap::with_capacity(pages.len());
                        for page in pages {
                            let FirstPage { filter, order, count } = page;
                            let products =
                                product::list_products(&mut db, filter, *order, None, *count);
                            found.insert(page.clone(), Arc::new(products.await?));
                        }
                        Ok(found)
                    })
                    .await
                }
                .boxed()
            }),
            carts: Gather::reads(IDS_AT_ONCE, move |ids: Vec<Uuid>| {
                let (pool, shop) = (carts.clone(), Arc::clone(&shop));
                async move {
                    let (ids, shop) = (&ids, &shop);
                    database::ask(&pool, |mut db| async move {
                        cart::get_carts(shop, &mut db, ids).await
                    })
                    .await
                }
                .boxed()
            }),
        }
    }
}
