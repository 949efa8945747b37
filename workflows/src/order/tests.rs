use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    cancel::{self, CancelOrder, CancelOrderRefusal, Cancelling, HowBack},
    place::{
        self, Authorized, Completion, Missing, Paid, PlaceOrder, PlaceOrderRefusal, Placing, begin,
    },
    refund::{self, Refunded},
    release::{Ending, Release, release},
    *,
};
use crate::{
    Shop,
    cart::{self, AddItem, CartView, ChangeCartRefusal},
    payment::{PaymentFailure, gateway::Reason, store::transactions_of},
    seed::bulk::{CrowdCustomer, crowd},
    shop::Context,
    testing::{ctx, database, product, shop, stock, story},
};

mod cancelling;
mod causes;
mod outside;
mod races;
mod refunding;
mod round_trips;
mod shipping;
mod together;

async fn customer(shop: &Shop, connection: &mut PgConnection) -> CrowdCustomer {
    crowd(shop, connection, 1, 0).await.expect("a customer").customers.remove(0)
}

async fn put(shop: &Shop, tx: &mut PgConnection, customer: &CrowdCustomer, items: &[(Uuid, i32)]) {
    for (product_id, quantity) in items {
        let command = AddItem {
            customer_id: customer.customer_id,
            product_id: *product_id,
            variant_id: None,
            quantity: *quantity,
        };
        cart::add_item(&mut ctx(shop, tx), &command).await.expect("put into the cart");
    }
}

fn ordering(customer: &CrowdCustomer) -> PlaceOrder {
    PlaceOrder {
        customer_id: customer.customer_id,
        shipping_address_id: customer.shipping_address_id,
        payment_method_id: customer.payment_method_id,
        accepted_cart: None,
    }
}

fn authorized(order: &Placing) -> Authorized {
    Authorized {
        authorization_id: format!("pi_{}", order.payment_id),
        key: "instance-2".to_owned(),
    }
}

/// Completes one order, because of what the context says.
async fn complete(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    authorized: &Authorized,
) -> Result<Completion, sqlx::Error> {
    let paid = Paid { order_id, cause: ctx.cause.clone(), authorized: authorized.clone() };
    Ok(place::complete(ctx, &[paid]).await?.remove(0))
}

/// Begins in a transaction of its own, rolled back when refused.
async fn place(
    shop: &Shop,
    connection: &mut PgConnection,
    command: &PlaceOrder,
) -> Result<Placing, PlaceOrderRefusal> {
    use sqlx::Connection as _;
    let mut tx = connection.begin().await?;
    let placing = begin(&mut ctx(shop, &mut tx), command).await?;
    tx.commit().await?;
    Ok(placing)
}

async fn view(shop: &Shop, connection: &mut PgConnection, order: Uuid) -> OrderView {
    get_order(shop, connection, order, None).await.expect("read").expect("there is one")
}

async fn cart_of(shop: &Shop, connection: &mut PgConnection, of: &CrowdCustomer) -> CartView {
    cart::get_cart(shop, connection, of.customer_id).await.expect("read").expect("there is one")
}

/// What partners were told of an order: kind and sequence.
async fn told(connection: &mut PgConnection, order: Uuid) -> Vec<(String, i64)> {
    sqlx::query_as(
        "-- test: messages
        select kind, sequence from saga.outbox where subject = $1 order by sequence",
    )
    .bind(order.to_string())
    .fetch_all(connection)
    .await
    .expect("read")
}

fn kinds(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect()
}

async fn inventory_of(connection: &mut PgConnection, product: Uuid) -> Uuid {
    crate::inventory::stock_of(connection, product).await.expect("read")[0].inventory_id
}

#[tokio::test]
async fn an_order_that_is_paid_for_is_pending_and_its_cart_empty() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let (cup, pan) = (product(&mut db, 1000, 10).await, product(&mut db, 2550, 4).await);
    put(&shop, &mut db, &buyer, &[(cup, 2), (pan, 1)]).await;

    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let order = view(&shop, &mut db, placing.order_id).await;
    assert_eq!(order.status, "placing");
    assert_eq!(order.payment.status, "authorizing");
    assert_eq!(order.subtotal.to_string(), "45.50 USD");
    assert_eq!(order.shipping_cost.to_string(), "5.99 USD");
    assert_eq!(order.tax.to_string(), "3.30 USD");
    assert_eq!(order.total_amount, placing.total_amount);
    assert_eq!(order.total_amount.to_string(), "54.79 USD");
    assert_eq!(order.shipping_address.as_ref().map(|a| a.city.as_str()), Some("San Francisco"));
    assert_eq!(
        order.line_items.iter().map(|line| (line.product_id, line.quantity)).collect::<Vec<_>>(),
        [(cup, 2), (pan, 1)]
    );
    assert_eq!(stock(&mut db, cup).await, (10, 2, 2));
    assert_eq!(stock(&mut db, pan).await, (4, 1, 1));

    let done = complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
        .await
        .expect("done");
    assert_eq!(done, Completion::Placed);
    let order = view(&shop, &mut db, placing.order_id).await;
    assert_eq!((order.status.as_str(), order.payment.status.as_str()), ("pending", "authorized"));
    let cart = cart_of(&shop, &mut db, &buyer).await;
    assert!(cart.items.is_empty() && cart.checkout_order_id.is_none());
    assert_eq!(stock(&mut db, cup).await, (10, 2, 2), "an order keeps what it reserved");

    assert_eq!(story(&mut db, placing.order_id).await, ["OrderPlaced"]);
    assert_eq!(story(&mut db, placing.payment_id).await, ["PaymentAuthorized"]);
    let happened = story(&mut db, placing.cart_id).await;
    assert_eq!(happened, ["ItemAddedToCart", "ItemAddedToCart", "CartCleared"]);
    let inventory = inventory_of(&mut db, pan).await;
    assert_eq!(story(&mut db, inventory).await, ["InventoryReserved"]);
    assert_eq!(told(&mut db, placing.order_id).await, kinds(&[("shop.order.placed.v1", 1)]));
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    assert_eq!(moves.len(), 1);
    assert_eq!((moves[0].kind.as_str(), moves[0].state.as_str()), ("authorize", "succeeded"));
    assert_eq!(moves[0].key.as_deref(), Some("instance-2"));

    let again = complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
        .await
        .expect("asked");
    assert_eq!(again, Completion::NotPlacing(OrderStatus::Pending));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_that_is_not_paid_for_fails_and_gives_everything_back() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 2)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");

    let ending = Ending::Failed(PaymentFailure::Declined(Reason::new("insufficient_funds")));
    let released =
        release(&mut ctx(&shop, &mut db), placing.order_id, &ending, None).await.expect("released");
    assert_eq!(released, Release::Released);
    let order = view(&shop, &mut db, placing.order_id).await;
    assert_eq!((order.status.as_str(), order.payment.status.as_str()), ("failed", "declined"));
    assert_eq!(stock(&mut db, cup).await, (10, 0, 0));
    let cart = cart_of(&shop, &mut db, &buyer).await;
    assert_eq!((cart.item_count, cart.checkout_order_id), (2, None), "the cart is as before");
    let inventory = inventory_of(&mut db, cup).await;
    assert_eq!(story(&mut db, inventory).await, ["InventoryReserved", "InventoryReleased"]);
    assert!(story(&mut db, placing.order_id).await.is_empty());
    assert_eq!(told(&mut db, placing.order_id).await, kinds(&[("shop.payment.failed.v1", 1)]));
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    assert_eq!(moves[0].state, "failed");
    assert_eq!(moves[0].reason.as_deref(), Some("insufficient_funds"));

    let again =
        release(&mut ctx(&shop, &mut db), placing.order_id, &ending, None).await.expect("asked");
    assert_eq!(again, Release::NotPlacing(OrderStatus::Failed));
    let late = complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
        .await
        .expect("asked");
    assert_eq!(late, Completion::NotPlacing(OrderStatus::Failed));
    place(&shop, &mut db, &ordering(&buyer)).await.expect("the cart can be ordered again");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_and_leaves_nothing_behind() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (buyer, other) = (customer(&shop, &mut db).await, customer(&shop, &mut db).await);
    let (cup, pan) = (product(&mut db, 1000, 10).await, product(&mut db, 2550, 4).await);
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    assert!(matches!(refused, Err(PlaceOrderRefusal::CartEmpty)), "{refused:?}");

    put(&shop, &mut db, &buyer, &[(cup, 2), (pan, 3)]).await;
    for (command, missing) in [
        (PlaceOrder { customer_id: Uuid::now_v7(), ..ordering(&buyer) }, Missing::Customer),
        (
            PlaceOrder { shipping_address_id: other.shipping_address_id, ..ordering(&buyer) },
            Missing::Address,
        ),
        (
            PlaceOrder { payment_method_id: other.payment_method_id, ..ordering(&buyer) },
            Missing::PaymentMethod,
        ),
    ] {
        let refused = place(&shop, &mut db, &command).await;
        assert!(
            matches!(&refused, Err(PlaceOrderRefusal::NotFound(what)) if *what == missing),
            "{refused:?}"
        );
    }
    run(&mut db, "update shop.customer set email_verified_at = null").await;
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    assert!(matches!(refused, Err(PlaceOrderRefusal::EmailNotVerified)), "{refused:?}");
    run(&mut db, "update shop.customer set email_verified_at = saga.now()").await;
    run(&mut db, "update shop.customer set frozen_at = saga.now()").await;
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    assert!(matches!(refused, Err(PlaceOrderRefusal::NotFound(Missing::Customer))), "{refused:?}");
    run(&mut db, "update shop.customer set frozen_at = null").await;

    run(&mut db, "update shop.inventory set on_hand = 1 where on_hand = 4").await;
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    let Err(PlaceOrderRefusal::OutOfStock(short)) = refused else { panic!("{refused:?}") };
    assert_eq!(short.len(), 1);
    let short = &short[0];
    assert_eq!((short.index, short.product_id, short.asked, short.available), (1, pan, 3, 1));
    assert_eq!(stock(&mut db, cup).await, (10, 0, 0), "nothing is left behind");
    run(&mut db, "update shop.product set status = 'inactive' where price = 10").await;
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    let Err(PlaceOrderRefusal::OutOfStock(short)) = refused else { panic!("{refused:?}") };
    assert_eq!(short.iter().map(|line| line.available).collect::<Vec<_>>(), [0, 1]);
    drop(db);
    database.close().await;
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.expect(statement);
}

#[tokio::test]
async fn a_price_that_rose_is_told_and_can_be_accepted_and_one_that_fell_is_given() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    let before = cart_of(&shop, &mut db, &buyer).await.etag;
    run(&mut db, "update shop.product set price = 12").await;
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    let Err(PlaceOrderRefusal::PriceChanged(raised)) = refused else { panic!("{refused:?}") };
    assert_eq!(raised[0].old.to_string(), "10.00 USD");
    assert_eq!(raised[0].new.to_string(), "12.00 USD");
    let stale = PlaceOrder { accepted_cart: Some(before), ..ordering(&buyer) };
    let refused = place(&shop, &mut db, &stale).await;
    assert!(
        matches!(refused, Err(PlaceOrderRefusal::PriceChanged(_))),
        "an old tag accepts nothing"
    );
    let seen = cart_of(&shop, &mut db, &buyer).await.etag;
    let command = PlaceOrder { accepted_cart: Some(seen), ..ordering(&buyer) };
    let placing = place(&shop, &mut db, &command).await.expect("accepted");
    assert_eq!(view(&shop, &mut db, placing.order_id).await.subtotal.to_string(), "12.00 USD");

    let hasty = customer(&shop, &mut db).await;
    put(&shop, &mut db, &hasty, &[(cup, 1)]).await;
    let before = cart_of(&shop, &mut db, &hasty).await.etag;
    put(&shop, &mut db, &hasty, &[(cup, 1)]).await;
    let stale = PlaceOrder { accepted_cart: Some(before), ..ordering(&hasty) };
    let refused = place(&shop, &mut db, &stale).await;
    assert!(matches!(refused, Err(PlaceOrderRefusal::CartChanged)), "{refused:?}");

    let thrifty = customer(&shop, &mut db).await;
    put(&shop, &mut db, &thrifty, &[(cup, 1)]).await;
    run(&mut db, "update shop.product set price = 9").await;
    let placing = place(&shop, &mut db, &ordering(&thrifty)).await.expect("it begins");
    assert_eq!(view(&shop, &mut db, placing.order_id).await.subtotal.to_string(), "9.00 USD");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn while_an_order_is_placed_its_cart_refuses_changes_and_a_second_order() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let refused = place(&shop, &mut db, &ordering(&buyer)).await;
    assert!(matches!(refused, Err(PlaceOrderRefusal::CheckoutInProgress { order_id })
            if order_id == placing.order_id));
    let cart = cart_of(&shop, &mut db, &buyer).await;
    assert_eq!(cart.checkout_order_id, Some(placing.order_id));
    let cleared = cart::clear_cart(&mut ctx(&shop, &mut db), buyer.customer_id, cart.cart_id).await;
    assert!(matches!(cleared, Err(ChangeCartRefusal::CheckoutInProgress)));
    let of = cart::ItemOf {
        customer_id: buyer.customer_id,
        cart_id: cart.cart_id,
        cart_item_id: cart.items[0].cart_item_id,
    };
    let removed = cart::remove_item(&mut ctx(&shop, &mut db), of).await;
    assert!(matches!(removed, Err(ChangeCartRefusal::CheckoutInProgress)));
    let changed = cart::update_item_quantity(&mut ctx(&shop, &mut db), of, 2).await;
    assert!(matches!(changed, Err(ChangeCartRefusal::CheckoutInProgress)));
    let command =
        AddItem { customer_id: buyer.customer_id, product_id: cup, variant_id: None, quantity: 1 };
    let added = cart::add_item(&mut ctx(&shop, &mut db), &command).await;
    assert!(matches!(added, Err(cart::AddItemRefusal::CheckoutInProgress)));
    drop(db);
    database.close().await;
}

fn cancelling(order: Uuid, buyer: &CrowdCustomer) -> CancelOrder {
    CancelOrder {
        order_id: order,
        reason: "ordered by mistake".to_owned(),
        customer_id: Some(buyer.customer_id),
    }
}

#[tokio::test]
async fn an_order_number_that_is_taken_is_drawn_again() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    // 32 of the thousand million numbers remain: nearly every draw collides.
    run(
        &mut db,
        r#"create function only_few() returns trigger language plpgsql as $$
           begin
               new.order_number := left(new.order_number, 13) || right(new.order_number, 1);
               return new;
           end $$"#,
    )
    .await;
    run(
        &mut db,
        r#"create trigger only_few before insert on shop."order"
           for each row execute function only_few()"#,
    )
    .await;
    let cup = product(&mut db, 1000, 100).await;
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let buyer = customer(&shop, &mut db).await;
        put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
        let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
        numbers.insert(view(&shop, &mut db, placing.order_id).await.order_number);
    }
    assert_eq!(numbers.len(), 24);
    assert_eq!(stock(&mut db, cup).await, (100, 24, 24));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page_and_only_ones_own() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (buyer, other) = (customer(&shop, &mut db).await, customer(&shop, &mut db).await);
    let cup = product(&mut db, 1000, 100).await;
    let mut placed = Vec::new();
    for _ in 0..3 {
        put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
        let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
        complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
            .await
            .expect("done");
        placed.insert(0, placing.order_id);
    }
    let of = |customer_id| OrderFilter { customer_id, ..OrderFilter::default() };
    let mine = of(Some(buyer.customer_id));
    let page = list_orders(&shop, &mut db, mine, None, 2).await.expect("read");
    assert_eq!(page.iter().map(|order| order.id).collect::<Vec<_>>(), placed[..2]);
    let after = Some((page[1].created_at, page[1].id));
    let page = list_orders(&shop, &mut db, mine, after, 2).await.expect("read");
    assert_eq!(page.iter().map(|order| order.id).collect::<Vec<_>>(), placed[2..]);
    let theirs = Some(other.customer_id);
    assert!(list_orders(&shop, &mut db, of(theirs), None, 9).await.expect("read").is_empty());
    assert!(get_order(&shop, &mut db, placed[0], theirs).await.expect("read").is_none());
    let count = async |db: &mut sqlx::PgConnection, filter| {
        list_orders(&shop, db, filter, None, 9).await.expect("read").len()
    };
    assert_eq!(count(&mut db, of(None)).await, 3);
    let pending = OrderFilter { status: Some("pending"), ..mine };
    assert_eq!(count(&mut db, pending).await, 3);
    assert_eq!(count(&mut db, OrderFilter { status: Some("shipped"), ..mine }).await, 0);
    let newest = get_order(&shop, &mut db, placed[0], None).await.expect("read").expect("there");
    let before = OrderFilter { to: Some(newest.created_at), ..mine };
    assert_eq!(count(&mut db, before).await, 2, "the end is left out");
    assert_eq!(count(&mut db, OrderFilter { from: Some(newest.created_at), ..mine }).await, 1);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn no_personal_data_of_an_order_is_kept_in_plain() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    run(&mut db, "update shop.shipping_address set street = '7 Canary Row'").await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
        .await
        .expect("done");
    let command =
        CancelOrder { reason: "Canary died".into(), ..cancelling(placing.order_id, &buyer) };
    cancel::begin(&mut ctx(&shop, &mut db), &command).await.expect("begun");
    let refund = Refunded {
        refund_id: "re_1".to_owned(),
        amount: placing.total_amount,
        key: "instance-1".to_owned(),
        captured: false,
        row: None,
        taken: None,
    };
    refund::complete(&mut ctx(&shop, &mut db), placing.order_id, &refund).await.expect("told");
    let found: i64 = sqlx::query_scalar(
        r#"-- test: canaries
        select (select count(*) from shop."order" o where o::text ilike '%canary%')
             + (select count(*) from shop.domain_event e where e::text ilike '%canary%')
             + (select count(*) from saga.outbox m where m::text ilike '%canary%')"#,
    )
    .fetch_one(&mut *db)
    .await
    .expect("read");
    assert_eq!(found, 0);
    let order = view(&shop, &mut db, placing.order_id).await;
    assert_eq!(order.shipping_address.map(|a| a.street).as_deref(), Some("7 Canary Row"));
    drop(db);
    database.close().await;
}
