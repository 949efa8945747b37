//! Orders: customers place, read and cancel them; admins confirm, ship and deliver them.

use chrono::{DateTime, Datelike as _, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::{
    customer::paypal::NotUsable,
    order::{
        self, ConfirmOrderRefusal, DeliverOrderRefusal, Happened, OrderFilter, OrderView,
        ReadOrderError, UnknownOrder, cancel, place, ship,
    },
    sagas::{
        cancel_order::{self, CancelOrderError, cancel_order},
        paypal_approval::webhook::ask_again,
        place_order::{self, PlaceOrderError},
        ship_order::{self, ShipOrderError, ship_order},
    },
    shop::Context,
};
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    operations::{self, Begun, OperationShape},
    order_shape::OrderShape,
    placements::Placements,
    words::mirrors,
};
use crate::door::{
    Ask, Door,
    caller::{AdminOnly, By, Caller, CustomerOrAdmin},
    idempotency::{OptionalKey, RequiredKey},
    json::Body,
    matching::{IfMatch, Stale},
    page::{self, Page},
    prefer::Prefer,
    problem::Problem,
    refuses::Refuses,
    reply::Done,
};

/// The operations about orders.
#[derive(Default)]
pub struct Orders {
    placements: Placements,
}

/// A request to order the content of the cart, with a shipping address and a payment method.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct PlaceOrder {
    customer_id: Uuid,
    shipping_address_id: Uuid,
    payment_method_id: Uuid,
}

/// A request to cancel an order.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CancelOrder {
    /// The reason in the caller's words.
    reason: String,
}

/// A request to ship an order.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ShipOrder {
    /// The carrier's number of the parcel, at most 100 characters.
    tracking_number: String,
    /// The carrier, at most 100 characters.
    carrier: String,
}

/// The history of an order.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OrderTimeline {
    /// Oldest first.
    items: Vec<TimelineItem>,
}

answer! {
    /// Something that has happened to an order or to its payment.
    #[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
    struct TimelineItem from happened: Happened {
        at: DateTime<Utc>,
        /// `OrderPlaced`, `OrderConfirmed`, `OrderShipped`, `OrderDelivered`, `OrderCancelled`, `PaymentAuthorized` or `PaymentRefunded`.
        event: String,
        /// The kind of actor: `customer`, `admin`, `service` or `system`.
        actor: Option<String>,
    }
}

#[OpenApi(prefix_path = "/v1/orders", tag = "Group::Orders")]
impl Orders {
    /// Place an order for the content of the cart. 7 round trips besides begin and commit: 2 for the key, 5 for the
    /// command and its saga. Orders that come at the same moment share them.
    #[oai(path = "/", method = "post", operation_id = "placeOrder")]
    async fn place(
        &self,
        by: By<CustomerOrAdmin>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "Prefer")] prefer: Prefer,
        #[oai(name = "If-Match")] cart: IfMatch,
        body: Body<PlaceOrder>,
    ) -> Result<Begun<201>, Refuses<(PlaceOrderError, place_order::Reason)>> {
        let PlaceOrder { customer_id, shipping_address_id, payment_method_id } = body.value;
        let customer_id = by.acts_for(customer_id)?;
        let accepted_cart = cart.0;
        let command = place::PlaceOrder {
            customer_id,
            shipping_address_id,
            payment_method_id,
            accepted_cart,
        };
        let ask = Ask::new("placeOrder", &by, &key).with(&body);
        let door = &by.door;
        let begun = match self.placements.place(door, &by, ask, command).await {
            Ok(accepted) => operations::wait(door, &by, accepted, prefer.0).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = &begun
            && problem.code() == NotUsable::NOT_APPROVED
        {
            // The refusal stands, whether PayPal will be asked or not.
            if let Err(why) = ask_paypal(door, payment_method_id).await {
                tracing::warn!(code = why.code(), "PayPal is not asked about an approval");
            }
        }
        Ok(begun?)
    }

    /// Cancel an order before it is shipped. The customer gets the money back.
    #[oai(path = "/:orderId/cancel", method = "post", operation_id = "cancelOrder")]
    async fn cancel(
        &self,
        by: By<CustomerOrAdmin>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "Prefer")] prefer: Prefer,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
        body: Body<CancelOrder>,
    ) -> Result<Begun<200>, Refuses<((CancelOrderError, Stale), cancel_order::Reason)>> {
        let command = cancel::CancelOrder {
            order_id: order_id.0,
            reason: body.value.reason.clone(),
            customer_id: by.own_customer(),
        };
        let ask = Ask::new("cancelOrder", &by, &key).with(&body);
        let begun = operations::begin(&by.door, &by, ask, prefer.0, async |ctx| {
            seen.check(order::lock_version(ctx, order_id.0, by.own_customer())).await?;
            let operation_id = cancel_order(ctx, &command).await?;
            Ok(OperationShape::begun::<cancel_order::CancelOrder>(operation_id, order_id.0))
        });
        Ok(begun.await?)
    }

    /// Confirm a pending order: it is taken on for fulfilment. 6 round trips besides begin and commit with a key.
    #[oai(path = "/:orderId/confirm", method = "post", operation_id = "confirmOrder")]
    async fn confirm(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
    ) -> Result<Done<OrderShape>, Refuses<((ConfirmOrderRefusal, Stale), ReadOrderError)>> {
        by.door
            .command(Ask::new("confirmOrder", &by, &key), async |ctx| {
                seen.check(order::lock_version(ctx, order_id.0, by.own_customer())).await?;
                order::confirm_order(ctx, order_id.0).await?;
                changed(ctx, &by, order_id.0).await
            })
            .await
    }

    /// Ship a confirmed order: the money is taken, the stock deducted, and partners are told. Meanwhile the order cannot be cancelled. If the
    /// money cannot be taken, the order stays confirmed. 5 round trips besides begin and commit with a key.
    #[oai(path = "/:orderId/ship", method = "post", operation_id = "shipOrder")]
    async fn ship(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "Prefer")] prefer: Prefer,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
        body: Body<ShipOrder>,
    ) -> Result<Begun<200>, Refuses<((ShipOrderError, Stale), ship_order::Reason)>> {
        let command = ship::ShipOrder {
            order_id: order_id.0,
            tracking_number: body.value.tracking_number.clone(),
            carrier: body.value.carrier.clone(),
        };
        let ask = Ask::new("shipOrder", &by, &key).with(&body);
        let begun = operations::begin(&by.door, &by, ask, prefer.0, async |ctx| {
            seen.check(order::lock_version(ctx, order_id.0, by.own_customer())).await?;
            let operation_id = ship_order(ctx, &command).await?;
            Ok(OperationShape::begun::<ship_order::ShipOrder>(operation_id, order_id.0))
        });
        Ok(begun.await?)
    }

    /// Note that a shipped order has been delivered. 6 round trips besides begin and commit with a key.
    #[oai(path = "/:orderId/deliver", method = "post", operation_id = "deliverOrder")]
    async fn deliver(
        &self,
        by: By<AdminOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
    ) -> Result<Done<OrderShape>, Refuses<((DeliverOrderRefusal, Stale), ReadOrderError)>> {
        by.door
            .command(Ask::new("deliverOrder", &by, &key), async |ctx| {
                seen.check(order::lock_version(ctx, order_id.0, by.own_customer())).await?;
                order::deliver_order(ctx, order_id.0).await?;
                changed(ctx, &by, order_id.0).await
            })
            .await
    }

    /// Get an order.
    #[oai(path = "/:orderId", method = "get", operation_id = "getOrder")]
    async fn get(
        &self,
        by: By<CustomerOrAdmin>,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
    ) -> Result<Done<OrderShape>, Refuses<(UnknownOrder, ReadOrderError)>> {
        let mut db = by.door.db.acquire().await?;
        let order = order::get_order(&by.door.shop, &mut db, order_id.0, by.own_customer()).await?;
        let order = order.ok_or(UnknownOrder::NotFound)?;
        let version = order.version;
        Ok(Done::to(&by, &OrderShape::from(order)).tagged(version))
    }

    /// Get everything that has happened to an order and to its payment, oldest first. An order that is being placed has no history yet.
    #[oai(path = "/:orderId/timeline", method = "get", operation_id = "getOrderTimeline")]
    async fn timeline(
        &self,
        by: By<CustomerOrAdmin>,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
    ) -> Result<Done<OrderTimeline>, Refuses<UnknownOrder>> {
        let mut db = by.door.db.acquire().await?;
        let happened = order::get_order_timeline(&mut db, order_id.0, by.own_customer()).await?;
        let items = happened.ok_or(UnknownOrder::NotFound)?.into_iter().map(Into::into).collect();
        Ok(Done::new(&OrderTimeline { items }))
    }

    /// List orders, newest first. A customer gets their own orders, an admin gets all.
    #[oai(path = "/", method = "get", operation_id = "listOrders")]
    async fn list(
        &self,
        by: By<CustomerOrAdmin>,
        status: Query<Option<OrderStatus>>,
        /// Orders begun at this time or later, RFC 3339.
        from: Query<Option<DateTime<Utc>>>,
        /// Orders begun before this time, RFC 3339.
        to: Query<Option<DateTime<Utc>>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<OrderShape>>, Refuses<ReadOrderError>> {
        let limit = page::limit(limit.0)?;
        let filter = OrderFilter {
            customer_id: by.own_customer(),
            status: status.0.map(|status| order::OrderStatus::from(status).as_str()),
            from: from.0.map(storable).transpose()?,
            to: to.0.map(storable).transpose()?,
        };
        let list = format!("orders/{filter:?}");
        let after = by.door.cursors.open(&list, cursor.0.as_deref())?;
        let _turn = by.door.turn_to_read().await?;
        let mut db = by.door.db.acquire().await?;
        let count = page::fetch_count(limit);
        let rows = order::list_orders(&by.door.shop, &mut db, filter, after, count).await?;
        let place = |row: &OrderView| (row.created_at, row.id);
        Ok(Done::to(&by, &by.door.cursors.page(&list, limit, rows, place, Into::into)))
    }
}

mirrors! {
    /// The status of an order.
    #[oai(rename_all = "lowercase")]
    enum OrderStatus of order::OrderStatus { Placing, Pending, Confirmed, Shipped, Delivered, Cancelled, Failed }
}

/// A time that the database can compare with.
fn storable(time: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    let detail = "A time must lie between the years 1 and 9999.";
    let is_storable = (1..=9999).contains(&time.year());
    is_storable.then_some(time).ok_or_else(|| Problem::bad_request("invalid_parameter", detail))
}

/// Makes the saga of the method's approval ask PayPal, whose webhook may be late or lost.
async fn ask_paypal(door: &Door, payment_method_id: Uuid) -> Result<(), Problem> {
    let mut tx = door.begin().await?;
    let id = format!("order-refused-{}", Uuid::now_v7());
    ask_again(&door.engine, &mut tx, payment_method_id, &id).await?;
    Ok(tx.commit().await?)
}

/// An order after a command of an admin. 1 round trip.
async fn changed(
    ctx: &mut Context<'_>,
    by: &Caller,
    order_id: Uuid,
) -> Result<Done<OrderShape>, Problem> {
    let order = order::get_order(ctx.shop, ctx, order_id, None).await?;
    let order = order.ok_or(UnknownOrder::NotFound)?;
    let (customer_id, version) = (order.customer_id, order.version);
    Ok(Done::to(by, &OrderShape::from(order)).about(customer_id).tagged(version))
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::ParseFromParameter as _;

    use super::*;

    #[test]
    fn orders_can_be_listed_by_each_status() {
        for word in order::OrderStatus::WORDS {
            let Ok(shape) = OrderStatus::parse_from_parameter(word) else { panic!("{word}") };
            assert_eq!(order::OrderStatus::from(shape).as_str(), *word);
        }
    }
}
