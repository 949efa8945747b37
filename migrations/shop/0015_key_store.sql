-- Which key store holds the keys of the customers in this database, recorded by the first process that uses both.
create table shop.key_store (
    one boolean primary key default true constraint a_database_has_one_key_store check (one),
    fingerprint uuid not null,
    recorded_at timestamptz not null
);
