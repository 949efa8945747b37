-- What is in stock, who holds how much of it, and every change of it.
-- Rows refer to products and orders without foreign keys: those are never deleted, and a key
-- check would lock the product's row in every order for it.

create table shop.inventory (
    inventory_id uuid primary key,
    product_id uuid not null,
    variant_id uuid,
    on_hand integer not null default 0,
    reserved integer not null default 0,
    low_stock_threshold integer not null default 5
        constraint a_threshold_is_not_negative check (low_stock_threshold >= 0),
    event_count bigint not null default 0,
    updated_at timestamptz not null,
    constraint reserved_stock_is_on_hand check (0 <= reserved and reserved <= on_hand),
    constraint there_is_one_inventory_per_product_and_variant
        unique nulls not distinct (product_id, variant_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on column shop.inventory.variant_id is 'Null: the product has no variants.';
comment on column shop.inventory.reserved is
    'Always the sum of the open reservations; available is on_hand - reserved.';

create table shop.reservation (
    order_id uuid not null,
    inventory_id uuid not null,
    source text not null constraint a_reservation_source_is_known
        check (source in ('placement', 'manual')),
    quantity integer not null constraint a_reservation_holds_something check (quantity > 0),
    created_at timestamptz not null,
    primary key (order_id, inventory_id, source)
);
create index manual_reservation_by_age on shop.reservation (inventory_id, created_at)
    where source = 'manual';
comment on column shop.reservation.source is
    'placement: made by an order. manual: by reserveInventory, the only ones releaseInventory frees.';

create table shop.inventory_audit (
    inventory_id uuid not null,
    n bigint not null,
    change text not null constraint an_inventory_change_is_known
        check (change in ('set', 'adjusted', 'reserved', 'released', 'deducted')),
    actor uuid not null,
    reason text not null,
    order_id uuid,
    on_hand_before integer not null,
    on_hand_after integer not null,
    reserved_before integer not null,
    reserved_after integer not null,
    changed_at timestamptz not null,
    primary key (inventory_id, n)
);
comment on column shop.inventory_audit.n is 'The number of the domain event that tells of the change.';
