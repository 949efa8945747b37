-- The customer whose account an attempt was for, so that erasure and export find it. Null if the address has no account. Rows that are there already
-- have no customer; each gets it with the next attempt, or is deleted once it is old.
alter table shop.log_in_attempt add column customer_id uuid;
create index log_in_attempt_customer on shop.log_in_attempt (customer_id) where customer_id is not null;
