-- A partition of the journal is made ready and then attached, so that nobody who commits or starts waits for it.

-- Makes the partition of one day (UTC), with the rows of that day that lie in the default partition. Answers what it did:
--   made; there: it was there; busy: somebody else is making one; full: the default partition holds more than 20,000 rows, which
--   would have to be looked at while nobody can write there.
-- Waits for a lock for a fifth of a second at most and raises lock_not_available then: who waits for an exclusive lock holds up all
-- who come after. Only who writes into the default partition waits for the rows to be moved.
create function saga.make_journal_partition(day date) returns text language plpgsql as
$$
declare
    part text := format('saga.journal_%s', to_char(day, 'YYYYMMDD'));
    begins timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if to_regclass(part) is not null then
        return 'there';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('saga.extend_journal')) then
        return 'busy';
    end if;
    perform set_config('lock_timeout', '200ms', true);
    execute format('create table %s (like saga.journal including all)', part);
    perform saga.journal_without_statistics(part);
    lock table only saga.journal_default in access exclusive mode;
    if (select count(*) > 20000 from (select from only saga.journal_default limit 20001) sample) then
        execute format('drop table %s', part);
        return 'full';
    end if;
    execute format('insert into %s select * from only saga.journal_default where at >= %L and at < %L', part, begins, ends);
    delete from only saga.journal_default where at >= begins and at < ends;
    execute format('alter table saga.journal attach partition %s for values from (%L) to (%L)', part, begins, ends);
    return 'made';
end
$$;

-- For releases that call it at their start, and end if it fails: what cannot be made now is made later.
create or replace function saga.extend_journal(days integer) returns integer language plpgsql as
$$
declare
    day date;
    made integer := 0;
begin
    for day in select generate_series(current_date, current_date + days, interval '1 day')::date loop
        begin
            if saga.make_journal_partition(day) = 'made' then
                made := made + 1;
            end if;
        exception when lock_not_available then
            raise notice 'the journal is in use; its partition of % is made later', day;
        end;
    end loop;
    return made;
end
$$;
