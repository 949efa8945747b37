-- Reads the table once, beside everything else.
alter table shop.payment_method validate constraint an_attachment_is_known;
