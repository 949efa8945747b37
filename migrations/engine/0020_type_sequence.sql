-- Messages are also numbered per subject and kind, for those who receive some kinds only; null: the sender does not count them.
alter table saga.outbox add column type_sequence bigint;
alter table saga.feed add column type_sequence bigint;
