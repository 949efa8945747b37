-- Products are found by words in any case in every script. Only products with letters beyond ASCII are written; all can be read meanwhile.
create or replace function shop.product_words(name text, description text) returns tsvector language sql immutable parallel safe
return setweight(to_tsvector('pg_catalog.english', shop.folded(name)), 'A')
    || setweight(to_tsvector('pg_catalog.english', shop.folded(description)), 'B');

update shop.product set words = shop.product_words(name, description) where words is distinct from shop.product_words(name, description);
