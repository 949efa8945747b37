-- The version of its saga that stored a signal: events are brought up like states.
alter table saga.signal add column version smallint not null default 1;
