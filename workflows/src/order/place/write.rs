//! The rows that placing an order writes: order, lines, payment and cart.

use uuid::Uuid;

use super::{
    PlaceOrder, PlaceOrderRefusal, Placing,
    lock::{Checkout, Line, too_large},
};
use crate::{
    events::Sealed,
    order::{number, pricing},
    privacy::KeyStoreError,
    shop::Context,
};

/// Writes order, lines, payment and cart by one statement, again while the number drawn is taken.
pub(super) async fn order(
    ctx: &mut Context<'_>,
    command: &PlaceOrder,
    checkout: &Checkout,
    lines: &[Line],
) -> Result<Placing, PlaceOrderRefusal> {
    let customer_id = command.customer_id;
    let key = ctx.shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    let address = Sealed::new(&key, customer_id, "shippingAddress", &checkout.address);
    let mut by_cart: Vec<&Line> = lines.iter().collect();
    by_cart.sort_by_key(|line| line.index);
    let totals = pricing::totals(
        &ctx.shop.config,
        by_cart.iter().map(|line| line.item.line_total),
        &checkout.address.state,
    )
    .ok_or_else(too_large)?;
    let placing = Placing {
        order_id: Uuid::now_v7(),
        cart_id: checkout.cart_id,
        payment_id: Uuid::now_v7(),
        payment_method_id: command.payment_method_id,
        total_amount: totals.total_amount,
    };
    let mut is_written = false;
    while !is_written {
        let written = sqlx::query(WRITE_ORDER)
            .bind(placing.order_id)
            .bind(number::draw(checkout.now))
            .bind(customer_id)
            .bind(placing.cart_id)
            .bind(placing.payment_id)
            .bind(by_cart.iter().map(|line| line.item.quantity).sum::<i32>())
            .bind(totals.subtotal.amount())
            .bind(totals.shipping_cost.amount())
            .bind(totals.tax.amount())
            .bind(totals.total_amount.amount())
            .bind(ctx.shop.config.currency.code())
            .bind(address.as_text())
            .bind(by_cart.iter().map(|line| line.item.product_id).collect::<Vec<_>>())
            .bind(by_cart.iter().map(|line| line.item.variant_id).collect::<Vec<_>>())
            .bind(by_cart.iter().map(|line| line.item.name.as_str()).collect::<Vec<_>>())
            .bind(by_cart.iter().map(|line| line.item.quantity).collect::<Vec<_>>())
            .bind(by_cart.iter().map(|line| line.item.unit_price.amount()).collect::<Vec<_>>())
            .bind(command.payment_method_id)
            .bind(&checkout.method)
            .bind(Uuid::now_v7())
            .bind(checkout.now)
            .execute(&mut **ctx)
            .await?;
        is_written = written.rows_affected() == 1;
    }
    Ok(placing)
}

const WRITE_ORDER: &str = r#"-- place: write the order
    with placed as (
        insert into shop."order"
            (order_id, order_number, customer_id, cart_id, payment_id, status, item_count,
             subtotal, shipping_cost, tax, total_amount, currency, shipping_address,
             created_at, updated_at)
        values ($1, $2, $3, $4, $5, 'placing', $6, $7, $8, $9, $10, $11, $12,
                $21, $21)
        on conflict on constraint an_order_number_is_unique do nothing
        returning order_id, cart_id, payment_id, customer_id, total_amount, currency, created_at
    ), lines as (
        insert into shop.order_line
            (order_id, line_no, product_id, variant_id, name, quantity, unit_price, line_total)
        select o.order_id, l.line_no, l.product_id, l.variant_id, l.name, l.quantity,
               l.unit_price, l.unit_price * l.quantity
        from placed o,
             unnest($13::uuid[], $14::uuid[], $15::text[], $16::int[], $17::numeric[])
                 with ordinality
                 as l (product_id, variant_id, name, quantity, unit_price, line_no)
    ), paid as (
        insert into shop.payment
            (payment_id, order_id, customer_id, payment_method_id, method, state, amount,
             currency, created_at, updated_at)
        select payment_id, order_id, customer_id, $18, $19, 'authorizing', total_amount,
               currency, created_at, created_at
        from placed
    ), asked as (
        insert into shop.payment_transaction
            (transaction_id, payment_id, kind, state, amount, currency, requested_at)
        select $20, payment_id, 'authorize', 'requested', total_amount, currency, created_at
        from placed
    )
    update shop.cart c
    set checkout_order_id = o.order_id, version = version + 1, last_activity_at = o.created_at
    from placed o where c.cart_id = o.cart_id"#;
