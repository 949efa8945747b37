-- Attempts to log in, counted before the password is compared, for all processes together.
-- Unlogged: after a crash of the database the counting begins anew, and nothing else is lost.
create unlogged table shop.log_in_attempt (
    -- A keyed SHA-256: of an account and the network or device that tries, or of an account alone.
    scope_hash bytea primary key,
    -- Tries since the last success, or since a quarter of an hour without any.
    tries integer not null,
    last_at timestamptz not null,
    -- When the owner last logged in from there: the network or device is known.
    succeeded_at timestamptz
);
create index log_in_attempt_last_at on shop.log_in_attempt (last_at) where succeeded_at is null;
create index log_in_attempt_succeeded_at on shop.log_in_attempt (succeeded_at)
    where succeeded_at is not null;

-- How long the next try must wait after so many. Of an account that is being guessed from everywhere,
-- a network that is not known gets one try a minute after its first.
create function shop.log_in_wait(tries integer, is_slowed boolean)
returns interval language sql immutable as $$
    select case
        when tries >= 5 then least(60, 2 ^ (least(tries, 10) - 4))
        when is_slowed and tries > 0 then 60
        else 0
    end * interval '1 second'
$$;
