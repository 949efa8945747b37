-- Relays share the shards, and what went wrong with a message is kept.

-- The relays that live. Each takes its part of the 64 shards, so each must know how many there are.
-- Unlogged: after a crash of the database every relay writes its row again within seconds.
create unlogged table saga.outbox_relay (
    owner uuid primary key,
    -- A relay that has not renewed this is dead.
    alive_until timestamptz not null,
    -- An idle relay wants to be notified of new messages; a busy one looks by itself.
    asleep boolean not null default false
);

-- Published messages that somebody did not get. The message itself is in the feed.
create table saga.feed_trouble (
    shard smallint not null,
    n bigint not null,
    -- 'refused': a partner's queue did not take its copy; 'unreadable': nobody can be shown it.
    kind text not null constraint a_trouble_has_a_known_kind check (kind in ('refused', 'unreadable')),
    -- In words, without personal data.
    reason text not null,
    noted_at timestamptz not null default clock_timestamp(),
    constraint a_published_message_has_one_trouble_of_a_kind primary key (shard, n, kind)
);

-- Exchanges and archives that were declared at a broker. One that is missing later was destroyed.
create table saga.broker_topology (
    name text primary key,
    declared_at timestamptz not null default clock_timestamp(),
    -- What was found missing. Nothing is published until a person has it declared again.
    destroyed text
);
