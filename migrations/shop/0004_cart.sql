-- Carts: one for each customer, and one for each guest, who has an id but no customer row.

create table shop.cart (
    cart_id uuid primary key,
    customer_id uuid not null,
    guest_token_hash bytea,
    merged_into uuid,
    checkout_order_id uuid,
    version bigint not null default 1,
    event_count bigint not null default 0,
    last_activity_at timestamptz not null,
    created_at timestamptz not null,
    constraint a_customer_has_one_cart unique (customer_id),
    constraint a_guest_token_opens_one_cart unique (guest_token_hash)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on column shop.cart.guest_token_hash is 'SHA-256 of the guest''s token; null: a customer''s cart.';
comment on column shop.cart.merged_into is 'The customer''s cart that took this guest cart''s items.';
comment on column shop.cart.checkout_order_id is
    'The order being placed from this cart; until it is decided the cart refuses changes.';
comment on column shop.cart.version is 'Raised by every change of the cart or its items.';

create table shop.cart_item (
    cart_item_id uuid primary key,
    cart_id uuid not null constraint an_item_lies_in_a_cart references shop.cart,
    product_id uuid not null,
    variant_id uuid,
    quantity integer not null constraint an_item_is_at_least_one check (quantity >= 1),
    unit_price numeric(16, 3) not null,
    added_at timestamptz not null,
    removed_at timestamptz
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create unique index a_product_lies_in_a_cart_once
    on shop.cart_item (cart_id, product_id, variant_id) nulls not distinct
    where removed_at is null;
create index cart_item_by_cart on shop.cart_item (cart_id);
comment on column shop.cart_item.unit_price is 'The price when it was put in; an order asks again if it rose.';
comment on column shop.cart_item.removed_at is 'Removed by the customer, who may take that back for 10 minutes.';
