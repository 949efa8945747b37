-- Names are compared, and searched for, in lower case in every script. "lower" alone knows only the letters of the database's own locale, which in the
-- locale C are those of ASCII.
do $$
begin
    if not exists (select from pg_collation where collname = 'und-x-icu' and collnamespace = 'pg_catalog'::regnamespace) then
        raise exception 'the collation und-x-icu is missing in the database: use a Postgres that is built with ICU, or let its owner run "select pg_import_system_collations(''pg_catalog'')", then migrate again';
    end if;
end $$;

create function shop.folded(name text) returns text language sql immutable parallel safe
return lower(name collate pg_catalog."und-x-icu");
comment on function shop.folded is 'The text in lower case, whatever the locale of the database.';

-- Names that were different until now and are the same in lower case: the oldest keeps its name, the others get their id behind it. The new indexes are built
-- before the old ones go, so that products and categories can be read meanwhile.
update shop.category c set name = left(c.name, 150) || ' (' || c.category_id || ')'
from (select category_id, row_number() over (partition by shop.folded(name) order by created_at, category_id) as n
      from shop.category) same
where same.category_id = c.category_id and same.n > 1;
create unique index a_folded_category_name_is_unique on shop.category (shop.folded(name));

update shop.product_variant v set name = left(v.name, 150) || ' (' || v.variant_id || ')'
from (select variant_id, row_number() over (partition by product_id, shop.folded(name) order by created_at, variant_id) as n
      from shop.product_variant) same
where same.variant_id = v.variant_id and same.n > 1;
create unique index a_folded_variant_name_is_unique on shop.product_variant (product_id, shop.folded(name));

drop index shop.a_category_name_is_unique;
alter index shop.a_folded_category_name_is_unique rename to a_category_name_is_unique;
drop index shop.a_variant_name_is_unique_in_its_product;
alter index shop.a_folded_variant_name_is_unique rename to a_variant_name_is_unique_in_its_product;
