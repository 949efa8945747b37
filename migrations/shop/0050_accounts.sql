-- Resetting a password, asking for a mail again, and sessions that their customer can tell apart.

-- At most one for each customer: a new token takes the place of the old one, and a used one is deleted.
create table shop.password_reset (
    customer_id uuid primary key
        constraint a_password_reset_belongs_to_a_customer references shop.customer on delete cascade,
    token_hash bytea not null constraint a_reset_token_is_unique unique,
    expires_at timestamptz not null
);
comment on column shop.password_reset.token_hash is 'SHA-256 of the token, which is not kept.';

-- Mails that somebody has asked for, counted for all processes together whether or not the address has an account.
-- Unlogged: after a crash of the database the counting begins anew, and nothing else is lost.
create unlogged table shop.mail_request (
    -- A keyed SHA-256 of the kind of mail and the address.
    scope_hash bytea primary key,
    -- The requests of the last hour.
    asked_at timestamptz[] not null,
    last_at timestamptz not null
);
create index mail_request_last_at on shop.mail_request (last_at);

alter table shop.session
    add column agent text,
    add column network text;
comment on column shop.session.agent is 'The program that logged in, as it named itself.';
comment on column shop.session.network is 'The network that it logged in from: an address prefix.';

-- The id of a session is made from its token's hash, so that old sessions have one too: a UUID of version 8, which tells nothing of the token.
create function shop.session_id(token_hash bytea) returns uuid
language sql immutable parallel safe as $$
    select encode(set_byte(set_byte(substring(h from 1 for 16),
                                    6, (get_byte(h, 6) & 15) | 128),
                           8, (get_byte(h, 8) & 63) | 128), 'hex')::uuid
    from sha256(token_hash) as h
$$;

-- The messages about a customer are counted by type as well.
alter table shop.customer add column if not exists published_types jsonb not null default '{}';
comment on column shop.customer.published_types is
    'By type the number of integration events about this customer so far.';
