-- The version of its saga that stored a signal: events are brought up like states.
alter table saga.signal add column version smallint not null default 1;

-- Effects that were given up although their provider may still act under our key. A row lasts as long as that.
create table saga.watch (
    shard smallint not null,
    saga_id uuid not null,
    step_no integer not null,
    version smallint not null,   -- of the saga that stored activity and undo
    activity jsonb not null,     -- what is probed
    undo jsonb not null,         -- what takes a live effect back
    until timestamptz not null,  -- business time
    next_at timestamptz not null,
    attempt smallint not null default 0,
    primary key (shard, saga_id, step_no)
);
create index watch_due on saga.watch (next_at);
