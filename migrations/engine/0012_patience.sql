-- A step is tried until its deadline, so the row says since when it has been failing. Both columns are derived by the statement that commits a
-- transition: no row type changes.

alter table saga.instance
    add column failing_since timestamptz,           -- business time of the first failed attempt at the pending step or undo
    add column slow boolean not null default false; -- operators were told that this step takes long

alter table saga.instance alter column failing_since set statistics 0, alter column slow set statistics 0;

comment on column saga.instance.unknowns is
    'Answers of the provider that the pending step was not done. Releases before 0012 counted unknown outcomes here.';
