-- Who is signalled once an instance has ended, in whatever way. The row goes with the signal.
create table saga.end_wait (
    shard smallint not null,     -- of the awaited instance
    saga_id uuid not null,       -- whose end is awaited
    waiter_id uuid not null,     -- who is signalled then
    signal_id text not null,
    saga text not null,          -- the waiter's saga
    version smallint not null,   -- of the waiter's saga that stored the event
    event jsonb not null,
    next_at timestamptz,         -- real time; null until a signal could not be given
    primary key (shard, saga_id, waiter_id, signal_id)
);
