-- Customers, the only tables where personal data is plain.

create table shop.customer (
    customer_id uuid primary key,
    email text constraint an_email_is_lower_case check (email = lower(email)),
    email_verified_at timestamptz,
    password_hash text,
    first_name text,
    last_name text,
    frozen_at timestamptz,
    event_count bigint not null default 0,
    published_count bigint not null default 0,
    created_at timestamptz not null,
    constraint an_email_is_registered_once unique (email)
);
comment on column shop.customer.frozen_at is
    'Erasure has begun: every command of this customer is refused, every session is over.';
comment on column shop.customer.published_count is
    'Integration events about this subject so far; the sequence of its last one.';

create table shop.verification_token (
    token_hash bytea primary key,
    customer_id uuid not null constraint a_token_belongs_to_a_customer references shop.customer,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index verification_token_by_customer on shop.verification_token (customer_id);
comment on column shop.verification_token.token_hash is 'SHA-256 of the token, which is not kept.';

create table shop.session (
    token_hash bytea primary key,
    customer_id uuid not null constraint a_session_belongs_to_a_customer references shop.customer,
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at timestamptz not null
);
create index session_by_customer on shop.session (customer_id);
comment on column shop.session.last_seen_at is 'Kept to within ten minutes, to spare a write a request.';

create table shop.shipping_address (
    address_id uuid primary key,
    customer_id uuid not null constraint an_address_belongs_to_a_customer references shop.customer,
    recipient_name text not null,
    street text not null,
    city text not null,
    state text not null,
    postal_code text not null,
    country text not null,
    created_at timestamptz not null,
    removed_at timestamptz
);
create index shipping_address_by_customer on shop.shipping_address (customer_id, address_id);

create table shop.payment_method (
    payment_method_id uuid primary key,
    customer_id uuid not null constraint a_method_belongs_to_a_customer references shop.customer,
    kind text not null constraint a_method_kind_is_known check (kind in ('card', 'paypal')),
    token text not null,
    brand text not null,
    last4 text constraint last4_is_four_digits check (last4 ~ '^[0-9]{4}$'),
    created_at timestamptz not null,
    removed_at timestamptz
);
create index payment_method_by_customer on shop.payment_method (customer_id, payment_method_id);
comment on column shop.payment_method.token is
    'The gateway''s own token. A card number never reaches this database.';
