-- The carts in which a product lies. A migration of its own: while it is built, carts can be read.

create index cart_item_by_product on shop.cart_item (product_id, cart_id) where removed_at is null;
