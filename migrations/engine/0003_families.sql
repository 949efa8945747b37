-- What an instance may carry beside its position: a family, an order among the due, search tags, a deadline, its end.
alter table saga.instance
    add column parent_id uuid,                             -- of the same shard
    add column parent_step integer,                        -- the parent's step that started it
    add column held boolean not null default false,        -- at its end it waits for its parent, undos kept
    add column ended_at timestamptz,                       -- real time at which it ended, or began to wait for its parent
    add column priority smallint not null default 1
        constraint a_priority_is_high_normal_or_low check (priority between 0 and 2),
    add column tags jsonb,                                 -- {"name": "value"}
    add column deadline_at timestamptz,                    -- business time by which it is called off
    add column queue_key text,                             -- it waits its turn among those of its name and this key
    add column queued boolean not null default false;      -- its turn has not come yet

update saga.instance set ended_at = updated_at where status in ('completed', 'unwound', 'abandoned');

alter table saga.instance drop constraint an_open_instance_has_a_reason_to_wake;
alter table saga.instance add constraint an_open_instance_has_a_reason_to_wake check (case
    when status in ('completed', 'unwound', 'abandoned') then
        waiting_on is null and wake_at is null and owner is null and ended_at is not null
    when status in ('stuck', 'paused') then waiting_on is not distinct from 'operator' and wake_at is null and owner is null
    when queued then waiting_on is not distinct from 'worker' and wake_at is null and owner is null and queue_key is not null
    when waiting_on in ('worker', 'activity') then owner is not null or wake_at is not null
    when waiting_on in ('retry', 'timer') then owner is null and wake_at is not null
    when waiting_on in ('signal', 'children') then owner is null
    when waiting_on = 'version' then owner is null and wake_at is not null
    when waiting_on = 'parent' then owner is null and wake_at is null and parent_id is not null and held and ended_at is not null
    else false end);
alter table saga.instance add constraint only_an_ended_child_has_ended_before_it_is_final
    check (ended_at is null or status in ('completed', 'unwound', 'abandoned') or waiting_on = 'parent');

-- Claims go by priority, then by time. A priority never changes.
drop index saga.instance_due;
create index instance_due on saga.instance (priority, wake_at) where wake_at is not null;
create index instance_by_parent on saga.instance (shard, parent_id) where parent_id is not null;
create index instance_open_child on saga.instance (shard, parent_id) where parent_id is not null and ended_at is null;
create index instance_by_deadline on saga.instance (deadline_at) where deadline_at is not null and ended_at is null;
create index instance_by_tag on saga.instance using gin (tags jsonb_path_ops) where tags is not null;
create index instance_in_queue on saga.instance (name, queue_key, priority, saga_id)
    where queue_key is not null and ended_at is null;

-- Parents that wait for the last of their children to end; the row goes when the parent is woken.
create table saga.join_wait (
    shard smallint not null,
    saga_id uuid not null,
    primary key (shard, saga_id)
);

-- Parents whose ended children may become final: it has passed its pivot or completed. The row goes with the last of them.
create table saga.child_release (
    shard smallint not null,
    saga_id uuid not null,
    primary key (shard, saga_id)
);

-- An undo's own reference beside that of what it took back; what a person answers for is waived.
alter table saga.effect add column undo_reference text;
alter table saga.effect drop constraint the_effect_status_is_known;
alter table saga.effect add constraint the_effect_status_is_known
    check (status in ('intent', 'confirmed', 'refuted', 'undone', 'waived'));
