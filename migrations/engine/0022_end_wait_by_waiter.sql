-- A waiter that begins anew moves its waits to its successor.
create index end_wait_by_waiter on saga.end_wait (waiter_id);
