-- Each export of a customer's data is noted. Deleted with the customer's other rows.
create table shop.customer_export (
    customer_id uuid not null,
    exported_at timestamptz not null,
    request_id uuid not null,
    primary key (customer_id, exported_at, request_id)
);
