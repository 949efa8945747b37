-- One order of three lines by hand: two transactions, seventeen statements, the row operations of a placement.
\set c random(1, 1000)
\set p random(1, 998)
select nextval('floor.n') as n \gset
begin;
insert into floor.idempotency values (:n, 'placeOrder', now(), '{"status":202}');
select frozen from floor.customer where id = :c for share;
select version from floor.cart where id = :c for update;
select id, on_hand, reserved from floor.inventory where id in (:p, :p + 1, :p + 2) order by id for update;
insert into floor.orders values (:n, :c, 'placing', 42.00, 'sealed', now(), now());
insert into floor.order_line select :n, g, :p + g, 1, 9.99 from generate_series(0, 2) g;
update floor.inventory set reserved = reserved + 1 where id in (:p, :p + 1, :p + 2);
insert into floor.reservation select :n, :p + g, 1 from generate_series(0, 2) g;
insert into floor.audit select :n, :p + g, 'order placed', now() from generate_series(0, 2) g;
insert into floor.event select :n, g, '{"productId":1,"quantity":1}' from generate_series(1, 3) g;
with i as (insert into floor.instance values (:n, 1, '{"Creating":{}}', '[]')) insert into floor.journal values (:n, 1, now(), '{}', '{}');
commit;
begin;
select status from floor.orders where id = :n for update;
update floor.orders set status = 'pending', updated_at = now() where id = :n;
update floor.cart set version = version + 1 where id = :c;
insert into floor.event select :n, g, '{"orderId":1,"totalAmount":42}' from generate_series(4, 6) g;
insert into floor.outbox values (:n, 1, '{"orderId":1,"orderNumber":"ORD","itemCount":3}', now());
with u as (update floor.instance set seq = 4, state = '{"Placed":{}}' where id = :n) insert into floor.journal select :n, g, now(), '{}', '{}' from generate_series(2, 4) g;
commit;
