-- Cancellations that wait for a placement are told of its end from now on, however it comes: also those that were accepted before.
insert into saga.end_wait (shard, saga_id, waiter_id, signal_id, saga, version, event)
select p.shard, p.saga_id, c.saga_id, 'placement-ended', c.name, 2, '"PlacementEnded"'
from saga.instance c
cross join lateral (
    select i.shard, i.saga_id from saga.instance i
    where i.shard = c.shard and i.subject = c.subject and i.name = 'place-order'
    order by i.saga_id desc limit 1
) p
where c.name = 'cancel-order' and c.ended_at is null and c.state::jsonb ? 'AwaitingUnwind'
on conflict do nothing;
