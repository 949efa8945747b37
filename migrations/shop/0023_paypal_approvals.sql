-- Approvals at PayPal: a payment method of the kind paypal pays one order, of exactly the amount that its customer has approved there.

alter table shop.payment_method
    alter column token drop not null,
    add constraint a_card_has_a_token check (kind = 'paypal' or token is not null);
create unique index a_paypal_token_names_one_method on shop.payment_method (token) where kind = 'paypal';
comment on column shop.payment_method.token is
    'The gateway''s own token. A card number never reaches this database. Null: PayPal has not opened the approval yet.';

create table shop.paypal_approval (
    payment_method_id uuid primary key
        constraint an_approval_belongs_to_a_method references shop.payment_method on delete cascade,
    customer_id uuid not null,
    amount numeric(16, 3) not null constraint an_approval_is_of_some_money check (amount > 0),
    currency text not null,
    return_url text not null,
    cancel_url text not null,
    state text not null constraint an_approval_state_is_known
        check (state in ('pending', 'approved', 'used', 'expired')),
    order_id uuid,
    expires_at timestamptz,
    created_at timestamptz not null,
    constraint an_approval_names_the_order_that_uses_it check ((state = 'used') = (order_id is not null))
);
create index paypal_approval_pending on shop.paypal_approval (customer_id) where state = 'pending';
create index paypal_approval_by_order on shop.paypal_approval (order_id) where order_id is not null;
comment on column shop.paypal_approval.expires_at is
    'Pending: until when the customer may approve. Approved: until when PayPal holds the approval for an order. Null: not opened yet.';
comment on column shop.paypal_approval.return_url is
    'Plain, and perhaps personal: PayPal is told it once, when the approval is opened.';
