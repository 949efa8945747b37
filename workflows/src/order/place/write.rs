//! The rows that placing orders writes: order, lines, payment and cart.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    Asked, PlaceOrder, PlaceOrderRefusal, Placing,
    lock::{Checkout, Line, too_large},
};
use crate::{
    events::Sealed,
    order::{
        number,
        pricing::{self, Totals},
    },
    privacy::KeyStoreError,
    shop::{Context, Shop, column::column},
};

/// An order that is ready to be written.
pub(super) struct Draft<'a> {
    pub(super) placing: Placing,
    command: &'a PlaceOrder,
    pub(super) checkout: Checkout,
    /// As they lie in the cart.
    pub(super) lines: Vec<Line>,
    totals: Totals,
    address: Sealed,
    transaction_id: Uuid,
}

impl<'a> Draft<'a> {
    /// Adds the order up, and seals its address with the customer's key.
    pub(super) async fn of(
        shop: &Shop,
        Asked { command, .. }: &'a Asked,
        checkout: Checkout,
        lines: Vec<Line>,
    ) -> Result<Self, PlaceOrderRefusal> {
        let customer_id = command.customer_id;
        let key = shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
        let address = Sealed::new(&key, customer_id, "shippingAddress", &checkout.address);
        let line_totals = lines.iter().map(|line| line.item.line_total);
        let totals = pricing::totals(&shop.config, line_totals, &checkout.address.state)
            .ok_or_else(too_large)?;
        let placing = Placing {
            order_id: Uuid::now_v7(),
            cart_id: checkout.cart_id,
            payment_id: Uuid::now_v7(),
            payment_method_id: command.payment_method_id,
            total_amount: totals.total_amount,
        };
        let transaction_id = Uuid::now_v7();
        Ok(Self { placing, command, checkout, lines, totals, address, transaction_id })
    }
}

/// Writes orders, lines, payments and carts by one statement, again for those whose number is taken.
pub(super) async fn orders(ctx: &mut Context<'_>, drafts: &[Draft<'_>]) -> Result<(), sqlx::Error> {
    let mut left: Vec<&Draft<'_>> = drafts.iter().collect();
    while !left.is_empty() {
        let written = write(ctx, &left).await?;
        left.retain(|draft| !written.contains(&draft.placing.order_id));
    }
    Ok(())
}

/// Answers which orders were written.
async fn write<'d>(
    ctx: &mut Context<'_>,
    drafts: &[&'d Draft<'d>],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let now = ctx.now().await?;
    let written: Vec<Uuid> = sqlx::query_scalar(WRITE_ORDERS)
        .bind(column(drafts, |draft| draft.placing.order_id))
        .bind(column(drafts, |_| number::draw(now)))
        .bind(column(drafts, |draft| draft.command.customer_id))
        .bind(column(drafts, |draft| draft.placing.cart_id))
        .bind(column(drafts, |draft| draft.placing.payment_id))
        .bind(column(drafts, |draft| {
            draft.lines.iter().map(|line| line.item.quantity).sum::<i32>()
        }))
        .bind(column(drafts, |draft| draft.totals.subtotal.amount()))
        .bind(column(drafts, |draft| draft.totals.shipping_cost.amount()))
        .bind(column(drafts, |draft| draft.totals.tax.amount()))
        .bind(column(drafts, |draft| draft.totals.total_amount.amount()))
        .bind(column(drafts, |draft| draft.address.as_text()))
        .bind(column(drafts, |draft| draft.placing.payment_method_id))
        .bind(column(drafts, |draft| draft.checkout.method.as_str()))
        .bind(column(drafts, |draft| draft.transaction_id))
        .bind(each_line(drafts, |draft, _, _| draft.placing.order_id))
        .bind(each_line(drafts, |_, n, _| n))
        .bind(each_line(drafts, |_, _, line| line.item.product_id))
        .bind(each_line(drafts, |_, _, line| line.item.variant_id))
        .bind(each_line(drafts, |_, _, line| line.item.name.as_str()))
        .bind(each_line(drafts, |_, _, line| line.item.quantity))
        .bind(each_line(drafts, |_, _, line| line.item.unit_price.amount()))
        .bind(ctx.shop.config.currency.code())
        .bind(now)
        .fetch_all(&mut **ctx)
        .await?;
    Ok(written.into_iter().collect())
}

/// A column of all lines, each with its order and its number in it, from 1.
fn each_line<'d, T>(
    drafts: &[&'d Draft<'d>],
    column: impl Fn(&'d Draft<'d>, i32, &'d Line) -> T,
) -> Vec<T> {
    let mut lines = Vec::new();
    for draft in drafts {
        lines.extend((1..).zip(&draft.lines).map(|(n, line)| column(draft, n, line)));
    }
    lines
}

const WRITE_ORDERS: &str = r#"-- place: write the order
    with draft as materialized (
        select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[],
                $6::int[], $7::numeric[], $8::numeric[], $9::numeric[], $10::numeric[],
                $11::text[], $12::uuid[], $13::text[], $14::uuid[])
            as d (order_id, order_number, customer_id, cart_id, payment_id, item_count, subtotal,
                  shipping_cost, tax, total_amount, shipping_address, payment_method_id, method,
                  transaction_id)
    ), written as (
        insert into shop."order"
            (order_id, order_number, customer_id, cart_id, payment_id, status, item_count,
             subtotal, shipping_cost, tax, total_amount, currency, shipping_address,
             created_at, updated_at)
        select order_id, order_number, customer_id, cart_id, payment_id, 'placing', item_count,
               subtotal, shipping_cost, tax, total_amount, $22, shipping_address, $23, $23
        from draft
        on conflict on constraint an_order_number_is_unique do nothing
        returning order_id
    ), placed as materialized (
        select d.* from draft d join written using (order_id)
    ), lines as (
        insert into shop.order_line
            (order_id, line_no, product_id, variant_id, name, quantity, unit_price, line_total)
        select l.order_id, l.line_no, l.product_id, l.variant_id, l.name, l.quantity,
               l.unit_price, l.unit_price * l.quantity
        from placed
        join unnest($15::uuid[], $16::int[], $17::uuid[], $18::uuid[], $19::text[], $20::int[],
                    $21::numeric[])
            as l (order_id, line_no, product_id, variant_id, name, quantity, unit_price)
            using (order_id)
    ), paid as (
        insert into shop.payment
            (payment_id, order_id, customer_id, payment_method_id, method, state, amount,
             currency, created_at, updated_at)
        select payment_id, order_id, customer_id, payment_method_id, method, 'authorizing',
               total_amount, $22, $23, $23
        from placed
    ), asked as (
        insert into shop.payment_transaction
            (transaction_id, payment_id, kind, state, amount, currency, requested_at)
        select transaction_id, payment_id, 'authorize', 'requested', total_amount, $22, $23
        from placed
    )
    update shop.cart c
    set checkout_order_id = p.order_id, version = version + 1, last_activity_at = $23
    from placed p where c.cart_id = p.cart_id
    returning p.order_id"#;
