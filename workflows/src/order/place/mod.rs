//! Placing orders: what is decided at once ([`begin`]), and what follows once they are paid for
//! ([`complete`]). Between them the saga authorizes the payment; [`super::release`] is the way back.
//!
//! Both take many orders at once, so that orders that come at the same time share their statements ([`begin_together`]). Each order has its own
//! cause, and is refused or placed for itself.

mod complete;
mod lock;
mod write;

use std::collections::HashMap;

use uuid::Uuid;

pub use complete::{Authorized, Completion, Paid, complete};
pub use lock::Locks;
use lock::{Checkout, Line};
use write::Draft;

use crate::{
    cart,
    customer::paypal,
    inventory::{self, Movement, MovementKind, Stock},
    money::Money,
    privacy::KeyStoreError,
    refusal::{Field, refusals},
    shop::{Cause, Context},
};

/// The command.
#[derive(Debug, Clone)]
pub struct PlaceOrder {
    /// The customer, who orders the contents of their cart.
    pub customer_id: Uuid,
    /// One of the customer's addresses.
    pub shipping_address_id: Uuid,
    /// One of the customer's payment methods.
    pub payment_method_id: Uuid,
    /// The cart's entity tag, if the customer says which cart and prices they have seen: prices
    /// that rose since an item was put in are then accepted, and any other cart is refused.
    pub accepted_cart: Option<String>,
}

/// A request for an order.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The actor, and why.
    pub cause: Cause,
    /// The order that is to be placed.
    pub command: PlaceOrder,
}

/// An order that is being placed: its stock is reserved, its payment is still to be authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    /// The order.
    pub order_id: Uuid,
    /// The cart it is made of, locked against changes.
    pub cart_id: Uuid,
    /// Its payment, `authorizing`.
    pub payment_id: Uuid,
    /// With which of the customer's methods it is paid.
    pub payment_method_id: Uuid,
    /// The amount to authorize.
    pub total_amount: Money,
}

refusals! {
    /// Why an order cannot be placed. Nothing is left behind once the transaction is rolled back.
    #[derive(Debug, thiserror::Error)]
    pub enum PlaceOrderRefusal {
        /// It is unknown or belongs to another customer, or the account is being erased.
        #[error(transparent)]
        NotFound(Missing),
        /// The customer has not verified their email address.
        #[error("the email address is not verified")]
        EmailNotVerified => Forbidden "email_not_verified",
        /// Nothing lies in the cart.
        #[error("the cart is empty")]
        CartEmpty => Conflict "cart_empty",
        /// Another order is being placed from this cart.
        #[error("an order is being placed from this cart")]
        CheckoutInProgress {
            /// That order.
            order_id: Uuid,
        } => Conflict "checkout_in_progress",
        /// Some lines cannot be had in the quantity asked for.
        #[error("{} items are not available in the quantity asked for", .0.len())]
        OutOfStock(Vec<ShortLine>) => Conflict "out_of_stock" with short_lines,
        /// Some prices rose since the items were put into the cart.
        #[error("{} prices have risen since the items were put into the cart", .0.len())]
        PriceChanged(Vec<RaisedPrice>) => Conflict "price_changed" with raised_prices,
        /// The cart is not the one that the customer has seen.
        #[error("The resource has changed since you read it; read it again and use the new ETag.")]
        CartChanged => Changed "precondition_failed",
        /// The approval at PayPal does not pay this order.
        #[error(transparent)]
        PayPal(#[from] paypal::NotUsable),
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

refusals! {
    /// The thing that does not exist or does not belong to the customer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum Missing {
        /// The customer.
        #[error("there is no such customer")]
        Customer => NotFound "customer_not_found",
        /// The shipping address.
        #[error("there is no such shipping address")]
        Address => NotFound "address_not_found",
        /// The payment method.
        #[error("there is no such payment method")]
        PaymentMethod => NotFound "payment_method_not_found",
    }
}

/// A line that cannot be had as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortLine {
    /// Its place in the cart, from 0.
    pub index: usize,
    /// The product.
    pub product_id: Uuid,
    /// Its variant, if it has some.
    pub variant_id: Option<Uuid>,
    /// How many the customer wants.
    pub asked: i32,
    /// How many can be had; 0 where the product is not sold any more.
    pub available: i32,
}

/// A line whose price rose since it was put into the cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedPrice {
    /// Its place in the cart, from 0.
    pub index: usize,
    /// The product.
    pub product_id: Uuid,
    /// Its variant, if it has some.
    pub variant_id: Option<Uuid>,
    /// The price when it was put in.
    pub old: Money,
    /// The price now.
    pub new: Money,
}

fn short_lines(lines: &[ShortLine]) -> Vec<Field> {
    let fields = lines.iter().map(|line| Field {
        pointer: format!("/items/{}", line.index).into(),
        detail: format!("asked {}, available {}", line.asked, line.available),
    });
    fields.collect()
}

fn raised_prices(prices: &[RaisedPrice]) -> Vec<Field> {
    let fields = prices.iter().map(|price| Field {
        pointer: format!("/items/{}", price.index).into(),
        detail: format!("was {}, is {}", price.old, price.new),
    });
    fields.collect()
}

/// Reserves stock and writes the order, `placing`, with its payment, `authorizing`; the cart refuses
/// changes from now on. 4 round trips whatever the number of lines (one more for each order number
/// that was taken, one in a thousand million): lock customer and cart; lock stock in the order of
/// (product, variant); write order, lines, payment and cart; write stock, reservations, audit and
/// events. 5 + 6 a line row operations. One round trip more for a method that pays once (`paypal::pay`).
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &PlaceOrder,
) -> Result<Placing, PlaceOrderRefusal> {
    let asked = [Asked { cause: ctx.cause.clone(), command: command.clone() }];
    let turn = begin_together(ctx, &asked, Locks::Wait).await?.pop().flatten();
    // No stock is ever deleted, so whoever waits for it gets it.
    turn.unwrap_or_else(|| Err(sqlx::Error::RowNotFound.into()))
}

/// The same for orders of different customers, by the same number of round trips. The answers are in the order of `asked`. `None`: the order must be
/// placed alone, by [`begin`]. Another transaction has locked one of its rows, and `locks` says not to wait for it; or it is paid by an approval at PayPal, which is
/// locked last.
///
/// # Errors
/// The database's: the transaction is to be rolled back.
pub async fn begin_together(
    ctx: &mut Context<'_>,
    asked: &[Asked],
    locks: Locks,
) -> Result<Vec<Turn<Placing>>, sqlx::Error> {
    let carts = lock_carts(ctx, asked, locks).await?;
    let mut begun = Begun::default();
    let mut turns = Vec::with_capacity(asked.len());
    for (asked, cart) in asked.iter().zip(carts) {
        turns.push(match cart {
            Some(Ok((checkout, lines))) => Some(begun.add(ctx, asked, checkout, lines).await),
            Some(Err(refusal)) => Some(Err(refusal)),
            None => None,
        });
    }
    begun.write(ctx).await?;
    Ok(turns)
}

/// The answer to an order that is asked for together with others. `None`: it must be placed alone.
pub type Turn<T> = Option<Result<T, PlaceOrderRefusal>>;

/// Locks customers, carts and stocks. 2 round trips.
async fn lock_carts(
    ctx: &mut Context<'_>,
    asked: &[Asked],
    locks: Locks,
) -> Result<Vec<Turn<(Checkout, Vec<Line>)>>, sqlx::Error> {
    let mut customers = lock::customers(ctx, asked, locks).await?;
    if let Some(one) = customers.values().next() {
        ctx.learn_now(one.now);
    }
    let checkouts: Vec<Turn<Checkout>> = asked
        .iter()
        .map(|asked| match customers.remove(&asked.command.customer_id) {
            Some(customer) => customer.checkout(locks),
            None if locks != Locks::Wait => None,
            None => Some(Err(PlaceOrderRefusal::NotFound(Missing::Customer))),
        })
        .collect();
    let carts: Vec<Uuid> = checkouts.iter().flatten().flatten().map(|it| it.cart_id).collect();
    if carts.is_empty() {
        let without = |turn: Turn<Checkout>| Some(Err(turn?.err()?));
        return Ok(checkouts.into_iter().map(without).collect());
    }
    let mut lines = lock::lines(ctx.shop, ctx, carts, locks).await?;
    let mut with_lines = |turn: Turn<Checkout>| match turn? {
        Err(refusal) => Some(Err(refusal)),
        Ok(checkout) => match lines.remove(&checkout.cart_id) {
            Some(lines) => Some(lines?.map(|lines| (checkout, lines)).map_err(Into::into)),
            None => Some(Err(PlaceOrderRefusal::CartEmpty)),
        },
    };
    Ok(checkouts.into_iter().map(&mut with_lines).collect())
}

/// Orders that are ready to be written, with what they reserve.
#[derive(Default)]
struct Begun<'a> {
    drafts: Vec<Draft<'a>>,
    movements: Vec<(&'a Cause, Movement)>,
    /// The stocks that are reserved from, as the orders before leave them.
    stocks: HashMap<Uuid, Stock>,
}

impl<'a> Begun<'a> {
    /// Decides on an order, and reserves its stock. 1 round trip for a method that pays once.
    async fn add(
        &mut self,
        ctx: &mut Context<'_>,
        asked: &'a Asked,
        checkout: Checkout,
        mut lines: Vec<Line>,
    ) -> Result<Placing, PlaceOrderRefusal> {
        let Asked { cause, command } = asked;
        for line in &mut lines {
            if let Some(left) = self.stocks.get(&line.stock.inventory_id) {
                line.stock = left.clone();
            }
        }
        refuse_short_lines(&lines)?;
        if !is_accepted(command, &checkout, &lines) {
            // Raised prices are a more precise refusal than a changed cart.
            refuse_raised_prices(&lines)?;
            if command.accepted_cart.is_some() {
                return Err(PlaceOrderRefusal::CartChanged);
            }
        }
        let draft = Draft::of(ctx.shop, asked, checkout, lines).await?;
        let placing = draft.placing;
        if draft.checkout.method == paypal::KIND {
            let Placing { payment_method_id, order_id, total_amount, .. } = placing;
            paypal::pay(ctx, payment_method_id, order_id, total_amount).await?;
        }
        for line in &draft.lines {
            let movement = Movement {
                before: line.stock.clone(),
                kind: MovementKind::ReserveForPlacement(line.item.quantity),
                actor: cause.actor.id(),
                reason: "order placed".to_owned(),
                order_id: Some(placing.order_id),
            };
            self.stocks.insert(line.stock.inventory_id, movement.leaves(draft.checkout.now));
            self.movements.push((cause, movement));
        }
        self.drafts.push(draft);
        Ok(placing)
    }

    /// Writes all, if there is any. 2 round trips.
    async fn write(self, ctx: &mut Context<'_>) -> Result<(), sqlx::Error> {
        if self.drafts.is_empty() {
            return Ok(());
        }
        write::orders(ctx, &self.drafts).await?;
        let movements: Vec<_> =
            self.movements.iter().map(|(cause, movement)| (*cause, movement)).collect();
        inventory::write_and_record_each(ctx, &movements).await?;
        Ok(())
    }
}

fn refuse_short_lines(lines: &[Line]) -> Result<(), PlaceOrderRefusal> {
    let mut short: Vec<ShortLine> = lines
        .iter()
        .map(|line| ShortLine {
            index: line.index,
            product_id: line.item.product_id,
            variant_id: line.item.variant_id,
            asked: line.item.quantity,
            available: if line.is_sold { line.stock.available() } else { 0 },
        })
        .filter(|line| line.asked > line.available)
        .collect();
    short.sort_by_key(|line| line.index);
    if short.is_empty() { Ok(()) } else { Err(PlaceOrderRefusal::OutOfStock(short)) }
}

/// Whether the customer has seen exactly this cart at exactly these prices.
fn is_accepted(command: &PlaceOrder, checkout: &Checkout, lines: &[Line]) -> bool {
    let seen = cart::entity_tag(
        checkout.cart_id,
        checkout.cart_version,
        lines.iter().map(|line| (line.cart_item_id, line.item.unit_price)),
    );
    command.accepted_cart.as_deref() == Some(seen.as_str())
}

fn refuse_raised_prices(lines: &[Line]) -> Result<(), PlaceOrderRefusal> {
    let mut raised: Vec<RaisedPrice> = lines
        .iter()
        .filter(|line| line.item.unit_price.amount() > line.price_when_added.amount())
        .map(|line| RaisedPrice {
            index: line.index,
            product_id: line.item.product_id,
            variant_id: line.item.variant_id,
            old: line.price_when_added,
            new: line.item.unit_price,
        })
        .collect();
    raised.sort_by_key(|line| line.index);
    if raised.is_empty() { Ok(()) } else { Err(PlaceOrderRefusal::PriceChanged(raised)) }
}
