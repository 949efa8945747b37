-- What the front door keeps: keys of people and programs that are not customers, answers already
-- given under an idempotency key, and its own secrets.

-- Keys of administrators, operators, viewers and services. Only the hash of a key is kept.
create table shop.access_key (
    id uuid primary key,
    key_hash bytea not null constraint an_access_key_is_unique unique,
    role text not null
        constraint an_access_key_has_a_known_role
        check (role in ('admin', 'operator', 'viewer', 'service')),
    -- Who or what holds it; no personal data, it is shown in audits.
    name text not null,
    scopes text[] not null default '{}',
    created_at timestamptz not null default saga.now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    constraint an_access_key_expires_after_it_was_made check (expires_at > created_at)
);

-- Answers given under an idempotency key, stored in the transaction of what they answer.
create table shop.idempotency (
    -- SHA-256 over caller, operation and key.
    scope_hash bytea primary key,
    operation text not null,
    -- The customer the answer is about, if any: erasure deletes by it.
    customer_id uuid,
    -- SHA-256 over path and canonical body.
    fingerprint bytea not null,
    status smallint not null,
    location text,
    etag text,
    -- JSON as it was sent; sealed under the customer's key where there is a customer.
    body bytea not null,
    created_at timestamptz not null default saga.now()
);
create index idempotency_created_at on shop.idempotency (created_at);
create index idempotency_customer on shop.idempotency (customer_id) where customer_id is not null;

-- Takes the key's lock for this transaction and finds what was answered under it, in one round
-- trip. A function and not one statement, because each statement inside sees what was committed
-- before it began: the answer of the twin that released the lock just now is found.
-- No row: another transaction holds the lock. A row of nulls: nothing was answered yet.
create function shop.take_idempotency_key(lock_id bigint, wanted bytea, kept interval)
returns setof shop.idempotency language plpgsql as $$
declare
    answered shop.idempotency;
begin
    if not pg_try_advisory_xact_lock(lock_id) then
        return;
    end if;
    select i.* into answered from shop.idempotency i
    where i.scope_hash = wanted and i.created_at > saga.now() - kept;
    return next answered;
end $$;

-- Secrets that all processes of one installation share.
create table shop.door_secret (
    name text primary key,
    -- 244 random bits from the server's strong source.
    secret bytea not null
        default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
insert into shop.door_secret (name) values ('cursor');
