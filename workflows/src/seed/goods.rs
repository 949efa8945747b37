//! The products of the demo shop.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{money::Money, shop::Shop};

/// Category, name, price in the smallest unit of the currency (cents).
#[rustfmt::skip]
const GOODS: [(usize, &str, i64); 30] = [
    (0, "Espresso cups, set of four", 2400), (0, "Pour-over coffee maker", 3950),
    (0, "Cast-iron skillet", 4499), (0, "Chef's knife", 8900), (0, "Bread board, oak", 2799),
    (0, "Salad bowl", 1999), (0, "Linen tea towels, pair", 1450), (0, "Pepper mill", 3200),
    (0, "Water carafe", 1875), (0, "Baking tin", 1299),
    (1, "Notebook, dotted", 999), (1, "Fountain pen", 3490), (1, "Desk lamp", 5999),
    (1, "Pencil case", 1150), (1, "Wall calendar", 1399), (1, "Letter opener", 899),
    (1, "Ink, midnight blue", 1290), (1, "Document tray", 2150), (1, "Paperweight", 1675),
    (1, "Sketch pad", 1089),
    (2, "Wool blanket", 7900), (2, "Floor cushion", 4590), (2, "Candle holder", 1899),
    (2, "Picture frame", 1549), (2, "Wall clock", 3999), (2, "Plant pot", 1299),
    (2, "Throw pillow", 2490), (2, "Door mat", 2199), (2, "Storage basket", 2850),
    (2, "Table runner", 1799),
];
const CATEGORIES: [&str; 3] = ["Kitchen", "Desk", "Living"];

/// The same in every demo shop, so that seeding again finds them.
fn id(kind: u128, n: usize) -> Uuid {
    const FIRST: u128 = 0x0197_0000_0000_7000_8000_0000_0000_0000;
    Uuid::from_u128(FIRST + (kind << 32) + n as u128)
}

/// The demo products.
pub(super) fn product_ids() -> Vec<Uuid> {
    (0..GOODS.len()).map(|n| id(1, n)).collect()
}

/// Writes what is missing, active and with `stock` of each. 2 round trips.
pub(super) async fn write(
    shop: &Shop,
    tx: &mut PgConnection,
    stock: i32,
) -> Result<(), sqlx::Error> {
    // The smallest units of the shop's currency: 24.00 USD, 2400 JPY.
    let price = |cents| {
        let price = Money::from_minor(cents, shop.config.currency);
        price.expect("the goods cost little").amount()
    };
    sqlx::query(
        "-- seed: categories
        insert into shop.category (category_id, name, depth, created_at)
        select c.category_id, c.name, 1, saga.now()
        from unnest($1::uuid[], $2::text[]) as c (category_id, name)
        on conflict do nothing",
    )
    .bind((0..CATEGORIES.len()).map(|n| id(0, n)).collect::<Vec<_>>())
    .bind(CATEGORIES)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- seed: products
        with product as (
            insert into shop.product
                (product_id, category_id, name, description, price, currency, status, created_by,
                 created_at, updated_at)
            select g.product_id, c.category_id, g.name, '', g.price, $6, 'active',
                   $7, saga.now(), saga.now()
            from unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[])
                as g (product_id, category_id, name, price)
            join shop.category c using (category_id)
            on conflict (product_id) do nothing
            returning product_id
        )
        insert into shop.inventory
            (inventory_id, product_id, on_hand, low_stock_threshold, updated_at)
        select i.inventory_id, p.product_id, $8, $9, saga.now()
        from product p
        join unnest($1::uuid[], $5::uuid[]) as i (product_id, inventory_id) using (product_id)
        on conflict do nothing",
    )
    .bind(product_ids())
    .bind(GOODS.iter().map(|(category, ..)| id(0, *category)).collect::<Vec<_>>())
    .bind(GOODS.iter().map(|(_, name, _)| *name).collect::<Vec<_>>())
    .bind(GOODS.iter().map(|(.., cents)| price(*cents)).collect::<Vec<_>>())
    .bind((0..GOODS.len()).map(|n| id(2, n)).collect::<Vec<_>>())
    .bind(shop.config.currency.code())
    .bind(id(3, 0))
    .bind(stock)
    .bind(shop.config.low_stock_threshold)
    .execute(tx)
    .await?;
    Ok(())
}
