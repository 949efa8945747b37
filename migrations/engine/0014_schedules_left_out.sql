-- The newest tick of a schedule that started nothing, and why.
alter table saga.schedule
    add column left_out_at timestamptz,       -- business time of the tick
    add column left_out_why text;
