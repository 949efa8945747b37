//! Carts of customers and guests.

use chrono::{DateTime, Utc};
use poem_openapi::{Object, OpenApi, param::Path};
use stepwise_workflows::{
    cart::{
        self, AddItem, AddItemRefusal, CartItemView, CartView, ChangeCartRefusal, ItemOf,
        MergeRefusal, MergedCart, RemovedItemView,
    },
    customer::UnknownCustomer,
    sagas::cart_expiry::create_guest_cart,
    shop::Actor,
};
use uuid::Uuid;

use super::{Group, answer::answer, shapes::MoneyShape};
use crate::door::{
    Ask,
    caller::{Anyone, By, CustomerOnly, CustomerOrGuest},
    idempotency::OptionalKey,
    json::Body,
    matching::{IfMatch, Stale},
    problem::Problem,
    refuses::Refuses,
    reply::{Created, Done},
};

/// The operations about carts.
pub struct Carts;

/// An item to add to the cart.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AddItemToCart {
    product_id: Uuid,
    /// Required if the product has variants.
    #[oai(nullable)]
    variant_id: Option<Uuid>,
    /// 1 or more. Reduced to the available quantity.
    quantity: i32,
}

/// The new quantity of an item.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateCartItemQuantity {
    /// 0 removes the item.
    quantity: i32,
}

/// The guest cart to merge into the customer's cart.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct MergeGuestCart {
    guest_cart_id: Uuid,
    /// The token that createGuestCart answered for this cart. Without it the cart is not found: an id alone gives nobody a cart.
    #[oai(nullable)]
    guest_token: Option<String>,
}

answer! {
    /// A cart with its totals. Tax is added when the order is placed, because it depends on the address.
    #[oai(rename = "Cart", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct CartShape from cart: CartView {
        id: Uuid = cart.cart_id,
        customer_id: Uuid,
        items: Vec<ItemShape>,
        /// Removed items that can still be restored, and those whose product is not sold any more.
        removed_items: Vec<RemovedShape>,
        /// The sum of the quantities.
        item_count: i32,
        /// The sum of the lines' amounts.
        subtotal: MoneyShape,
        shipping_cost: MoneyShape,
        /// The order that is being placed from this cart. Until that has ended, the cart refuses changes.
        checkout_order_id: Option<Uuid>,
        /// Whether fewer were put in than asked for, because no more are available or the cart takes no more.
        capped: Option<bool> = None,
    }
}

answer! {
    /// One line of a cart.
    #[oai(rename = "CartItem", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct ItemShape from item: CartItemView {
        id: Uuid = item.cart_item_id,
        product_id: Uuid,
        variant_id: Option<Uuid>,
        name: String,
        quantity: i32,
        /// The current price of one unit.
        unit_price: MoneyShape,
        /// The price of one unit when the item was added.
        price_when_added: MoneyShape,
        line_total: MoneyShape,
        /// The quantity that is available now.
        available: i32,
    }
}

answer! {
    /// An item that was removed from a cart.
    #[oai(rename = "RemovedCartItem", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct RemovedShape from item: RemovedItemView {
        id: Uuid = item.cart_item_id,
        product_id: Uuid,
        variant_id: Option<Uuid>,
        name: String,
        quantity: i32,
        /// The reason: `by_customer` or `not_sold`.
        removed: String,
        /// The time until which it can be restored. Absent if its product is not sold: then it can be restored once that is on sale again.
        restorable_until: Option<DateTime<Utc>>,
    }
}

/// A token that gives access to a new cart of a guest.
#[derive(Debug, Object)]
#[oai(rename = "GuestAccess", rename_all = "camelCase")]
struct GuestAccessShape {
    /// The guest's id. Use it as the customerId.
    customer_id: Uuid,
    cart_id: Uuid,
    /// Send it as `Authorization: Bearer`. It cannot be shown again.
    token: String,
}

/// The answer of every operation that returns a cart.
fn shown(cart: CartView) -> Done<CartShape> {
    let etag = cart.etag.clone();
    Done::new(&CartShape::from(cart)).tagged(etag)
}

/// The same of an operation that may put in fewer than asked for.
fn shown_capped(cart: CartView, capped: bool) -> Done<CartShape> {
    let etag = cart.etag.clone();
    Done::new(&CartShape { capped: Some(capped), ..cart.into() }).tagged(etag)
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Carts")]
impl Carts {
    /// Create a cart for a guest without an account. Takes no idempotency key, because a token is never stored.
    #[oai(path = "/guest-carts", method = "post", operation_id = "createGuestCart")]
    async fn create_guest(&self, by: Anyone) -> Result<Created<GuestAccessShape>, Problem> {
        by.door.limits.attempt("guest cart", by.address).await?;
        let mut tx = by.door.begin().await?;
        let cause = by.incoming.cause(Actor::Anyone);
        let guest = create_guest_cart(&mut by.door.context(&mut tx, cause)).await?;
        tx.commit().await?;
        let (customer_id, cart_id) = (guest.customer_id, guest.cart_id);
        let token = guest.token.expose().to_owned();
        let at = format!("/v1/customers/{customer_id}/cart");
        Ok(Created::new(&GuestAccessShape { customer_id, cart_id, token }).at(at))
    }

    /// Get the cart, at current prices.
    #[oai(path = "/customers/:customerId/cart", method = "get", operation_id = "getCart")]
    async fn get(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
    ) -> Result<Done<CartShape>, Refuses<UnknownCustomer>> {
        let customer_id = by.acts_for(customer_id.0)?;
        if let Some(cart) = by.door.reads.carts.get(customer_id).await? {
            return Ok(shown(cart));
        }
        // If the customer has no cart yet, reading it creates it.
        let mut tx = by.door.begin().await?;
        let cart = cart::get_cart(&by.door.shop, &mut tx, customer_id).await?;
        tx.commit().await?;
        Ok(shown(cart.ok_or(UnknownCustomer::NotFound)?))
    }

    /// Add an item to the cart.
    #[oai(
        path = "/customers/:customerId/cart/items",
        method = "post",
        operation_id = "addItemToCart"
    )]
    async fn add(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<AddItemToCart>,
    ) -> Result<Done<CartShape>, Refuses<(AddItemRefusal, Stale)>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let AddItemToCart { product_id, variant_id, quantity } = body.value;
        let command = AddItem { customer_id, product_id, variant_id, quantity };
        let ask = Ask::new("addItemToCart", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                seen.check(cart::lock_tag(ctx, customer_id, None)).await?;
                let added = cart::add_item(ctx, &command).await?;
                Ok(shown_capped(added.cart, added.capped))
            })
            .await
    }

    /// Change the quantity of an item.
    #[oai(
        path = "/carts/:cartId/items/:cartItemId",
        method = "patch",
        operation_id = "updateCartItemQuantity"
    )]
    async fn update(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "cartId")] cart_id: Path<Uuid>,
        #[oai(name = "cartItemId")] cart_item_id: Path<Uuid>,
        body: Body<UpdateCartItemQuantity>,
    ) -> Result<Done<CartShape>, Refuses<(ChangeCartRefusal, Stale)>> {
        let of = item_of(&by, cart_id.0, cart_item_id.0);
        let ask = Ask::new("updateCartItemQuantity", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                seen.check(cart::lock_tag(ctx, by.id, Some(cart_id.0))).await?;
                let quantity = body.value.quantity;
                let updated = cart::update_item_quantity(ctx, of, quantity);
                Ok(shown(updated.await?))
            })
            .await
    }

    /// Remove an item. It can be restored for ten minutes.
    #[oai(
        path = "/carts/:cartId/items/:cartItemId",
        method = "delete",
        operation_id = "removeItemFromCart"
    )]
    async fn remove(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "cartId")] cart_id: Path<Uuid>,
        #[oai(name = "cartItemId")] cart_item_id: Path<Uuid>,
    ) -> Result<Done<CartShape>, Refuses<(ChangeCartRefusal, Stale)>> {
        let of = item_of(&by, cart_id.0, cart_item_id.0);
        by.door
            .command(Ask::new("removeItemFromCart", &by, &key), async |ctx| {
                seen.check(cart::lock_tag(ctx, by.id, Some(cart_id.0))).await?;
                let removed = cart::remove_item(ctx, of);
                Ok(shown(removed.await?))
            })
            .await
    }

    /// Restore a removed item, as much of it as is available. If that is less than was removed, the answer says `capped`.
    #[oai(
        path = "/carts/:cartId/items/:cartItemId/restore",
        method = "post",
        operation_id = "restoreCartItem"
    )]
    async fn restore(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "cartId")] cart_id: Path<Uuid>,
        #[oai(name = "cartItemId")] cart_item_id: Path<Uuid>,
    ) -> Result<Done<CartShape>, Refuses<(ChangeCartRefusal, Stale)>> {
        let of = item_of(&by, cart_id.0, cart_item_id.0);
        by.door
            .command(Ask::new("restoreCartItem", &by, &key), async |ctx| {
                seen.check(cart::lock_tag(ctx, by.id, Some(cart_id.0))).await?;
                let restored = cart::restore_item(ctx, of).await?;
                Ok(shown_capped(restored.cart, restored.capped))
            })
            .await
    }

    /// Remove all items.
    #[oai(path = "/carts/:cartId/items", method = "delete", operation_id = "clearCart")]
    async fn clear(
        &self,
        by: By<CustomerOrGuest>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "If-Match")] seen: IfMatch,
        #[oai(name = "cartId")] cart_id: Path<Uuid>,
    ) -> Result<Done<CartShape>, Refuses<(ChangeCartRefusal, Stale)>> {
        by.door
            .command(Ask::new("clearCart", &by, &key), async |ctx| {
                seen.check(cart::lock_tag(ctx, by.id, Some(cart_id.0))).await?;
                let cleared = cart::clear_cart(ctx, by.id, cart_id.0);
                Ok(shown(cleared.await?))
            })
            .await
    }

    /// Move a guest cart's items into the customer's cart, at the prices at which the guest has put them in. What is not available, or more than a
    /// cart takes, is left out, and the answer says `capped`.
    #[oai(
        path = "/customers/:customerId/cart/merge",
        method = "post",
        operation_id = "mergeGuestCart"
    )]
    async fn merge(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<MergeGuestCart>,
    ) -> Result<Done<CartShape>, Refuses<MergeRefusal>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let MergeGuestCart { guest_cart_id, guest_token } = &body.value;
        let command = cart::MergeGuestCart {
            guest_cart_id: *guest_cart_id,
            guest_token: guest_token.clone(),
            customer_id,
        };
        let ask = Ask::new("mergeGuestCart", &by, &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let MergedCart { cart, capped } = cart::merge_guest_cart(ctx, &command).await?;
                Ok(shown_capped(cart, capped))
            })
            .await
    }
}

fn item_of(by: &By<CustomerOrGuest>, cart_id: Uuid, cart_item_id: Uuid) -> ItemOf {
    ItemOf { customer_id: by.id, cart_id, cart_item_id }
}
