-- A product that is not sold any more is taken out of all carts, and their owners see that it was.

alter table shop.cart_item
    add column is_withdrawn boolean not null default false;
comment on column shop.cart_item.is_withdrawn is
    'Removed because the product was taken off sale. Shown until the customer clears the cart or places an order.';
