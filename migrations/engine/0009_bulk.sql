-- One verb over many instances: planned first, then applied as planned.
create table saga.bulk (
    shard smallint not null,                  -- in the id, like that of an instance
    bulk_id uuid not null,
    verb jsonb not null,
    planned_by text not null,
    reason text not null,
    filter jsonb not null,                    -- what was looked for
    status text not null constraint the_status_of_a_bulk_is_known check (status in ('planned', 'running', 'stopped', 'done')),
    items integer not null,                   -- all it has
    applied integer not null default 0,       -- of those, by result; the others are left
    refused integer not null,
    moved_on integer not null default 0,
    failed integer not null default 0,
    per_second integer constraint a_bulk_gets_on check (per_second > 0),
    next_at timestamptz,                      -- real time of the next item
    created_at timestamptz not null,          -- real time, as the others
    applied_by text,
    started_at timestamptz,
    stopped_by text,                          -- who stopped it last
    ended_at timestamptz,
    primary key (shard, bulk_id),
    constraint a_bulk_has_no_more_results_than_items check (applied + refused + moved_on + failed <= items),
    constraint a_running_bulk_has_a_pace check (status <> 'running' or (per_second is not null and next_at is not null))
);
create index bulk_running on saga.bulk (next_at) where status = 'running';

-- What a bulk does to one instance.
create table saga.bulk_item (
    shard smallint not null,                  -- of the instance
    bulk_id uuid not null,
    saga_id uuid not null,
    name text not null,                       -- the saga, and the version that wrote the instance last
    version smallint not null,
    seq integer not null,                     -- as it was looked at
    outlook jsonb,                            -- what the plan says would come of it; null: refused by the plan
    refusal jsonb,                            -- why it is not done
    result text,                              -- null: left
    error text,                               -- the database's, at the last try
    tries smallint not null default 0,        -- that came to nothing
    done_at timestamptz,                      -- real time
    primary key (shard, bulk_id, saga_id),
    constraint the_result_is_known check (result in ('applied', 'refused', 'moved_on', 'failed')),
    constraint only_what_was_planned_is_done check (outlook is not null or (result is not distinct from 'refused')),
    constraint a_refused_item_says_why check ((refusal is not null) = coalesce(result in ('refused', 'moved_on'), false))
);
create index bulk_item_left on saga.bulk_item (bulk_id, tries, shard, saga_id) where result is null;
