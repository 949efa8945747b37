-- The engine's tables. Schema `saga`; every key begins with the shard (a hash of the subject, 0..63).
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

-- One row per worker process: its lease covers every instance that names it as owner.
create table saga.worker (
    worker_id uuid primary key,
    name text not null,
    kinds jsonb not null,                     -- [{"name", "version"}] it can drive
    started_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz not null
);

create table saga.instance (
    shard smallint not null,
    saga_id uuid not null,                    -- UUIDv7 whose last 6 bits are the shard
    name text not null,
    version smallint not null,
    subject text not null,                    -- what it is about: an order id, a cart id
    start_key text not null default '',       -- tells apart several open instances of one subject
    status text not null,
    waiting_on text,                          -- null only when final
    state jsonb not null,
    pending jsonb not null,                   -- the step or timer it waits for
    undos jsonb not null,                     -- open undos, oldest first
    reason jsonb,                             -- why it unwinds or unwound
    past_pivot boolean not null default false,
    attempt smallint not null default 0,      -- tries of the pending step so far
    unknowns smallint not null default 0,     -- tries of the pending step that ended Unknown
    unsettled boolean not null default false, -- the last try may have had an effect: ask before anything else
    kept smallint not null default 0,         -- signals kept for a later state
    last_error text,
    epoch integer not null,                   -- raised at each take-over
    seq integer not null,                     -- raised at each commit
    owner uuid,                               -- the worker that drives it now
    wake_at timestamptz,                      -- business time at which an unowned instance is due
    timer_at timestamptz,                     -- business time at which the pending timer fires
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (shard, saga_id),
    constraint the_shard_is_one_of_64 check (shard between 0 and 63),
    constraint the_status_is_known check (status in
        ('running', 'unwinding', 'paused', 'stuck', 'completed', 'unwound', 'abandoned')),
    constraint an_open_instance_has_a_reason_to_wake check (case
        when status in ('completed', 'unwound', 'abandoned') then waiting_on is null and wake_at is null and owner is null
        when status in ('stuck', 'paused') then waiting_on is not distinct from 'operator' and wake_at is null and owner is null
        when waiting_on in ('worker', 'activity') then owner is not null or wake_at is not null
        when waiting_on in ('retry', 'timer') then owner is null and wake_at is not null
        when waiting_on = 'signal' then owner is null
        else false end)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- No step touches a column of these four: steps stay heap-only updates.
create unique index one_open_instance_per_subject on saga.instance (shard, name, subject, start_key)
    where status not in ('completed', 'unwound', 'abandoned');
create index instance_due on saga.instance (wake_at) where wake_at is not null;
create index instance_by_subject on saga.instance (shard, subject);
create index instance_owned on saga.instance (owner) where owner is not null;

-- Everything that was committed of an instance, in order. Append-only, dropped by partition.
create table saga.journal (
    shard smallint not null,
    saga_id uuid not null,
    seq integer not null,
    at timestamptz not null,
    kind text not null,          -- start, outcome, attempt, timer, signal, tx, undo, settled, stuck, ...
    event jsonb,                 -- what happened
    step_no integer,             -- the step it happened to: the seq of the commit that decided it
    attempt smallint,
    started_at timestamptz,      -- of the attempt
    next jsonb,                  -- what was decided
    undo jsonb,                  -- the undo recorded with that decision
    epoch integer not null,
    primary key (shard, saga_id, seq, at)
) partition by range (at);
create table saga.journal_default partition of saga.journal default;

-- What was done outside: intent -> confirmed | refuted, confirmed -> undone.
create table saga.effect (
    shard smallint not null,
    saga_id uuid not null,
    step_no integer not null,    -- with saga_id the idempotency key given to the provider
    kind text not null,
    amount numeric,
    currency text,
    reference text,              -- the provider's
    status text not null constraint the_effect_status_is_known check (status in ('intent', 'confirmed', 'refuted', 'undone')),
    at timestamptz not null,
    settled_at timestamptz,
    primary key (shard, saga_id, step_no)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Signals by id, for deduplication; kept ones wait here for the state that takes them.
create table saga.signal (
    shard smallint not null,
    saga_id uuid not null,
    signal_id text not null,
    event jsonb not null,
    answer text not null,        -- applied, kept, refused
    at timestamptz not null,
    primary key (shard, saga_id, signal_id)
);

-- Makes the journal's daily partitions for the days ahead; answers how many were made.
create function saga.extend_journal(days integer) returns integer language plpgsql as
$$
declare
    day date;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('saga.extend_journal'));
    for day in select generate_series(current_date, current_date + days, interval '1 day')::date loop
        if to_regclass(format('saga.journal_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format('create table saga.journal_%s partition of saga.journal for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
select saga.extend_journal(7);
