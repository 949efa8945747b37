use sqlx::PgConnection;

use super::*;
use crate::{
    Shop,
    money::Currency,
    seed::bulk::{CrowdCustomer, crowd},
    testing::{ctx, database, pass, product, shop, story},
};

async fn customer(shop: &Shop, connection: &mut PgConnection) -> CrowdCustomer {
    crowd(shop, connection, 1, 0).await.expect("a customer").customers.remove(0)
}

fn adding(customer_id: Uuid, product_id: Uuid, quantity: i32) -> AddItem {
    AddItem { customer_id, product_id, variant_id: None, quantity }
}

fn item(cart: &CartView, n: usize) -> ItemOf {
    ItemOf {
        customer_id: cart.customer_id,
        cart_id: cart.cart_id,
        cart_item_id: cart.items[n].cart_item_id,
    }
}

fn quantities(cart: &CartView) -> Vec<(Uuid, i32)> {
    cart.items.iter().map(|item| (item.product_id, item.quantity)).collect()
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.expect(statement);
}

#[test]
fn the_entity_tag_changes_with_the_cart_and_with_every_price() {
    let (cart, item, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let price = |cents| Money::from_minor(cents, Currency::USD).expect("a small amount");
    let tag = entity_tag(cart, 1, [(item, price(100)), (other, price(200))]);
    assert_eq!(tag, entity_tag(cart, 1, [(other, price(200)), (item, price(100))]));
    assert_ne!(tag, entity_tag(cart, 2, [(item, price(100)), (other, price(200))]));
    assert_ne!(tag, entity_tag(cart, 1, [(item, price(101)), (other, price(200))]));
    assert_ne!(tag, entity_tag(cart, 1, [(item, price(100))]));
}

#[tokio::test]
async fn what_is_added_is_capped_to_what_is_available_and_totals_follow() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let (cup, none) = (product(&mut db, 1500, 5).await, product(&mut db, 1500, 0).await);
    let added = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added");
    assert!(!added.capped);
    assert_eq!(quantities(&added.cart), [(cup, 3)]);
    assert_eq!(added.cart.subtotal.to_string(), "45.00 USD");
    assert_eq!(added.cart.shipping_cost.to_string(), "5.99 USD");
    let added = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added");
    assert!(added.capped);
    assert_eq!(quantities(&added.cart), [(cup, 5)]);
    assert_eq!((added.cart.item_count, added.cart.items[0].available), (5, 5));
    assert_eq!(added.cart.shipping_cost.to_string(), "0.00 USD", "free from 50.00");
    let added =
        add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 1)).await.expect("nothing to add");
    assert!(added.capped);
    let events = story(&mut db, added.cart.cart_id).await;
    assert_eq!(events, ["ItemAddedToCart", "ItemAddedToCart"], "nothing added, nothing told");

    let refused = add_item(&mut ctx(&shop, &mut db), &adding(me, none, 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::OutOfStock)), "{refused:?}");
    let refused = add_item(&mut ctx(&shop, &mut db), &adding(me, Uuid::now_v7(), 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::ProductNotFound)), "{refused:?}");
    let refused = add_item(&mut ctx(&shop, &mut db), &adding(Uuid::now_v7(), cup, 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::CustomerNotFound)), "{refused:?}");
    for quantity in [0, -1, 1000, i32::MAX] {
        let refused = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, quantity)).await;
        assert!(matches!(refused, Err(AddItemRefusal::InvalidQuantity { .. })), "{refused:?}");
    }
    run(&mut db, "update shop.product set status = 'inactive'").await;
    let refused = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::ProductInactive)), "{refused:?}");
    drop(db);
    database.close().await;
}

/// The answer is put together from what was read before the item was written, so it is compared with what is read afterwards.
#[tokio::test]
async fn the_cart_that_an_addition_answers_is_the_cart_that_is_read_afterwards() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let (cup, pan) = (product(&mut db, 1500, 5).await, product(&mut db, 900, 9).await);
    let first = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 1)).await.expect("added").cart;
    let both = add_item(&mut ctx(&shop, &mut db), &adding(me, pan, 2)).await.expect("added").cart;
    // A line that is older by its id comes first, whichever was put in later.
    run(&mut db, "update shop.cart_item set cart_item_id = 'ffffffff-0000-7000-8000-000000000000' where quantity = 2").await;
    remove_item(&mut ctx(&shop, &mut db), item(&first, 0)).await.expect("removed");
    let mut etags = vec![first.etag, both.etag];
    let mut added = Vec::new();
    for (product, quantity) in [(cup, 2), (cup, 2), (pan, 1), (cup, 7), (cup, 1)] {
        run(&mut db, "update shop.product set price = price + 1").await;
        let answered = add_item(&mut ctx(&shop, &mut db), &adding(me, product, quantity))
            .await
            .expect("added");
        let cart = get_cart(&shop, &mut db, me).await.expect("read").expect("there is one");
        assert_eq!(answered.cart, cart, "after {quantity} more");
        added.push((cart.items.len(), cart.removed_items.len(), cart.item_count));
        etags.push(cart.etag);
    }
    assert_eq!(added, [(2, 1, 4), (2, 1, 6), (2, 1, 7), (2, 1, 8), (2, 1, 8)]);
    etags.sort_unstable();
    etags.dedup();
    assert_eq!(etags.len(), 7, "each change of the cart or its prices has a tag of its own");
    story(&mut db, first.cart_id).await;
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_product_with_variants_is_put_in_as_one_of_them() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let shirt = product(&mut db, 1500, 0).await;
    let price = Money::from_minor(1700, Currency::USD).expect("a small amount");
    let view =
        crate::product::add_product_variant(&mut ctx(&shop, &mut db), shirt, "XL", Some(price))
            .await
            .expect("added");
    let variant_id = Some(view.variants[0].variant_id);
    run(&mut db, "update shop.inventory set on_hand = 3 where variant_id is not null").await;
    let refused = add_item(&mut ctx(&shop, &mut db), &adding(me, shirt, 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::VariantRequired)), "{refused:?}");
    let unknown = AddItem { variant_id: Some(Uuid::now_v7()), ..adding(me, shirt, 1) };
    let refused = add_item(&mut ctx(&shop, &mut db), &unknown).await;
    assert!(matches!(refused, Err(AddItemRefusal::ProductNotFound)), "{refused:?}");
    let command = AddItem { variant_id, ..adding(me, shirt, 2) };
    let added = add_item(&mut ctx(&shop, &mut db), &command).await.expect("added");
    let line = &added.cart.items[0];
    assert_eq!((line.name.as_str(), line.variant_id, line.available), ("Thing, XL", variant_id, 3));
    assert_eq!(line.line_total.to_string(), "34.00 USD");
    let cart = get_cart(&shop, &mut db, me).await.expect("read").expect("there is one");
    assert_eq!(added.cart, cart);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_quantity_is_changed_within_stock_and_zero_removes_the_item() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let stranger = customer(&shop, &mut db).await.customer_id;
    let cup = product(&mut db, 1500, 5).await;
    let cart = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added").cart;
    let of = item(&cart, 0);
    let changed = update_item_quantity(&mut ctx(&shop, &mut db), of, 5).await.expect("changed");
    assert_eq!(quantities(&changed), [(cup, 5)]);
    assert_ne!(changed.etag, cart.etag);
    let refused = update_item_quantity(&mut ctx(&shop, &mut db), of, 6).await;
    assert!(
        matches!(refused, Err(ChangeCartRefusal::QuantityExceedsStock { available: 5 })),
        "{refused:?}"
    );
    let refused = update_item_quantity(&mut ctx(&shop, &mut db), of, -1).await;
    assert!(matches!(refused, Err(ChangeCartRefusal::InvalidQuantity { .. })), "{refused:?}");
    let foreign = ItemOf { customer_id: stranger, ..of };
    let refused = update_item_quantity(&mut ctx(&shop, &mut db), foreign, 1).await;
    assert!(matches!(refused, Err(ChangeCartRefusal::CartNotFound)), "{refused:?}");
    let unknown = ItemOf { cart_item_id: Uuid::now_v7(), ..of };
    let refused = update_item_quantity(&mut ctx(&shop, &mut db), unknown, 1).await;
    assert!(matches!(refused, Err(ChangeCartRefusal::ItemNotInCart)), "{refused:?}");
    let removed = update_item_quantity(&mut ctx(&shop, &mut db), of, 0).await.expect("removed");
    assert!(removed.items.is_empty());
    let events = story(&mut db, cart.cart_id).await;
    assert_eq!(events, ["ItemAddedToCart", "CartItemQuantityUpdated", "ItemRemovedFromCart"]);
    let refused = remove_item(&mut ctx(&shop, &mut db), of).await;
    assert!(matches!(refused, Err(ChangeCartRefusal::ItemNotInCart)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_cart_shows_as_many_removed_items_as_it_may_have_lines() {
    let (database, mut shop) = (database().await, shop());
    shop.config.most_lines = 3;
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let cup = product(&mut db, 1500, 5).await;
    let mut last = Vec::new();
    for n in 1..=5 {
        let added = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 1)).await.expect("added");
        let of = item(&added.cart, 0);
        pass(&mut db, 1.0).await;
        let cart = remove_item(&mut ctx(&shop, &mut db), of).await.expect("removed");
        last.push(of.cart_item_id);
        let shown: Vec<Uuid> = cart.removed_items.iter().map(|it| it.cart_item_id).collect();
        assert_eq!(shown, last[last.len().saturating_sub(3)..], "after {n}");
    }
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_removed_item_can_be_taken_back_for_ten_minutes() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let (cup, pan) = (product(&mut db, 1500, 5).await, product(&mut db, 900, 9).await);
    add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added");
    let cart = add_item(&mut ctx(&shop, &mut db), &adding(me, pan, 1)).await.expect("added").cart;
    let (cups, pans) = (item(&cart, 0), item(&cart, 1));
    let removed = remove_item(&mut ctx(&shop, &mut db), cups).await.expect("removed");
    assert_eq!(quantities(&removed), [(pan, 1)]);
    assert_eq!(removed.removed_items.len(), 1);
    pass(&mut db, 599.0).await;
    let back = restore_item(&mut ctx(&shop, &mut db), cups).await.expect("taken back");
    assert!(!back.capped);
    assert_eq!(quantities(&back.cart), [(cup, 3), (pan, 1)]);

    // Put in again meanwhile: both together, as many as there are.
    remove_item(&mut ctx(&shop, &mut db), cups).await.expect("removed");
    add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 4)).await.expect("added");
    let back = restore_item(&mut ctx(&shop, &mut db), cups).await.expect("taken back");
    assert!(back.capped, "two of seven are left out");
    let mut now = quantities(&back.cart);
    now.sort_unstable();
    let mut wanted = [(cup, 5), (pan, 1)];
    wanted.sort_unstable();
    assert_eq!(now, wanted);

    remove_item(&mut ctx(&shop, &mut db), pans).await.expect("removed");
    pass(&mut db, 601.0).await;
    let refused = restore_item(&mut ctx(&shop, &mut db), pans).await;
    assert!(matches!(refused, Err(ChangeCartRefusal::ItemNotInCart)), "{refused:?}");
    let cart = get_cart(&shop, &mut db, me).await.expect("read").expect("there is one");
    assert!(cart.removed_items.is_empty());
    story(&mut db, cart.cart_id).await;
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_cleared_cart_is_empty_for_good_and_that_is_told_once() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let cup = product(&mut db, 1500, 5).await;
    let cart = add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added").cart;
    for _ in 0..2 {
        let cleared =
            clear_cart(&mut ctx(&shop, &mut db), me, cart.cart_id).await.expect("cleared");
        assert!(cleared.items.is_empty() && cleared.removed_items.is_empty());
        assert_eq!(cleared.shipping_cost.to_string(), "0.00 USD");
    }
    assert_eq!(story(&mut db, cart.cart_id).await, ["ItemAddedToCart", "CartCleared"]);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_guests_cart_is_merged_into_the_customers_capped_to_stock_and_then_closed() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let (cup, pan, gone) = (
        product(&mut db, 1500, 5).await,
        product(&mut db, 900, 9).await,
        product(&mut db, 800, 2).await,
    );
    let guest = create_guest_cart(&mut ctx(&shop, &mut db)).await.expect("a guest");
    for (product, quantity) in [(cup, 4), (pan, 2), (gone, 1)] {
        let command = adding(guest.customer_id, product, quantity);
        add_item(&mut ctx(&shop, &mut db), &command).await.expect("added");
    }
    add_item(&mut ctx(&shop, &mut db), &adding(me, cup, 3)).await.expect("added");
    run(&mut db, "update shop.product set status = 'inactive' where price = 8").await;

    let merging = |guest_cart_id| MergeGuestCart {
        guest_cart_id,
        guest_token: Some(guest.token.expose().to_owned()),
        customer_id: me,
    };
    let merged = merge_guest_cart(&mut ctx(&shop, &mut db), &merging(guest.cart_id)).await;
    let MergedCart { cart: merged, capped } = merged.expect("merged");
    assert!(capped);
    assert_eq!(quantities(&merged), [(cup, 5), (pan, 2)]);
    assert_eq!(story(&mut db, merged.cart_id).await, ["ItemAddedToCart", "CartMerged"]);
    let events = crate::events::of_aggregate(&mut db, merged.cart_id).await.expect("read");
    let capped: Vec<bool> = events[1].payload["mergedItems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["capped"] == true)
        .collect();
    assert_eq!(capped, [true, false, true]);

    let refused = add_item(&mut ctx(&shop, &mut db), &adding(guest.customer_id, pan, 1)).await;
    assert!(matches!(refused, Err(AddItemRefusal::CustomerNotFound)), "{refused:?}");
    let again = merge_guest_cart(&mut ctx(&shop, &mut db), &merging(guest.cart_id)).await;
    assert!(matches!(again, Err(MergeRefusal::GuestCartNotFound)), "{again:?}");
    let customers = merge_guest_cart(&mut ctx(&shop, &mut db), &merging(merged.cart_id)).await;
    assert!(matches!(customers, Err(MergeRefusal::GuestCartNotFound)), "{customers:?}");
    drop(db);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_one_cart_at_once_are_all_kept() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    run(&mut db, "delete from shop.cart").await;
    let cup = product(&mut db, 1500, 100).await;
    let running: Vec<_> = (0..20)
        .map(|_| {
            let (shop, pool) = (shop.clone(), database.pool().clone());
            tokio::spawn(async move {
                let mut tx = pool.begin().await?;
                add_item(&mut ctx(&shop, &mut tx), &adding(me, cup, 1)).await?;
                Ok::<_, AddItemRefusal>(tx.commit().await?)
            })
        })
        .collect();
    drop(db);
    for one in running {
        one.await.expect("no panic").expect("added");
    }
    let mut db = database.pool().acquire().await.expect("a connection");
    let cart = get_cart(&shop, &mut db, me).await.expect("read").expect("there is one");
    assert_eq!(quantities(&cart), [(cup, 20)]);
    assert_eq!(story(&mut db, cart.cart_id).await.len(), 20);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn carts_of_the_time_before_are_watched_from_now_on_once_each() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1500, 50).await;
    // Carts as an earlier release has left them: with an item, without one, and a guest's.
    let (full, empty) = (customer(&shop, &mut db).await, customer(&shop, &mut db).await);
    for buyer in [&full, &empty] {
        add_item(&mut ctx(&shop, &mut db), &adding(buyer.customer_id, cup, 1))
            .await
            .expect("added");
    }
    let guest = create_guest_cart(&mut ctx(&shop, &mut db)).await.expect("a guest");
    run(&mut db, "delete from saga.instance").await;
    run(&mut db, "update shop.cart set is_watched = false, last_activity_at = saga.now() - interval '5 days'").await;
    sqlx::query("delete from shop.cart_item where cart_id = (select cart_id from shop.cart where customer_id = $1)")
        .bind(empty.customer_id)
        .execute(&mut *db)
        .await
        .expect("emptied");
    let adopted = adopt(&mut db, 10, None).await.expect("adopted");
    let left: Vec<(bool, u64)> = adopted
        .iter()
        .map(|cart| (cart.cart_id == guest.cart_id, cart.left(&shop).as_secs().div_ceil(86_400)))
        .collect();
    assert!(
        left.len() == 2 && left.contains(&(true, 2)) && left.contains(&(false, 25)),
        "{left:?}"
    );
    assert!(adopt(&mut db, 10, None).await.expect("looked").is_empty());
    // An item that is put into the empty one starts its watch, and only the first time.
    for _ in 0..2 {
        add_item(&mut ctx(&shop, &mut db), &adding(empty.customer_id, cup, 1))
            .await
            .expect("added");
    }
    let watches: i64 =
        sqlx::query_scalar("select count(*) from saga.instance where name = 'cart-expiry'")
            .fetch_one(&mut *db)
            .await
            .expect("readable");
    assert_eq!(watches, 1);
    drop(db);
    database.close().await;
}

/// An order compares that price with the one of the moment.
#[tokio::test]
async fn more_of_a_product_keeps_the_price_at_which_the_first_was_put_in() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let cup = product(&mut db, 1500, 9).await;
    let mut prices = Vec::new();
    let mut put = async |db: &mut PgConnection, statement| {
        run(db, statement).await;
        let added = add_item(&mut ctx(&shop, db), &adding(me, cup, 1)).await.expect("added").cart;
        let cart = get_cart(&shop, db, me).await.expect("read").expect("there is one");
        assert_eq!(added, cart);
        prices.push(cart.items[0].price_when_added.to_string());
        cart
    };
    put(&mut db, "update shop.product set price = 15").await;
    let cart = put(&mut db, "update shop.product set price = 20").await;
    put(&mut db, "update shop.product set price = 12").await;
    remove_item(&mut ctx(&shop, &mut db), item(&cart, 0)).await.expect("removed");
    put(&mut db, "update shop.product set price = 20").await;
    assert_eq!(prices, ["15.00 USD", "15.00 USD", "12.00 USD", "20.00 USD"]);
    let back = restore_item(&mut ctx(&shop, &mut db), item(&cart, 0)).await.expect("taken back");
    assert_eq!(back.cart.items[0].price_when_added.to_string(), "12.00 USD");
    drop(db);
    database.close().await;
}

/// Takes a product off sale and out of the carts, a second after everything before.
async fn withdraw(shop: &Shop, db: &mut PgConnection, product_id: Uuid) {
    sqlx::query("update shop.product set status = 'inactive' where product_id = $1")
        .bind(product_id)
        .execute(&mut *db)
        .await
        .expect("off sale");
    pass(db, 1.0).await;
    assert!(withdraw_product(&mut ctx(shop, db), product_id).await.expect("withdrawn"));
}

#[tokio::test]
async fn of_items_that_are_not_sold_any_more_a_cart_keeps_as_many_as_it_may_have_lines() {
    let (database, mut shop) = (database().await, shop());
    shop.config.most_lines = 3;
    let mut db = database.pool().acquire().await.expect("a connection");
    let me = customer(&shop, &mut db).await.customer_id;
    let guest = create_guest_cart(&mut ctx(&shop, &mut db)).await.expect("a guest");
    let mut gone = Vec::new();
    for n in 1..=10 {
        let cup = product(&mut db, 1500, 5).await;
        let buyer = if n <= 5 { me } else { guest.customer_id };
        add_item(&mut ctx(&shop, &mut db), &adding(buyer, cup, 1)).await.expect("added");
        withdraw(&shop, &mut db, cup).await;
        gone.push(cup);
        let cart = get_cart(&shop, &mut db, buyer).await.expect("read").expect("there is one");
        let shown: Vec<Uuid> = cart.removed_items.iter().map(|it| it.product_id).collect();
        let theirs = if n <= 5 { &gone[..] } else { &gone[5..] };
        assert_eq!(shown, theirs[theirs.len().saturating_sub(3)..], "after {n}");
    }
    // Merging keeps the newest of both carts. The guest has no line, so nothing else is merged.
    let before = get_cart(&shop, &mut db, me).await.expect("read").expect("there is one");
    run(&mut db, "update shop.cart set is_watched = false").await;
    let merging = MergeGuestCart {
        guest_cart_id: guest.cart_id,
        guest_token: Some(guest.token.expose().to_owned()),
        customer_id: me,
    };
    let merged = merge_guest_cart(&mut ctx(&shop, &mut db), &merging).await.expect("merged");
    let shown: Vec<Uuid> = merged.cart.removed_items.iter().map(|it| it.product_id).collect();
    assert_eq!(shown, gone[7..]);
    assert!(!merged.capped);
    assert_ne!(merged.cart.etag, before.etag, "other items can be taken back now");
    let events = story(&mut db, merged.cart.cart_id).await;
    assert!(events.iter().all(|name| name != "CartMerged"), "{events:?}");
    let watched: i64 = sqlx::query_scalar("select count(*) from shop.cart where is_watched")
        .fetch_one(&mut *db)
        .await
        .expect("read");
    assert_eq!(watched, 0);
    let again = merge_guest_cart(&mut ctx(&shop, &mut db), &merging).await;
    assert!(matches!(again, Err(MergeRefusal::GuestCartNotFound)), "it is closed: {again:?}");
    drop(db);
    database.close().await;
}
