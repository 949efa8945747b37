-- The rows that are deleted when they are old, by their age. While the indexes are built, the tables can be read.
create index session_by_end on shop.session (expires_at);
create index verification_token_by_end on shop.verification_token (expires_at);
create index parked_gateway_event_by_end on shop.parked_gateway_event (ended_at) where ended_at is not null;
