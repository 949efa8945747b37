-- Token buckets of callers and addresses, which all processes share. After a crash of the database they are empty: the counting begins anew.
create unlogged table shop.rate_bucket (
    name_hash bytea primary key,
    full_at timestamptz not null,
    granted integer not null,
    burst integer not null,
    gap_s double precision not null
) with (fillfactor = 60);
comment on table shop.rate_bucket is 'Rate limits. A process takes tokens from a bucket in chunks.';
comment on column shop.rate_bucket.name_hash is 'A keyed hash of a caller or of a network address.';
comment on column shop.rate_bucket.full_at is 'The time at which the bucket is full again.';
comment on column shop.rate_bucket.granted is 'The number of tokens that the last statement got.';
comment on column shop.rate_bucket.gap_s is 'Seconds in which the bucket gets one token.';

-- The number of tokens that a bucket gives which is full again at full_at; asked.full_at is now plus the time of the tokens that are asked for.
create function shop.rate_grant(full_at timestamptz, asked shop.rate_bucket) returns integer
    language sql immutable
return greatest(0, least(asked.granted, floor(asked.burst - greatest(0, extract(epoch from
    full_at - (asked.full_at - make_interval(secs => asked.granted * asked.gap_s)))) / asked.gap_s + 1e-6)))::integer;
