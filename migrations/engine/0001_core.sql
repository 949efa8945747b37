-- The engine's tables. Schema `saga`; every key begins with the shard.
create schema if not exists saga;

-- The business clock: one row, moved only by tests.
create table saga.clock (
    only_row boolean primary key default true constraint the_clock_has_one_row check (only_row),
    offset_by interval not null default interval '0'
);
insert into saga.clock default values;

-- Business time. Leases and time-outs use clock_timestamp() instead.
create function saga.now() returns timestamptz language sql stable as
$$ select now() + offset_by from saga.clock $$;
