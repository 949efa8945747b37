-- One hundred instances of five steps, a transaction for each step of all.
select nextval('floor.batch') as b \gset
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), i as (insert into floor.instance select shard, id, 1, '{"step":1}', '[{"no":1,"by":{"activity":{"TakeBack":1}}}]' from m) insert into floor.journal select shard, id, 1, clock_timestamp(), 'null', '{"call":{"Do":1}}' from m;
commit;
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), u as (update floor.instance i set seq = 2, state = '{"step":2}', undos = '[{"no":1,"by":{"activity":{"TakeBack":1}}},{"no":2,"by":{"activity":{"TakeBack":2}}}]' from m where i.shard = m.shard and i.id = m.id and i.seq = 1 returning i.shard, i.id) insert into floor.journal select shard, id, 2, clock_timestamp(), '{"Done":1}', '{"call":{"Do":2}}' from u;
commit;
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), u as (update floor.instance i set seq = 3, state = '{"step":3}', undos = '[{"no":1,"by":{"activity":{"TakeBack":1}}},{"no":2,"by":{"activity":{"TakeBack":2}}},{"no":3,"by":{"activity":{"TakeBack":3}}}]' from m where i.shard = m.shard and i.id = m.id and i.seq = 2 returning i.shard, i.id) insert into floor.journal select shard, id, 3, clock_timestamp(), '{"Done":2}', '{"call":{"Do":3}}' from u;
commit;
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), u as (update floor.instance i set seq = 4, state = '{"step":4}', undos = '[{"no":1,"by":{"activity":{"TakeBack":1}}},{"no":2,"by":{"activity":{"TakeBack":2}}},{"no":3,"by":{"activity":{"TakeBack":3}}},{"no":4,"by":{"activity":{"TakeBack":4}}}]' from m where i.shard = m.shard and i.id = m.id and i.seq = 3 returning i.shard, i.id) insert into floor.journal select shard, id, 4, clock_timestamp(), '{"Done":3}', '{"call":{"Do":4}}' from u;
commit;
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), u as (update floor.instance i set seq = 5, state = '{"step":5}', undos = '[{"no":1,"by":{"activity":{"TakeBack":1}}},{"no":2,"by":{"activity":{"TakeBack":2}}},{"no":3,"by":{"activity":{"TakeBack":3}}},{"no":4,"by":{"activity":{"TakeBack":4}}},{"no":5,"by":{"activity":{"TakeBack":5}}}]' from m where i.shard = m.shard and i.id = m.id and i.seq = 4 returning i.shard, i.id) insert into floor.journal select shard, id, 5, clock_timestamp(), '{"Done":4}', '{"call":{"Do":5}}' from u;
commit;
begin;
with m as (select (g % 64)::smallint as shard, md5(:b || '-' || g)::uuid as id from generate_series(1, 100) g), u as (update floor.instance i set seq = 6, state = '{"step":6}', undos = '[{"no":1,"by":{"activity":{"TakeBack":1}}},{"no":2,"by":{"activity":{"TakeBack":2}}},{"no":3,"by":{"activity":{"TakeBack":3}}},{"no":4,"by":{"activity":{"TakeBack":4}}},{"no":5,"by":{"activity":{"TakeBack":5}}}]' from m where i.shard = m.shard and i.id = m.id and i.seq = 5 returning i.shard, i.id) insert into floor.journal select shard, id, 6, clock_timestamp(), '{"Done":5}', '{"call":{"Do":6}}' from u;
commit;
