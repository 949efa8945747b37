-- An order may have another payment after its authorization lapsed, and the gateway is asked about payments now and then.

create index payment_by_order on shop.payment (order_id);

alter table shop.payment add column ask_at timestamptz;
comment on column shop.payment.ask_at is
    'When the gateway is asked about the payment again; null: it was not asked yet, and the time of its creation counts.';
create index payment_to_ask on shop.payment (coalesce(ask_at, created_at))
    where state in ('authorized', 'captured', 'partially_refunded', 'refunded');
