-- A payment that the gateway cannot be asked about delays no other, and is asked about again after growing pauses. The default is a constant, so no row is
-- written.
alter table shop.payment add column unanswered smallint not null default 0;
comment on column shop.payment.unanswered is
    'How many questions in a row about the payment had no answer that could be read, while the gateway answered others.';
comment on column shop.payment.ask_at is
    'When the gateway is asked about the payment again; null: it was not asked since the last change, and the time of its creation counts.';
