use sqlx::PgConnection;

use super::{
    commands::{
        InventoryRefusal, Item, adjust_inventory, release_inventory, set_inventory_quantity,
    },
    *,
};
use crate::{
    product::add_product_variant,
    testing::{ctx_by, database, order, pass, product, shop, stock, story},
};

fn of(product_id: Uuid) -> Item {
    Item { product_id, variant_id: None }
}

async fn inventory_of(connection: &mut PgConnection, product: Uuid) -> Uuid {
    stock_of(connection, product).await.expect("read")[0].inventory_id
}

#[tokio::test]
async fn stock_is_set_and_adjusted_and_never_goes_below_what_is_reserved() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, user) = (product(&mut db, 1000, 0).await, Uuid::now_v7());
    let set = set_inventory_quantity(&mut ctx_by(&shop, &mut db, user), of(cup), 10, "delivered")
        .await
        .expect("set");
    assert_eq!((set.on_hand, set.reserved), (10, 0));
    let more = adjust_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 5, "found")
        .await
        .expect("adjusted");
    assert_eq!(more.on_hand, 15);
    let order = order(&mut db).await;
    reserve_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 8, order)
        .await
        .expect("reserved");

    let refused = set_inventory_quantity(&mut ctx_by(&shop, &mut db, user), of(cup), -1, "x").await;
    assert!(matches!(refused, Err(InventoryRefusal::NegativeQuantity)), "{refused:?}");
    let refused = set_inventory_quantity(&mut ctx_by(&shop, &mut db, user), of(cup), 7, "x").await;
    assert!(matches!(refused, Err(InventoryRefusal::BelowReserved { reserved: 8 })), "{refused:?}");
    let refused = adjust_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), i32::MAX, "x").await;
    assert!(matches!(refused, Err(InventoryRefusal::TooMuchStock { on_hand: 15 })), "{refused:?}");
    for delta in [-8, -16, i32::MIN] {
        let refused =
            adjust_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), delta, "x").await;
        assert!(matches!(refused, Err(InventoryRefusal::NegativeStock { .. })), "{refused:?}");
    }
    let refused =
        set_inventory_quantity(&mut ctx_by(&shop, &mut db, user), of(Uuid::now_v7()), 1, "x").await;
    assert!(matches!(refused, Err(InventoryRefusal::ProductNotFound)), "{refused:?}");
    let refused = adjust_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 1, "").await;
    assert!(matches!(refused, Err(InventoryRefusal::InvalidReason(_))), "{refused:?}");

    assert_eq!(stock(&mut db, cup).await, (15, 8, 8));
    let inventory = inventory_of(&mut db, cup).await;
    let events = story(&mut db, inventory).await;
    assert_eq!(events, ["InventoryQuantitySet", "InventoryAdjusted", "InventoryReserved"]);
    let audit = audit_of(&mut db, inventory, None, 10).await.expect("read");
    let changes: Vec<_> = audit
        .iter()
        .map(|row| (row.n, row.change.as_str(), row.on_hand_before, row.on_hand_after))
        .collect();
    assert_eq!(changes, [(3, "reserved", 15, 15), (2, "adjusted", 10, 15), (1, "set", 0, 10)]);
    assert!(audit.iter().all(|row| row.actor == user));
    assert_eq!(audit_of(&mut db, inventory, Some(3), 1).await.expect("read")[0].n, 2);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn only_what_was_reserved_by_hand_is_released_by_hand_oldest_first() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, user) = (product(&mut db, 1000, 10).await, Uuid::now_v7());
    let (first, second) = (order(&mut db).await, order(&mut db).await);
    for (order, quantity) in [(first, 2), (second, 3), (first, 1)] {
        reserve_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), quantity, order)
            .await
            .expect("reserved");
    }
    let refused = reserve_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 5, second).await;
    assert!(
        matches!(refused, Err(InventoryRefusal::InsufficientStock { available: 4 })),
        "{refused:?}"
    );
    let unknown = Uuid::now_v7();
    let refused = reserve_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 1, unknown).await;
    assert!(matches!(refused, Err(InventoryRefusal::OrderNotFound)), "{refused:?}");
    // What a placement holds is not for release by hand.
    let held = stock_of(&mut db, cup).await.expect("read").remove(0);
    let movement = Movement {
        before: held,
        kind: MovementKind::ReserveForPlacement(4),
        actor: user,
        reason: "order placed".to_owned(),
        order_id: Some(Uuid::now_v7()),
    };
    let mut placing = ctx_by(&shop, &mut db, user);
    let told = write(&mut placing, &[movement]).await.expect("written");
    placing.record(told).await.expect("recorded");
    assert_eq!(stock(&mut db, cup).await, (10, 10, 10));
    let refused = release_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 7, "expired").await;
    assert!(
        matches!(refused, Err(InventoryRefusal::QuantityExceedsReserved { reserved: 6 })),
        "{refused:?}"
    );
    assert_eq!(stock(&mut db, cup).await, (10, 10, 10), "a refusal changes nothing");

    release_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 4, "expired")
        .await
        .expect("released");
    assert_eq!(stock(&mut db, cup).await, (10, 6, 6));
    let left: Vec<(Uuid, i32)> =
        sqlx::query_as("select order_id, quantity from shop.reservation where source = 'manual'")
            .fetch_all(&mut *db)
            .await
            .expect("read");
    assert_eq!(left, [(second, 2)]);
    release_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), 2, "expired")
        .await
        .expect("released");
    assert_eq!(stock(&mut db, cup).await, (10, 4, 4));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn low_and_no_stock_are_told_once_for_each_crossing() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, user) = (product(&mut db, 1000, 10).await, Uuid::now_v7());
    for delta in [-5, -1, -1, -3, 6, -2] {
        adjust_inventory(&mut ctx_by(&shop, &mut db, user), of(cup), delta, "sold")
            .await
            .expect("adjusted");
    }
    let inventory = inventory_of(&mut db, cup).await;
    let alerts = crate::events::of_aggregate(&mut db, inventory).await.expect("read");
    let alerts: Vec<_> = alerts
        .iter()
        .filter(|event| event.name != "InventoryAdjusted")
        .map(|event| (event.name.as_str(), event.payload["currentStock"].as_i64()))
        .collect();
    // 10, 5 (not below 5), 4 low, 3, 0 out, 6, 4 low again.
    assert_eq!(
        alerts,
        [("LowStockAlert", Some(4)), ("OutOfStock", None), ("LowStockAlert", Some(4))]
    );
    story(&mut db, inventory).await;
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn the_database_itself_refuses_to_promise_more_than_there_is() {
    let database = database().await;
    let mut db = database.pool().acquire().await.expect("a connection");
    product(&mut db, 1000, 10).await;
    let refused = sqlx::query("update shop.inventory set reserved = 11").execute(&mut *db).await;
    let error = refused.expect_err("refused");
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("reserved_stock_is_on_hand"));
    drop(db);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reservation_that_expires_while_it_is_released_by_hand_is_released_once() {
    for round in 0..10 {
        let (database, shop) = (database().await, std::sync::Arc::new(shop()));
        let mut db = database.pool().acquire().await.expect("a connection");
        let cup = product(&mut db, 1000, 20).await;
        let order = order(&mut db).await;
        let reserved =
            reserve_inventory(&mut ctx_by(&shop, &mut db, Uuid::now_v7()), of(cup), 3, order)
                .await
                .expect("reserved");
        assert!(reserved.expires_at > chrono::Utc::now());
        let inventory = reserved.stock.inventory_id;
        let early = expire_reservation(&mut ctx_by(&shop, &mut db, order), order, inventory).await;
        assert!(early.expect("looked").is_some_and(|left| left.as_secs() > 86_000));
        pass(&mut db, 86_401.0).await;
        let (first, second) = (shop.clone(), shop.clone());
        let (one, two) = (database.pool().clone(), database.pool().clone());
        let expiring = tokio::spawn(async move {
            let mut tx = one.begin().await.expect("begin");
            let mut ctx = ctx_by(&first, &mut tx, Uuid::now_v7());
            let left = expire_reservation(&mut ctx, order, inventory).await.expect("looked");
            tx.commit().await.expect("commit");
            left
        });
        let releasing = tokio::spawn(async move {
            let mut tx = two.begin().await.expect("begin");
            let mut ctx = ctx_by(&second, &mut tx, Uuid::now_v7());
            let released = release_inventory(&mut ctx, of(cup), 3, "not needed").await;
            if released.is_ok() {
                tx.commit().await.expect("commit");
            }
            released
        });
        assert_eq!(expiring.await.expect("no panic"), None);
        let released = releasing.await.expect("no panic");
        assert!(
            matches!(
                released,
                Ok(_) | Err(InventoryRefusal::QuantityExceedsReserved { reserved: 0 })
            ),
            "{released:?}"
        );
        assert_eq!(stock(&mut db, cup).await, (20, 0, 0), "round {round}");
        assert_eq!(story(&mut db, inventory).await, ["InventoryReserved", "InventoryReleased"]);
        drop(db);
        database.close().await;
    }
}

/// A quantity that is set without a variant, beside the first variant, would lie where no order finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quantity_that_is_set_while_a_first_variant_is_added_needs_the_variant() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 0).await;
    let mut adding = database.pool().begin().await.expect("begin");
    add_product_variant(&mut ctx_by(&shop, &mut adding, cup), cup, "blue", None)
        .await
        .expect("added");
    let (setter, pool) = (shop.clone(), database.pool().clone());
    let setting = tokio::spawn(async move {
        let mut tx = pool.begin().await.expect("begin");
        let mut ctx = ctx_by(&setter, &mut tx, cup);
        let set = set_inventory_quantity(&mut ctx, of(cup), 3, "found").await;
        tx.commit().await.expect("commit");
        set
    });
    let is_waiting = "select exists (select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(is_waiting).fetch_one(&mut *db).await.expect("read") {
        tokio::task::yield_now().await;
    }
    adding.commit().await.expect("commit");
    let set = setting.await.expect("no panic");
    assert!(matches!(set, Err(InventoryRefusal::VariantRequired)), "{set:?}");
    assert_eq!(stock(&mut db, cup).await, (0, 0, 0));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn the_stock_in_use_is_that_of_the_variants_once_there_are_some() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 0).await;
    let variants = async |db: &mut PgConnection| {
        let stocks = stock_in_use(db, cup).await.expect("read");
        stocks.iter().map(|stock| stock.variant_id).collect::<Vec<_>>()
    };
    assert_eq!(variants(&mut db).await, [None]);
    let view = add_product_variant(&mut ctx_by(&shop, &mut db, cup), cup, "blue", None).await;
    let blue = view.expect("added").variants[0].variant_id;
    assert_eq!(variants(&mut db).await, [Some(blue)]);
    assert!(stock_in_use(&mut db, Uuid::now_v7()).await.expect("read").is_empty());
    assert_eq!(stock_of(&mut db, cup).await.expect("read").len(), 2, "its audit can be read");
    drop(db);
    database.close().await;
}
