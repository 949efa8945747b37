-- What operators are told, and what they do to many instances at once.

-- That an instance needs a person: written by the commit that makes it so.
create table saga.notice (
    shard smallint not null,
    saga_id uuid not null,
    seq integer not null,
    kind text not null,          -- stuck, paused, version, deadline, escalated, handed_over
    detail jsonb not null,       -- {"saga", "why"}
    at timestamptz not null,     -- real time
    n bigint,                    -- its place in the order of reading; given by whoever reads
    constraint a_commit_tells_a_kind_once primary key (shard, saga_id, seq, kind),
    constraint a_place_among_notices_is_given_once unique (n)
);
create index notice_without_place on saga.notice (at) where n is null;

-- The newest place that was given to a notice.
create table saga.notice_place (
    only_row boolean primary key default true constraint the_newest_place_has_one_row check (only_row),
    n bigint not null
) with (fillfactor = 40);
insert into saga.notice_place (n) values (0);

-- Stuck instances that nobody may have looked at by then: one more notice is due. Business time.
create table saga.escalation (
    shard smallint not null,
    saga_id uuid not null,
    due_at timestamptz not null,
    primary key (shard, saga_id)
);
create index escalation_due on saga.escalation (due_at);
