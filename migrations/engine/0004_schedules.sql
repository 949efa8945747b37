-- Schedules, quotas of queues, paused kinds, deadlines.
create table saga.schedule (
    shard smallint not null,                  -- hash of the schedule's name
    name text not null,
    saga text not null,                       -- the saga that a tick starts
    cron text not null,
    zone text not null,                       -- IANA name
    start jsonb not null,                     -- what each instance is started with
    catch_up text not null constraint the_catch_up_is_known check (catch_up in ('skip', 'one', 'all')),
    catch_up_limit integer constraint only_all_has_a_limit check ((catch_up = 'all') = (catch_up_limit is not null)),
    overlap text not null constraint the_overlap_is_known check (overlap in ('allow', 'skip')),
    next_at timestamptz,                      -- business time of the tick to decide next
    paused boolean not null default false,
    last_at timestamptz,                      -- the newest tick that started an instance
    last_saga_id uuid,                        -- that instance
    last_error text,                          -- why the tick that is due cannot be started
    created_at timestamptz not null,          -- business time
    primary key (shard, name),
    constraint a_schedule_has_a_next_tick_unless_paused check (paused = (next_at is null))
);
create index schedule_due on saga.schedule (next_at) where next_at is not null;

-- How many queued instances may run: of a saga, of each of its queue keys, of one key.
create table saga.quota (
    shard smallint not null,                  -- hash of the saga's name
    name text not null,                       -- the saga
    scope text not null constraint the_scope_is_known check (scope in ('saga', 'each key', 'key')),
    queue_key text not null default '',
    at_once integer constraint at_once_is_not_negative check (at_once >= 0),
    starts integer constraint a_rate_lets_something_start check (starts > 0),
    per interval,
    primary key (shard, name, scope, queue_key),
    constraint only_the_quota_of_a_key_names_it check (scope = 'key' or queue_key = ''),
    constraint a_rate_has_a_period check ((starts is null) = (per is null) and per > interval '0')
);

-- Token buckets of rates. No row: the bucket is full.
create table saga.quota_bucket (
    shard smallint not null,                  -- hash of the saga's name
    name text not null,
    scope text not null constraint the_scope_has_a_bucket check (scope in ('saga', 'key')),
    queue_key text not null default '',
    full_at timestamptz not null,             -- business time at which it is full again
    primary key (shard, name, scope, queue_key)
);

-- Sagas whose instances are held, now (not resumed) and in the past.
create table saga.kind_pause (
    shard smallint not null,                  -- hash of the saga's name
    name text not null,
    paused_at timestamptz not null,           -- real time
    paused_by text not null,
    why text not null,
    resumed_at timestamptz,
    resumed_by text,
    primary key (shard, name, paused_at),
    constraint a_resumption_says_who check ((resumed_at is null) = (resumed_by is null))
);
create unique index a_kind_is_paused_once on saga.kind_pause (shard, name) where resumed_at is null;

-- A deadline that has passed and was acted on is looked at no more.
alter table saga.instance add column overdue boolean not null default false;
drop index saga.instance_by_deadline;
create index instance_by_deadline on saga.instance (deadline_at)
    where deadline_at is not null and ended_at is null and not overdue;

-- Who waits its turn, and who was admitted and has not ended, each found by itself.
drop index saga.instance_in_queue;
create index instance_in_queue on saga.instance (name, queued, queue_key, priority, saga_id)
    where queue_key is not null and ended_at is null;
