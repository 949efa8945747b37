-- Approvals at PayPal that pay no order are deleted when they are old. While the index is built, the table can be read.
create index paypal_approval_unused on shop.paypal_approval (payment_method_id) where state <> 'used';
