-- The lists of a category by price. Without this index the list of a category of dear products, the cheapest first, reads all that are cheaper.
-- Products can be read meanwhile.
create index product_by_price_in_category on shop.product (category_id, price, product_id) where deleted_at is null;
