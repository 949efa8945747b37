-- Payment methods are attached to an account at the gateway, one for each customer. The constraint is validated by the next migration, under a weaker lock.
create table shop.gateway_customer (
    customer_id uuid primary key
        constraint an_account_at_the_gateway_belongs_to_a_customer references shop.customer on delete cascade,
    reference text not null,
    created_at timestamptz not null
);
comment on table shop.gateway_customer is 'The account at the gateway to which a customer''s payment methods are attached.';

alter table shop.payment_method add column attachment text;
alter table shop.payment_method add constraint an_attachment_is_known
    check (attachment in ('asked', 'attached', 'refused', 'detached')) not valid;
comment on column shop.payment_method.attachment is
    'Null: nobody has asked the gateway to attach the method. Asked: orders that are paid with it wait until that is decided.';
