-- Orders. No foreign keys to customers and products: an order outlives an erased customer, and a
-- key check would lock those rows in every placement.

create table shop."order" (
    order_id uuid primary key,
    order_number text not null constraint an_order_number_is_unique unique,
    customer_id uuid not null,
    cart_id uuid not null,
    payment_id uuid not null,
    status text not null constraint an_order_status_is_known check (status in
        ('placing', 'pending', 'confirmed', 'shipped', 'delivered', 'cancelled', 'failed')),
    item_count integer not null,
    subtotal numeric(16, 3) not null,
    shipping_cost numeric(16, 3) not null,
    tax numeric(16, 3) not null,
    total_amount numeric(16, 3) not null,
    currency text not null,
    shipping_address text not null,
    cancel_reason text,
    failure_reason text,
    confirmed_by uuid,
    tracking_number text,
    carrier text,
    version bigint not null default 1,
    event_count bigint not null default 0,
    published_count bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint the_total_is_the_sum_of_its_parts
        check (total_amount = subtotal + shipping_cost + tax)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index order_by_customer on shop."order" (customer_id, order_id);
comment on column shop."order".shipping_address is 'Sealed under the customer''s key.';
comment on column shop."order".cancel_reason is 'Sealed under the customer''s key: it is free text.';
comment on column shop."order".payment_id is 'The payment in force; an earlier one may have lapsed.';

create table shop.order_line (
    order_id uuid not null constraint a_line_belongs_to_an_order references shop."order",
    line_no smallint not null,
    product_id uuid not null,
    variant_id uuid,
    name text not null,
    quantity integer not null constraint a_line_is_at_least_one check (quantity >= 1),
    unit_price numeric(16, 3) not null,
    line_total numeric(16, 3) not null,
    primary key (order_id, line_no),
    constraint a_line_total_is_price_by_quantity check (line_total = unit_price * quantity)
);
