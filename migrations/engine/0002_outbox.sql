-- Messages for others (outbox, feed) and from others (inbox).

-- Messages not yet published. A row is written by the transaction that makes its fact true and is
-- moved to the feed when the publisher has confirmed it, so the table is as small as the lag.
create table saga.outbox (
    shard smallint not null,
    subject text not null,
    -- Counted on the subject's own row, without gaps; the order of publication.
    sequence bigint not null,
    message_id uuid not null,
    kind text not null,
    routing_key text not null,
    source text not null,
    -- json, not jsonb: foreign text may hold \u0000, and nobody searches in here.
    data json not null,
    -- Whose key opens `data`; null: nothing personal in it.
    sealed_for uuid,
    correlation text,
    causation text,
    traceparent text,
    -- Business time of the fact.
    happened_at timestamptz not null,
    -- Real time: the lag is measured with it.
    recorded_at timestamptz not null default clock_timestamp(),
    tries integer not null default 0,
    next_try_at timestamptz not null default '-infinity',
    error text,
    constraint a_subject_publishes_a_sequence_once primary key (shard, subject, sequence),
    constraint a_sequence_starts_at_one check (sequence > 0)
) with (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- Who publishes a shard, and how far its feed has come.
create table saga.outbox_shard (
    shard smallint primary key constraint there_are_64_shards check (shard between 0 and 63),
    owner uuid,
    epoch bigint not null default 0,
    leased_until timestamptz not null default '-infinity',
    -- Position of the newest published message; raised by the transaction that publishes.
    feed_n bigint not null default 0,
    -- Older positions have been forgotten.
    feed_kept_from bigint not null default 1
) with (fillfactor = 40);
insert into saga.outbox_shard (shard) select generate_series(0, 63);

-- Whether a relay sleeps and wants to be notified; unlogged, as a crash only costs a poll.
create unlogged table saga.outbox_sleep (
    only_row boolean primary key default true constraint sleep_has_one_row check (only_row),
    asleep boolean not null
);

-- What has been published, in the order of (shard, n); forgotten after the retention.
create table saga.feed (
    shard smallint not null,
    n bigint not null,
    subject text not null,
    sequence bigint not null,
    message_id uuid not null,
    kind text not null,
    routing_key text not null,
    source text not null,
    data json not null,
    sealed_for uuid,
    correlation text,
    causation text,
    traceparent text,
    happened_at timestamptz not null,
    published_at timestamptz not null default clock_timestamp(),
    constraint a_position_is_given_once primary key (shard, n)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);

-- Messages handled: written by the handler's own transaction.
create table saga.inbox (
    shard smallint not null,
    source text not null,
    message_id text not null,
    handled_at timestamptz not null default clock_timestamp(),
    constraint a_message_is_handled_once primary key (shard, source, message_id)
);
create index inbox_by_age on saga.inbox using brin (handled_at);
