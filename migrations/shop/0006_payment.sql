-- Payments of orders, and every move of money with our key and the provider's reference.

create table shop.payment (
    payment_id uuid primary key,
    order_id uuid not null,
    customer_id uuid not null,
    payment_method_id uuid not null,
    method text not null,
    state text not null constraint a_payment_state_is_known check (state in
        ('authorizing', 'authorized', 'captured', 'partially_refunded', 'refunded', 'voided',
         'declined', 'unknown')),
    amount numeric(16, 3) not null,
    currency text not null,
    refunded_amount numeric(16, 3) not null default 0,
    authorization_id text,
    failure_reason text,
    event_count bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint a_refund_never_exceeds_what_was_taken
        check (0 <= refunded_amount and refunded_amount <= amount)
) with (fillfactor = 70);
create unique index an_order_has_one_live_payment on shop.payment (order_id)
    where state not in ('refunded', 'voided', 'declined');
create unique index an_authorization_belongs_to_one_payment on shop.payment (authorization_id);
comment on column shop.payment.method is 'Kind and brand, such as card:visa; never a number.';
comment on column shop.payment.authorization_id is
    'The provider''s reference, by which its webhooks name the payment.';

create table shop.payment_transaction (
    transaction_id uuid primary key,
    payment_id uuid not null,
    kind text not null constraint a_move_of_money_is_known
        check (kind in ('authorize', 'capture', 'void', 'refund')),
    state text not null constraint a_transaction_state_is_known
        check (state in ('requested', 'succeeded', 'failed', 'unknown')),
    amount numeric(16, 3) not null,
    currency text not null,
    key text,
    reference text,
    reason text,
    requested_at timestamptz not null,
    settled_at timestamptz
) with (fillfactor = 80);
create index payment_transaction_by_payment on shop.payment_transaction (payment_id);
comment on column shop.payment_transaction.key is
    'The idempotency key the provider was given; known once the move is settled.';
