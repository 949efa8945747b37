-- What is sold: categories, products and their variants.
create schema if not exists shop;

create table shop.category (
    category_id uuid primary key,
    parent_category_id uuid
        constraint a_category_has_a_known_parent references shop.category,
    name text not null,
    depth smallint not null constraint categories_nest_three_deep check (depth between 1 and 3),
    event_count bigint not null default 0,
    created_at timestamptz not null
);
create unique index a_category_name_is_unique on shop.category (lower(name));
comment on column shop.category.event_count is
    'Domain events of this aggregate so far; the number of its last one. The same in every table.';

create table shop.product (
    product_id uuid primary key,
    category_id uuid not null constraint a_product_has_a_known_category references shop.category,
    name text not null constraint a_product_name_has_1_to_200_characters
        check (char_length(name) between 1 and 200),
    description text not null,
    price numeric(16, 3) not null constraint a_price_is_at_least_a_cent check (price >= 0.01),
    currency text not null,
    status text not null constraint a_product_status_is_known
        check (status in ('draft', 'active', 'inactive')),
    has_variants boolean not null default false,
    deleted_at timestamptz,
    version bigint not null default 1,
    event_count bigint not null default 0,
    created_by uuid not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index product_by_category on shop.product (category_id, product_id);
comment on column shop.product.deleted_at is
    'Soft-deleted: out of the catalogue and the carts, still named by old orders.';

create table shop.product_variant (
    variant_id uuid primary key,
    product_id uuid not null constraint a_variant_belongs_to_a_product references shop.product,
    name text not null constraint a_variant_name_has_1_to_200_characters
        check (char_length(name) between 1 and 200),
    price numeric(16, 3) constraint a_variant_price_is_at_least_a_cent check (price >= 0.01),
    created_at timestamptz not null
);
create unique index a_variant_name_is_unique_in_its_product
    on shop.product_variant (product_id, lower(name));
comment on column shop.product_variant.price is 'Null: the price of its product.';
