//! A product that is taken off sale leaves all carts, whatever crashes meanwhile.

use std::time::Duration;

use stepwise_engine::{
    Engine, EngineBuilder, Status,
    testing::{Trial, unwinds_from_every_step},
};
use stepwise_workflows::{
    cart::{AddItem, add_item},
    category::create_category,
    inventory::commands::{Item, set_inventory_quantity},
    money::{Currency, Money},
    product::{CreateProduct, activate_product, create_product, deactivate_product},
    sagas::{
        cart_expiry::{CartExpiry, create_guest_cart},
        remove_product_from_carts::RemoveProductFromCarts,
    },
    shop::{Actor, Cause, Context},
};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, of_the_shop, started, time_passes},
    unwinding::{PAST_ITS_PIVOT, unwinds},
};

/// The carts that have the product: more than one batch.
const CARTS: i64 = 55;

/// Removals of one product after the other.
struct Removals(Placements);

/// Puts a product on sale, of which five are on hand.
pub(crate) async fn put_on_sale(ctx: &mut Context<'_>) -> Uuid {
    let name = format!("Category {}", Uuid::now_v7());
    let category_id = create_category(ctx, &name, None).await.expect("a category").category_id;
    let command = CreateProduct {
        name: "Thing".to_owned(),
        description: String::new(),
        price: Money::from_minor(10_00, Currency::USD).expect("an amount"),
        category_id,
    };
    let product_id = create_product(ctx, command).await.expect("a product").product_id;
    activate_product(ctx, product_id).await.expect("a draft");
    let item = Item { product_id, variant_id: None };
    set_inventory_quantity(ctx, item, 5, "delivered").await.expect("on hand");
    product_id
}

impl Trial for Removals {
    of_the_shop!(RemoveProductFromCarts);

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.0.beside(builder)
    }

    async fn start(&self, engine: &Engine, _: usize) -> Uuid {
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.expect("begin"));
        let cause = Cause::of_request(Actor::System, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let product_id = put_on_sale(&mut ctx).await;
        for _ in 0..CARTS {
            let customer_id = create_guest_cart(&mut ctx).await.expect("a guest").customer_id;
            let item = AddItem { customer_id, product_id, variant_id: None, quantity: 1 };
            add_item(&mut ctx, &item).await.expect("in the cart");
        }
        deactivate_product(&mut ctx, product_id).await.expect("it was on sale");
        let saga = started::<RemoveProductFromCarts>(&mut tx, product_id).await;
        tx.commit().await.expect("commit");
        saga
    }

    /// Time passes to each of the two looks.
    async fn play(&self, engine: &Engine, id: Uuid) {
        time_passes(engine, id, Duration::from_secs(60)).await;
    }

    /// No cart has the product any more, and the story of each cart says so once.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let (there, shown, told, counted): (i64, i64, i64, i64) = sqlx::query_as(
            "select count(*) filter (where i.removed_at is null),
                    count(*) filter (where i.is_withdrawn),
                    sum((select count(*) from shop.domain_event e where e.aggregate_id = c.cart_id
                         and e.name = 'ItemRemovedFromCart'))::bigint,
                    sum(c.event_count)::bigint
             from saga.instance s
             join shop.cart_item i on i.product_id::text = s.subject
             join shop.cart c using (cart_id)
             where s.saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        match (there, shown, told, counted) {
            (0, CARTS, CARTS, counted) if counted == 2 * CARTS => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

/// Carts of guests who have left.
struct Expiries(Placements);

impl Trial for Expiries {
    of_the_shop!(CartExpiry);

    async fn start(&self, engine: &Engine, _: usize) -> Uuid {
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.expect("begin"));
        let cause = Cause::of_request(Actor::System, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let product_id = put_on_sale(&mut ctx).await;
        let guest = create_guest_cart(&mut ctx).await.expect("a guest");
        let item =
            AddItem { customer_id: guest.customer_id, product_id, variant_id: None, quantity: 1 };
        add_item(&mut ctx, &item).await.expect("in the cart");
        let saga = started::<CartExpiry>(&mut tx, guest.cart_id).await;
        tx.commit().await.expect("commit");
        saga
    }

    /// Nobody comes back.
    async fn play(&self, engine: &Engine, id: Uuid) {
        time_passes(engine, id, self.0.shop().config.guest_cart_lifetime).await;
    }

    /// An expired cart is gone, and its story says once that it has expired. One whose saga was called off stays, and waits to be taken up again.
    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let (there, unwatched, items, expired): (i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from shop.cart c where c.cart_id::text = s.subject),
                    (select count(*) from shop.cart c where c.cart_id::text = s.subject and not is_watched),
                    (select count(*) from shop.cart_item i where i.cart_id::text = s.subject),
                    (select count(*) from shop.domain_event e
                     where e.aggregate_id::text = s.subject and e.name = 'CartExpired')
             from saga.instance s where s.saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        match (status, there, unwatched, items, expired) {
            (Status::Completed, 0, 0, 0, 1) | (Status::Unwound, 1, 1, 1, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn a_cart_whose_expiry_is_called_off_is_not_watched_any_more() {
    let unwound = unwinds_from_every_step(&Expiries(Placements::paid_by("ok")));
    assert_eq!(unwound.repeated, ["Look repeated", "unmark repeated, an undo"]);
}

#[test]
pub(crate) fn a_cart_expiry_survives_a_crash_at_every_point() {
    survives(&Expiries(Placements::paid_by("ok")), Status::Completed, 4);
}

#[test]
pub(crate) fn a_removal_from_carts_has_no_way_back_and_may_be_repeated() {
    unwinds(&Removals(Placements::paid_by("ok")), &PAST_ITS_PIVOT, &["Remove repeated"]);
}

#[test]
pub(crate) fn a_removal_from_carts_survives_a_crash_at_every_point() {
    survives(&Removals(Placements::paid_by("ok")), Status::Completed, 4);
}
