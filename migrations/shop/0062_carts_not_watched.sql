-- The carts that no saga watches yet. A migration of its own: while it is built, carts can be read.

create index cart_not_watched on shop.cart (last_activity_at) where not is_watched;
