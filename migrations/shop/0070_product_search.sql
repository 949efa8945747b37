-- Full-text search of products. The trigger fills the column for every release; the rows that are there are filled by the next migration.
-- The extension finds words that are spelt nearly so. It is a trusted one, so that the owner of the database may create it.
do $$
begin
    if not exists (select from pg_available_extensions where name = 'pg_trgm') then
        raise exception 'the extension pg_trgm is missing on the database server: install the server''s contrib package (postgresql-contrib), then migrate again';
    end if;
    create extension if not exists pg_trgm with schema shop;
exception when insufficient_privilege then
    raise exception 'the extension pg_trgm may not be created by this role: let the owner of the database run "create extension pg_trgm", then migrate again';
end $$;

alter table shop.product add column words tsvector;
comment on column shop.product.words is 'The words of the name (weight A) and of the description (weight B).';

-- An administrator may have put the extension into any schema. Postgres inlines these functions, so that the index is used.
do $$
declare
    place name := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm');
begin
    execute format('create function shop.is_spelt_like(search text, name text) returns boolean language sql stable parallel safe
        as $f$ select search operator(%1$I.<%%) name $f$', place);
    execute format('create function shop.likeness(search text, name text) returns real language sql immutable parallel safe
        as $f$ select %1$I.word_similarity(search, name) $f$', place);
end $$;
comment on function shop.is_spelt_like is 'Whether a part of the name is spelt nearly like the search text.';

create function shop.product_words(name text, description text) returns tsvector language sql immutable parallel safe
return setweight(to_tsvector('pg_catalog.english', name), 'A') || setweight(to_tsvector('pg_catalog.english', description), 'B');

create function shop.note_product_words() returns trigger language plpgsql as $$
begin
    new.words := shop.product_words(new.name, new.description);
    return new;
end $$;
create trigger product_words_are_noted before insert or update of name, description on shop.product
    for each row execute function shop.note_product_words();
