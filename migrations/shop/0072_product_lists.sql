-- The words of the products that are there, and the indexes of the lists of products and orders.
update shop.product set words = shop.product_words(name, description) where words is null;
create index product_by_words on shop.product using gin (words) where deleted_at is null;
create index product_by_price on shop.product (price, product_id) where deleted_at is null;
create index order_by_time on shop."order" (created_at, order_id);
create index order_by_status on shop."order" (status, created_at, order_id);
