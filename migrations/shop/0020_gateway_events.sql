-- Whatever the gateway tells has a place: it changes the payment, is parked with its reason, or is counted as of no concern.

alter table shop.parked_gateway_event
    drop constraint a_misfit_is_known,
    add constraint a_misfit_is_known check (why in
        ('unknown_payment', 'other_amount', 'unreadable', 'contradicts_our_books', 'refund_failed', 'dispute')),
    alter column reference drop not null,
    alter column amount drop not null,
    alter column currency drop not null,
    alter column happened_at drop not null;
comment on table shop.parked_gateway_event is
    'Events of the payment gateway that a person must look at. The row is deleted once that is done.';

create table shop.gateway_event_count (
    kind text primary key,
    events bigint not null,
    last_event_id text not null,
    last_at timestamptz not null
);
comment on table shop.gateway_event_count is
    'Events of the payment gateway that concern no payment of this shop, by the gateway''s name of their kind.';

alter table shop.payment_transaction
    drop constraint a_move_of_money_is_known,
    add constraint a_move_of_money_is_known
        check (kind in ('authorize', 'capture', 'void', 'refund', 'dispute'));
comment on column shop.payment_transaction.key is
    'The idempotency key the provider was given; known once the move is settled. Null: the shop did not ask for this move.';
