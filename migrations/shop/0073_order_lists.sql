-- The indexes of the lists of orders, for staff and for a customer. Orders can be read meanwhile.
create index order_by_time on shop."order" (created_at, order_id);
create index order_by_status on shop."order" (status, created_at, order_id);
create index order_by_customer_and_time on shop."order" (customer_id, created_at, order_id);
