-- Which build of the program wrote a row last, and up to which build nobody could read it. Builds are told apart by when they were made, in seconds
-- since 1970. A row that a newer build wrote is left to a newer build, although the saga's version is the same.
alter table saga.instance
    add column build bigint,
    add column unread_by bigint;              -- builds up to this one leave it alone

-- The build that a worker runs.
alter table saga.worker add column build bigint;
