-- Removed payment methods are deleted when they are old, by their age. While the index is built, the table can be read.
create index payment_method_removed on shop.payment_method (removed_at) where removed_at is not null;
