-- What has happened in the shop, in the words of the catalogue, numbered per aggregate without
-- gaps: the number is the counter on the aggregate's own row, raised under that row's lock.

create table shop.domain_event (
    aggregate_id uuid not null,
    n bigint not null,
    event_id uuid not null,
    aggregate text not null constraint an_aggregate_is_known check (aggregate in
        ('Customer', 'Cart', 'Order', 'Product', 'Inventory', 'Category', 'Payment')),
    name text not null,
    payload jsonb not null,
    recorded_at timestamptz not null,
    primary key (aggregate_id, n)
);
comment on column shop.domain_event.payload is
    'The fields of the catalogue; a personal one is {"sealed": "..."} under the customer''s key.';
