-- A reservation by hand is released when its time is over. One that an earlier release has made has no such time, and ends with its order.
alter table shop.reservation add column expires_at timestamptz;
comment on column shop.reservation.expires_at is
    'When a reservation by hand is released by itself. Null: only with its order.';
