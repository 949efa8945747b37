//! A stock that crosses its threshold is told to partners once, and a reservation by hand ends once, whatever crashes meanwhile.

use stepwise_engine::{
    Engine, Status,
    testing::{Trial, unwinds_from_every_step},
};
use stepwise_workflows::{
    inventory::{
        commands::{Item, adjust_inventory},
        reserve_inventory,
    },
    sagas::{
        reservation_expiry::ReservationExpiry,
        stock_alert::{self, StockAlert},
    },
    shop::{Actor, Cause, Context},
};
use uuid::Uuid;

use crate::{
    carts::put_on_sale,
    crashes::survives,
    trials::{Placements, of_the_shop, started, time_passes},
    unwinding::{PAST_ITS_PIVOT, unwinds},
};

/// Stocks that fall below their thresholds, one after the other.
struct Alerts(Placements);

impl Trial for Alerts {
    of_the_shop!(StockAlert);

    async fn start(&self, engine: &Engine, _: usize) -> Uuid {
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.expect("begin"));
        stock_alert::put_quota(engine, &mut tx).await.expect("a quota");
        let cause = Cause::of_request(Actor::System, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        // Five are on hand, as many as the threshold.
        let product_id = put_on_sale(&mut ctx).await;
        let item = Item { product_id, variant_id: None };
        adjust_inventory(&mut ctx, item, -1, "broken").await.expect("it crosses");
        let saga = started::<StockAlert>(&mut tx, product_id).await;
        tx.commit().await.expect("commit");
        saga
    }

    /// Partners are told once, with the numbers of the crossing, and the message has the first number of its product.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let told: Vec<(String, i64, i64, String)> = sqlx::query_as(
            "select m.kind, m.sequence, (m.data ->> 'currentStock')::bigint, m.data ->> 'productName'
             from saga.instance s join saga.outbox m on m.subject = s.subject
             where s.saga_id = $1",
        )
        .bind(id)
        .fetch_all(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        let low = "shop.inventory.low-stock.v1".to_owned();
        match &told[..] {
            [told] if *told == (low, 1, 4, "Thing".to_owned()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn an_alert_about_stock_has_no_way_back_and_may_be_repeated() {
    unwinds(&Alerts(Placements::paid_by("ok")), &PAST_ITS_PIVOT, &["Publish repeated"]);
}

#[test]
pub(crate) fn an_alert_about_stock_survives_a_crash_at_every_point() {
    survives(&Alerts(Placements::paid_by("ok")), Status::Completed, 4);
}

/// Reservations by hand, which nobody releases.
struct Reservations(Placements);

impl Trial for Reservations {
    of_the_shop!(ReservationExpiry);

    async fn start(&self, engine: &Engine, _: usize) -> Uuid {
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.expect("begin"));
        let order = Uuid::now_v7();
        sqlx::query(
            r#"insert into shop."order" (order_id, order_number, customer_id, cart_id, payment_id,
                status, item_count, subtotal, shipping_cost, tax, total_amount, currency,
                shipping_address, created_at, updated_at)
            values ($1, $1::text, $1, $1, $1, 'pending', 1, 1, 0, 0, 1, 'USD', '', saga.now(), saga.now())"#,
        )
        .bind(order)
        .execute(&mut *tx)
        .await
        .expect("an order");
        let cause = Cause::of_request(Actor::System, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let product_id = put_on_sale(&mut ctx).await;
        let item = Item { product_id, variant_id: None };
        // None of them alone makes the stock low.
        adjust_inventory(&mut ctx, item, 20, "found").await.expect("adjusted");
        reserve_inventory(&mut ctx, item, 3, order).await.expect("reserved");
        let saga = started::<ReservationExpiry>(&mut tx, order).await;
        tx.commit().await.expect("commit");
        saga
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        time_passes(engine, id, self.0.shop().config.reservation_lifetime).await;
    }

    /// The stock is free again, and its story says once why. Of a reservation whose saga was called off it is still held.
    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let (reserved, held, released): (i32, i64, i64) = sqlx::query_as(
            "select i.reserved,
                    (select count(*) from shop.reservation r where r.order_id::text = s.subject),
                    (select count(*) from shop.domain_event e
                     where e.aggregate_id = i.inventory_id and e.name = 'InventoryReleased'
                       and e.payload ->> 'reason' = 'reservation_expired')
             from saga.instance s
             join shop.inventory_audit a on a.order_id::text = s.subject and a.change = 'reserved'
             join shop.inventory i using (inventory_id)
             where s.saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        match (status, reserved, held, released) {
            (Status::Completed, 0, 0, 1) | (Status::Unwound, 3, 1, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn a_reservation_expiry_has_nothing_to_take_back_and_may_be_repeated() {
    let unwound = unwinds_from_every_step(&Reservations(Placements::paid_by("ok")));
    assert_eq!(unwound.repeated, ["Release repeated"]);
}

#[test]
pub(crate) fn a_reservation_expiry_survives_a_crash_at_every_point() {
    survives(&Reservations(Placements::paid_by("ok")), Status::Completed, 4);
}
