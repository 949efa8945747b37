-- What the hot statements take: one array of rows instead of an array per column, which cost a function scan each.
-- A row type is never altered: processes of both releases send it. A changed one is a new type.

-- The new row of one instance, fenced by (epoch, seq), with its first journal row.
create type saga.transition as (
    shard smallint, saga_id uuid, epoch integer, seq integer, new_seq integer, status text, waiting_on text, state json,
    pending json, undos json, reason json, past_pivot boolean, attempt smallint, unknowns smallint, unsettled boolean,
    kept smallint, last_error text, wake smallint, delay_ms bigint, release boolean, ended boolean, version smallint,
    clears boolean, settle_no integer, settle_status text, settle_reference text, intent_no integer, intent_kind text,
    intent_amount text, intent_currency text, j_seq integer, j_kind text, j_event json, j_step_no integer,
    j_attempt smallint, j_started_at timestamptz, j_next json, j_undo json
);

-- A journal row.
create type saga.entry as (
    shard smallint, saga_id uuid, epoch integer, seq integer, kind text, event json, step_no integer, attempt smallint,
    started_at timestamptz, next json, undo json
);

-- An instance that is started.
create type saga.birth as (
    shard smallint, saga_id uuid, name text, version smallint, subject text, start_key text, status text, waiting_on text,
    state json, pending json, undos json, reason json, past_pivot boolean, kept smallint, seq integer, owner uuid,
    wake smallint, delay_ms bigint, parent_id uuid, parent_step integer, held boolean, priority smallint, tags text,
    deadline_ms bigint, queue_key text, intent_no integer, intent_kind text, intent_amount text, intent_currency text
);

-- Payloads are stored as they come: nobody looks into them here, and taking them apart was a sixth of a step.
alter table saga.instance
    alter column state type json, alter column pending type json, alter column undos type json, alter column reason type json;
alter table saga.journal alter column event type json, alter column next type json, alter column undo type json;

-- Room for a second version of each row that moves: more of the steps stay heap-only.
alter table saga.instance set (fillfactor = 40);

-- Nobody asks for rows by their payloads: statistics of them are work for nothing, at each autoanalyze.
alter table saga.instance
    alter column state set statistics 0, alter column pending set statistics 0, alter column undos set statistics 0,
    alter column reason set statistics 0, alter column last_error set statistics 0;

create function saga.journal_without_statistics(part regclass) returns void language plpgsql as
$$
begin
    execute format('alter table %s alter column event set statistics 0, alter column next set statistics 0, '
        'alter column undo set statistics 0', part);
end
$$;
select saga.journal_without_statistics(inhrelid::regclass) from pg_inherits where inhparent = 'saga.journal'::regclass;
select saga.journal_without_statistics('saga.journal');

create or replace function saga.extend_journal(days integer) returns integer language plpgsql as
$$
declare
    day date;
    part text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('saga.extend_journal'));
    for day in select generate_series(current_date, current_date + days, interval '1 day')::date loop
        part := format('saga.journal_%s', to_char(day, 'YYYYMMDD'));
        if to_regclass(part) is null then
            execute format('create table %s partition of saga.journal for values from (%L) to (%L)',
                part, day::timestamptz, (day + 1)::timestamptz);
            perform saga.journal_without_statistics(part);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
