-- Gateway events that do not fit our books, for a person to look at.
create table shop.parked_gateway_event (
    event_id text primary key,
    why text not null constraint a_misfit_is_known check (why in ('unknown_payment', 'other_amount')),
    kind text not null,
    reference text not null,
    order_id uuid,
    amount numeric(16, 3) not null,
    currency text not null,
    happened_at timestamptz not null,
    parked_at timestamptz not null
);
