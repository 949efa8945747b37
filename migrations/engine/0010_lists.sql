-- Instances that operators look for first. Only what changes a status touches it, and that is no heap-only update anyway.
create index instance_in_trouble on saga.instance (status, saga_id) where status in ('unwinding', 'paused', 'stuck');
