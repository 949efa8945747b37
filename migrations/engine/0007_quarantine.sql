-- Whose step may have ended its process.
alter table saga.worker add column signed_off boolean not null default false;   -- it ended in good order: nobody is suspected
alter table saga.instance
    add column suspect boolean not null default false,     -- its owner died holding it; cleared by its next commit
    add column deaths smallint not null default 0;         -- of processes that drove nothing but it; cleared with it
