-- Whether a saga looks when the cart may have expired. Those who create a cart, or put something into one that is not watched, start it.
-- Carts of the time before are taken up by a task of the worker, a few at a time; a release that does not know the column leaves it false.
alter table shop.cart add column is_watched boolean not null default false;
comment on column shop.cart.is_watched is 'A cart-expiry saga is open for it.';
