-- Messages about a product are counted on its row: all of them, and those of each type.
alter table shop.product
    add column published_count bigint not null default 0,
    add column published_types jsonb not null default '{}';
comment on column shop.product.published_count is 'How many messages about it were written for partners.';
comment on column shop.product.published_types is 'The same by the type of the message.';
