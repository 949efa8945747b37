-- The words of the products that are there, and the indexes of the lists of products. Products can be read meanwhile.
update shop.product set words = shop.product_words(name, description) where words is null;
create index product_by_words on shop.product using gin (words) where deleted_at is null;
create index product_by_price on shop.product (price, product_id) where deleted_at is null;

do $$
begin
    execute format('create index product_by_spelling on shop.product using gin (name %I.gin_trgm_ops) where deleted_at is null',
        (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm'));
end $$;
