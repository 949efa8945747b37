-- Why an instance was started, in the words of the application: written at its start, never changed, read by its tx steps.
alter table saga.instance add column because text;
alter table saga.instance alter column because set statistics 0;

-- An instance that is started, with that: `saga.birth` and one column more.
create type saga.newborn as (
    shard smallint, saga_id uuid, name text, version smallint, subject text, start_key text, status text, waiting_on text,
    state json, pending json, undos json, reason json, past_pivot boolean, kept smallint, seq integer, owner uuid,
    wake smallint, delay_ms bigint, parent_id uuid, parent_step integer, held boolean, priority smallint, tags text,
    deadline_ms bigint, queue_key text, intent_no integer, intent_kind text, intent_amount text, intent_currency text,
    because text
);
