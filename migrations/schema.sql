CREATE SCHEMA saga;
CREATE SCHEMA shop;
CREATE TYPE saga.birth AS (
	shard smallint,
	saga_id uuid,
	name text,
	version smallint,
	subject text,
	start_key text,
	status text,
	waiting_on text,
	state json,
	pending json,
	undos json,
	reason json,
	past_pivot boolean,
	kept smallint,
	seq integer,
	owner uuid,
	wake smallint,
	delay_ms bigint,
	parent_id uuid,
	parent_step integer,
	held boolean,
	priority smallint,
	tags text,
	deadline_ms bigint,
	queue_key text,
	intent_no integer,
	intent_kind text,
	intent_amount text,
	intent_currency text
);
CREATE TYPE saga.entry AS (
	shard smallint,
	saga_id uuid,
	epoch integer,
	seq integer,
	kind text,
	event json,
	step_no integer,
	attempt smallint,
	started_at timestamp with time zone,
	next json,
	undo json
);
CREATE TYPE saga.newborn AS (
	shard smallint,
	saga_id uuid,
	name text,
	version smallint,
	subject text,
	start_key text,
	status text,
	waiting_on text,
	state json,
	pending json,
	undos json,
	reason json,
	past_pivot boolean,
	kept smallint,
	seq integer,
	owner uuid,
	wake smallint,
	delay_ms bigint,
	parent_id uuid,
	parent_step integer,
	held boolean,
	priority smallint,
	tags text,
	deadline_ms bigint,
	queue_key text,
	intent_no integer,
	intent_kind text,
	intent_amount text,
	intent_currency text,
	because text
);
CREATE TYPE saga.transition AS (
	shard smallint,
	saga_id uuid,
	epoch integer,
	seq integer,
	new_seq integer,
	status text,
	waiting_on text,
	state json,
	pending json,
	undos json,
	reason json,
	past_pivot boolean,
	attempt smallint,
	unknowns smallint,
	unsettled boolean,
	kept smallint,
	last_error text,
	wake smallint,
	delay_ms bigint,
	release boolean,
	ended boolean,
	version smallint,
	clears boolean,
	settle_no integer,
	settle_status text,
	settle_reference text,
	intent_no integer,
	intent_kind text,
	intent_amount text,
	intent_currency text,
	j_seq integer,
	j_kind text,
	j_event json,
	j_step_no integer,
	j_attempt smallint,
	j_started_at timestamp with time zone,
	j_next json,
	j_undo json
);
CREATE FUNCTION saga.extend_journal(days integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
declare
    day date;
    made integer := 0;
begin
    for day in select generate_series(current_date, current_date + days, interval '1 day')::date loop
        begin
            if saga.make_journal_partition(day) = 'made' then
                made := made + 1;
            end if;
        exception when lock_not_available then
            raise notice 'the journal is in use; its partition of % is made later', day;
        end;
    end loop;
    return made;
end
$$;
CREATE FUNCTION saga.has_a_reason_to_wake(status text, waiting_on text, wake_at timestamp with time zone, owner uuid, ended_at timestamp with time zone, queued boolean, queue_key text, parent_id uuid, held boolean) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $$ begin return case
    when status in ('completed', 'unwound', 'abandoned')
        then waiting_on is null and wake_at is null and owner is null and ended_at is not null
    when status in ('stuck', 'paused')
        then waiting_on is not distinct from 'operator' and wake_at is null and owner is null
    when queued
        then waiting_on is not distinct from 'worker' and wake_at is null and owner is null and queue_key is not null
    when waiting_on in ('worker', 'activity') then owner is not null or wake_at is not null
    when waiting_on in ('retry', 'timer') then owner is null and wake_at is not null
    when waiting_on in ('signal', 'children') then owner is null
    when waiting_on = 'version' then owner is null and wake_at is not null
    when waiting_on = 'parent'
        then owner is null and wake_at is null and parent_id is not null and held and ended_at is not null
    else false end;
end $$;
CREATE FUNCTION saga.journal_without_statistics(part regclass) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    execute format('alter table %s alter column event set statistics 0, alter column next set statistics 0, '
        'alter column undo set statistics 0', part);
end
$$;
CREATE FUNCTION saga.make_journal_partition(day date) RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
    part text := format('saga.journal_%s', to_char(day, 'YYYYMMDD'));
    begins timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if to_regclass(part) is not null then
        return 'there';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('saga.extend_journal')) then
        return 'busy';
    end if;
    perform set_config('lock_timeout', '200ms', true);
    execute format('create table %s (like saga.journal including all)', part);
    perform saga.journal_without_statistics(part);
    lock table only saga.journal_default in access exclusive mode;
    if (select count(*) > 20000 from (select from only saga.journal_default limit 20001) sample) then
        execute format('drop table %s', part);
        return 'full';
    end if;
    execute format('insert into %s select * from only saga.journal_default where at >= %L and at < %L', part, begins, ends);
    delete from only saga.journal_default where at >= begins and at < ends;
    execute format('alter table saga.journal attach partition %s for values from (%L) to (%L)', part, begins, ends);
    return 'made';
end
$$;
CREATE FUNCTION saga.now() RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    AS $$ begin return now() + (select offset_by from saga.clock); end $$;
CREATE FUNCTION shop.folded(name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN lower((name COLLATE "und-x-icu"));
COMMENT ON FUNCTION shop.folded(name text) IS 'The text in lower case, whatever the locale of the database.';
CREATE FUNCTION shop.is_spelt_like(search text, name text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select search operator(shop.<%) name $$;
COMMENT ON FUNCTION shop.is_spelt_like(search text, name text) IS 'Whether a part of the name is spelt nearly like the search text.';
CREATE FUNCTION shop.likeness(search text, name text) RETURNS real
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select shop.word_similarity(search, name) $$;
CREATE FUNCTION shop.log_in_wait(tries integer, is_slowed boolean) RETURNS interval
    LANGUAGE sql IMMUTABLE
    AS $$
    select case
        when tries >= 5 then least(60, 2 ^ (least(tries, 10) - 4))
        when is_slowed and tries > 0 then 60
        else 0
    end * interval '1 second'
$$;
CREATE FUNCTION shop.note_product_words() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    new.words := shop.product_words(new.name, new.description);
    return new;
end $$;
CREATE FUNCTION shop.product_words(name text, description text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (setweight(to_tsvector('english'::regconfig, shop.folded(name)), 'A'::"char") || setweight(to_tsvector('english'::regconfig, shop.folded(description)), 'B'::"char"));
CREATE UNLOGGED TABLE shop.rate_bucket (
    name_hash bytea NOT NULL,
    full_at timestamp with time zone NOT NULL,
    granted integer NOT NULL,
    burst integer NOT NULL,
    gap_s double precision NOT NULL
)
WITH (fillfactor='60');
COMMENT ON TABLE shop.rate_bucket IS 'Rate limits. A process takes tokens from a bucket in chunks.';
COMMENT ON COLUMN shop.rate_bucket.name_hash IS 'A keyed hash of a caller or of a network address.';
COMMENT ON COLUMN shop.rate_bucket.full_at IS 'The time at which the bucket is full again.';
COMMENT ON COLUMN shop.rate_bucket.granted IS 'The number of tokens that the last statement got.';
COMMENT ON COLUMN shop.rate_bucket.gap_s IS 'Seconds in which the bucket gets one token.';
CREATE FUNCTION shop.rate_grant(full_at timestamp with time zone, asked shop.rate_bucket) RETURNS integer
    LANGUAGE sql IMMUTABLE
    RETURN (GREATEST((0)::double precision, LEAST(((asked).granted)::double precision, floor(((((asked).burst)::double precision - ((GREATEST((0)::numeric, EXTRACT(epoch FROM (full_at - ((asked).full_at - make_interval(secs => (((asked).granted)::double precision * (asked).gap_s)))))))::double precision / (asked).gap_s)) + (0.000001)::double precision)))))::integer;
CREATE FUNCTION shop.refuse_change_of_certificate() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    raise exception 'a certificate of erasure is never changed or deleted'
        using errcode = 'restrict_violation', constraint = 'certificates_are_append_only';
end $$;
CREATE FUNCTION shop.refuse_change_of_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    raise exception 'a domain event is never changed or deleted'
        using errcode = 'restrict_violation', constraint = 'domain_events_are_append_only';
end $$;
CREATE FUNCTION shop.session_id(token_hash bytea) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select encode(set_byte(set_byte(substring(h from 1 for 16),
                                    6, (get_byte(h, 6) & 15) | 128),
                           8, (get_byte(h, 8) & 63) | 128), 'hex')::uuid
    from sha256(token_hash) as h
$$;
CREATE TABLE shop.idempotency (
    scope_hash bytea NOT NULL,
    operation text NOT NULL,
    customer_id uuid,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    location text,
    etag text,
    body bytea NOT NULL,
    created_at timestamp with time zone DEFAULT saga.now() NOT NULL
);
CREATE FUNCTION shop.take_idempotency_key(lock_id bigint, wanted bytea, kept interval) RETURNS SETOF shop.idempotency
    LANGUAGE plpgsql
    AS $$
declare
    answered shop.idempotency;
begin
    if not pg_try_advisory_xact_lock(lock_id) then
        return;
    end if;
    select i.* into answered from shop.idempotency i
    where i.scope_hash = wanted and i.created_at > saga.now() - kept;
    return next answered;
end $$;
CREATE TABLE saga._migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE saga.broker_topology (
    name text NOT NULL,
    declared_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    destroyed text
);
CREATE TABLE saga.bulk (
    shard smallint NOT NULL,
    bulk_id uuid NOT NULL,
    verb jsonb NOT NULL,
    planned_by text NOT NULL,
    reason text NOT NULL,
    filter jsonb NOT NULL,
    status text NOT NULL,
    items integer NOT NULL,
    applied integer DEFAULT 0 NOT NULL,
    refused integer NOT NULL,
    moved_on integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    per_second integer,
    next_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    applied_by text,
    started_at timestamp with time zone,
    stopped_by text,
    ended_at timestamp with time zone,
    CONSTRAINT a_bulk_gets_on CHECK ((per_second > 0)),
    CONSTRAINT a_bulk_has_no_more_results_than_items CHECK (((((applied + refused) + moved_on) + failed) <= items)),
    CONSTRAINT a_running_bulk_has_a_pace CHECK (((status <> 'running'::text) OR ((per_second IS NOT NULL) AND (next_at IS NOT NULL)))),
    CONSTRAINT the_status_of_a_bulk_is_known CHECK ((status = ANY (ARRAY['planned'::text, 'running'::text, 'stopped'::text, 'done'::text])))
);
CREATE TABLE saga.bulk_item (
    shard smallint NOT NULL,
    bulk_id uuid NOT NULL,
    saga_id uuid NOT NULL,
    name text NOT NULL,
    version smallint NOT NULL,
    seq integer NOT NULL,
    outlook jsonb,
    refusal jsonb,
    result text,
    error text,
    tries smallint DEFAULT 0 NOT NULL,
    done_at timestamp with time zone,
    CONSTRAINT a_refused_item_says_why CHECK (((refusal IS NOT NULL) = COALESCE((result = ANY (ARRAY['refused'::text, 'moved_on'::text])), false))),
    CONSTRAINT only_what_was_planned_is_done CHECK (((outlook IS NOT NULL) OR (NOT (result IS DISTINCT FROM 'refused'::text)))),
    CONSTRAINT the_result_is_known CHECK ((result = ANY (ARRAY['applied'::text, 'refused'::text, 'moved_on'::text, 'failed'::text])))
);
CREATE TABLE saga.child_release (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL
);
CREATE TABLE saga.clock (
    only_row boolean DEFAULT true NOT NULL,
    offset_by interval DEFAULT '00:00:00'::interval NOT NULL,
    CONSTRAINT the_clock_has_one_row CHECK (only_row)
);
CREATE TABLE saga.effect (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    step_no integer NOT NULL,
    kind text NOT NULL,
    amount numeric,
    currency text,
    reference text,
    status text NOT NULL,
    at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    undo_reference text,
    CONSTRAINT the_effect_status_is_known CHECK ((status = ANY (ARRAY['intent'::text, 'confirmed'::text, 'refuted'::text, 'undone'::text, 'waived'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0');
CREATE TABLE saga.end_wait (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    waiter_id uuid NOT NULL,
    signal_id text NOT NULL,
    saga text NOT NULL,
    version smallint NOT NULL,
    event jsonb NOT NULL,
    next_at timestamp with time zone
);
CREATE TABLE saga.escalation (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    due_at timestamp with time zone NOT NULL
);
CREATE TABLE saga.feed (
    shard smallint NOT NULL,
    n bigint NOT NULL,
    subject text NOT NULL,
    sequence bigint NOT NULL,
    message_id uuid NOT NULL,
    kind text NOT NULL,
    routing_key text NOT NULL,
    source text NOT NULL,
    data json NOT NULL,
    sealed_for uuid,
    correlation text,
    causation text,
    traceparent text,
    happened_at timestamp with time zone NOT NULL,
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    type_sequence bigint
)
WITH (autovacuum_vacuum_insert_scale_factor='0.05');
CREATE TABLE saga.feed_trouble (
    shard smallint NOT NULL,
    n bigint NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT a_trouble_has_a_known_kind CHECK ((kind = ANY (ARRAY['refused'::text, 'unreadable'::text])))
);
CREATE TABLE saga.inbox (
    shard smallint NOT NULL,
    source text NOT NULL,
    message_id text NOT NULL,
    handled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE saga.instance (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    name text NOT NULL,
    version smallint NOT NULL,
    subject text NOT NULL,
    start_key text DEFAULT ''::text NOT NULL,
    status text NOT NULL,
    waiting_on text,
    state json NOT NULL,
    pending json NOT NULL,
    undos json NOT NULL,
    reason json,
    past_pivot boolean DEFAULT false NOT NULL,
    attempt smallint DEFAULT 0 NOT NULL,
    unknowns smallint DEFAULT 0 NOT NULL,
    unsettled boolean DEFAULT false NOT NULL,
    kept smallint DEFAULT 0 NOT NULL,
    last_error text,
    epoch integer NOT NULL,
    seq integer NOT NULL,
    owner uuid,
    wake_at timestamp with time zone,
    timer_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    parent_id uuid,
    parent_step integer,
    held boolean DEFAULT false NOT NULL,
    ended_at timestamp with time zone,
    priority smallint DEFAULT 1 NOT NULL,
    tags jsonb,
    deadline_at timestamp with time zone,
    queue_key text,
    queued boolean DEFAULT false NOT NULL,
    overdue boolean DEFAULT false NOT NULL,
    suspect boolean DEFAULT false NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    slow boolean DEFAULT false NOT NULL,
    build bigint,
    unread_by bigint,
    because text,
    CONSTRAINT a_priority_is_high_normal_or_low CHECK (((priority >= 0) AND (priority <= 2))),
    CONSTRAINT an_open_instance_has_a_reason_to_wake CHECK (saga.has_a_reason_to_wake(status, waiting_on, wake_at, owner, ended_at, queued, queue_key, parent_id, held)),
    CONSTRAINT only_an_ended_child_has_ended_before_it_is_final CHECK (((ended_at IS NULL) OR (status = ANY ('{completed,unwound,abandoned}'::text[])) OR (waiting_on = 'parent'::text))),
    CONSTRAINT the_shard_is_one_of_64 CHECK (((shard >= 0) AND (shard <= 63))),
    CONSTRAINT the_status_is_known CHECK ((status = ANY ('{running,unwinding,paused,stuck,completed,unwound,abandoned}'::text[])))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0', fillfactor='40');
ALTER TABLE ONLY saga.instance ALTER COLUMN state SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN pending SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN undos SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN last_error SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN failing_since SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN slow SET STATISTICS 0;
ALTER TABLE ONLY saga.instance ALTER COLUMN because SET STATISTICS 0;
COMMENT ON COLUMN saga.instance.unknowns IS 'Answers of the provider that the pending step was not done. Releases before 0012 counted unknown outcomes here.';
CREATE TABLE saga.join_wait (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL
);
CREATE TABLE saga.journal (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    seq integer NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    event json,
    step_no integer,
    attempt smallint,
    started_at timestamp with time zone,
    next json,
    undo json,
    epoch integer NOT NULL
)
PARTITION BY RANGE (at);
ALTER TABLE ONLY saga.journal ALTER COLUMN event SET STATISTICS 0;
ALTER TABLE ONLY saga.journal ALTER COLUMN next SET STATISTICS 0;
ALTER TABLE ONLY saga.journal ALTER COLUMN undo SET STATISTICS 0;
CREATE TABLE saga.journal_default (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    seq integer NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    event json,
    step_no integer,
    attempt smallint,
    started_at timestamp with time zone,
    next json,
    undo json,
    epoch integer NOT NULL
);
ALTER TABLE ONLY saga.journal_default ALTER COLUMN event SET STATISTICS 0;
ALTER TABLE ONLY saga.journal_default ALTER COLUMN next SET STATISTICS 0;
ALTER TABLE ONLY saga.journal_default ALTER COLUMN undo SET STATISTICS 0;
CREATE TABLE saga.kind_pause (
    shard smallint NOT NULL,
    name text NOT NULL,
    paused_at timestamp with time zone NOT NULL,
    paused_by text NOT NULL,
    why text NOT NULL,
    resumed_at timestamp with time zone,
    resumed_by text,
    CONSTRAINT a_resumption_says_who CHECK (((resumed_at IS NULL) = (resumed_by IS NULL)))
);
CREATE TABLE saga.notice (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    seq integer NOT NULL,
    kind text NOT NULL,
    detail jsonb NOT NULL,
    at timestamp with time zone NOT NULL,
    n bigint
);
CREATE TABLE saga.notice_place (
    only_row boolean DEFAULT true NOT NULL,
    n bigint NOT NULL,
    CONSTRAINT the_newest_place_has_one_row CHECK (only_row)
)
WITH (fillfactor='40');
CREATE TABLE saga.outbox (
    shard smallint NOT NULL,
    subject text NOT NULL,
    sequence bigint NOT NULL,
    message_id uuid NOT NULL,
    kind text NOT NULL,
    routing_key text NOT NULL,
    source text NOT NULL,
    data json NOT NULL,
    sealed_for uuid,
    correlation text,
    causation text,
    traceparent text,
    happened_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    next_try_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    error text,
    type_sequence bigint,
    CONSTRAINT a_sequence_starts_at_one CHECK ((sequence > 0))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0');
CREATE UNLOGGED TABLE saga.outbox_relay (
    owner uuid NOT NULL,
    alive_until timestamp with time zone NOT NULL,
    asleep boolean DEFAULT false NOT NULL
);
CREATE TABLE saga.outbox_shard (
    shard smallint NOT NULL,
    owner uuid,
    epoch bigint DEFAULT 0 NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    feed_n bigint DEFAULT 0 NOT NULL,
    feed_kept_from bigint DEFAULT 1 NOT NULL,
    CONSTRAINT there_are_64_shards CHECK (((shard >= 0) AND (shard <= 63)))
)
WITH (fillfactor='40');
CREATE UNLOGGED TABLE saga.outbox_sleep (
    only_row boolean DEFAULT true NOT NULL,
    asleep boolean NOT NULL,
    CONSTRAINT sleep_has_one_row CHECK (only_row)
);
CREATE TABLE saga.quota (
    shard smallint NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    queue_key text DEFAULT ''::text NOT NULL,
    at_once integer,
    starts integer,
    per interval,
    CONSTRAINT a_rate_has_a_period CHECK ((((starts IS NULL) = (per IS NULL)) AND (per > '00:00:00'::interval))),
    CONSTRAINT a_rate_lets_something_start CHECK ((starts > 0)),
    CONSTRAINT at_once_is_not_negative CHECK ((at_once >= 0)),
    CONSTRAINT only_the_quota_of_a_key_names_it CHECK (((scope = 'key'::text) OR (queue_key = ''::text))),
    CONSTRAINT the_scope_is_known CHECK ((scope = ANY (ARRAY['saga'::text, 'each key'::text, 'key'::text])))
);
CREATE TABLE saga.quota_bucket (
    shard smallint NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    queue_key text DEFAULT ''::text NOT NULL,
    full_at timestamp with time zone NOT NULL,
    CONSTRAINT the_scope_has_a_bucket CHECK ((scope = ANY (ARRAY['saga'::text, 'key'::text])))
);
CREATE TABLE saga.schedule (
    shard smallint NOT NULL,
    name text NOT NULL,
    saga text NOT NULL,
    cron text NOT NULL,
    zone text NOT NULL,
    start jsonb NOT NULL,
    catch_up text NOT NULL,
    catch_up_limit integer,
    overlap text NOT NULL,
    next_at timestamp with time zone,
    paused boolean DEFAULT false NOT NULL,
    last_at timestamp with time zone,
    last_saga_id uuid,
    last_error text,
    created_at timestamp with time zone NOT NULL,
    left_out_at timestamp with time zone,
    left_out_why text,
    CONSTRAINT a_schedule_has_a_next_tick_unless_paused CHECK ((paused = (next_at IS NULL))),
    CONSTRAINT only_all_has_a_limit CHECK (((catch_up = 'all'::text) = (catch_up_limit IS NOT NULL))),
    CONSTRAINT the_catch_up_is_known CHECK ((catch_up = ANY (ARRAY['skip'::text, 'one'::text, 'all'::text]))),
    CONSTRAINT the_overlap_is_known CHECK ((overlap = ANY (ARRAY['allow'::text, 'skip'::text])))
);
CREATE TABLE saga.signal (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    signal_id text NOT NULL,
    event jsonb NOT NULL,
    answer text NOT NULL,
    at timestamp with time zone NOT NULL,
    version smallint DEFAULT 1 NOT NULL
);
CREATE TABLE saga.watch (
    shard smallint NOT NULL,
    saga_id uuid NOT NULL,
    step_no integer NOT NULL,
    version smallint NOT NULL,
    activity jsonb NOT NULL,
    undo jsonb NOT NULL,
    until timestamp with time zone NOT NULL,
    next_at timestamp with time zone NOT NULL,
    attempt smallint DEFAULT 0 NOT NULL
);
CREATE TABLE saga.worker (
    worker_id uuid NOT NULL,
    name text NOT NULL,
    kinds jsonb NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    signed_off boolean DEFAULT false NOT NULL,
    build bigint
);
CREATE TABLE shop._migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE shop.access_key (
    id uuid NOT NULL,
    key_hash bytea NOT NULL,
    role text NOT NULL,
    name text NOT NULL,
    scopes text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT saga.now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT an_access_key_expires_after_it_was_made CHECK ((expires_at > created_at)),
    CONSTRAINT an_access_key_has_a_known_role CHECK ((role = ANY (ARRAY['admin'::text, 'operator'::text, 'viewer'::text, 'service'::text])))
);
CREATE TABLE shop.cart (
    cart_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    guest_token_hash bytea,
    merged_into uuid,
    checkout_order_id uuid,
    version bigint DEFAULT 1 NOT NULL,
    event_count bigint DEFAULT 0 NOT NULL,
    last_activity_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    is_watched boolean DEFAULT false NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
COMMENT ON COLUMN shop.cart.guest_token_hash IS 'SHA-256 of the guest''s token; null: a customer''s cart.';
COMMENT ON COLUMN shop.cart.merged_into IS 'The customer''s cart that took this guest cart''s items.';
COMMENT ON COLUMN shop.cart.checkout_order_id IS 'The order being placed from this cart; until it is decided the cart refuses changes.';
COMMENT ON COLUMN shop.cart.version IS 'Raised by every change of the cart or its items.';
COMMENT ON COLUMN shop.cart.is_watched IS 'A cart-expiry saga is open for it.';
CREATE TABLE shop.cart_item (
    cart_item_id uuid NOT NULL,
    cart_id uuid NOT NULL,
    product_id uuid NOT NULL,
    variant_id uuid,
    quantity integer NOT NULL,
    unit_price numeric(16,3) NOT NULL,
    added_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    is_withdrawn boolean DEFAULT false NOT NULL,
    CONSTRAINT an_item_is_at_least_one CHECK ((quantity >= 1))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
COMMENT ON COLUMN shop.cart_item.unit_price IS 'The price when it was put in; an order asks again if it rose.';
COMMENT ON COLUMN shop.cart_item.removed_at IS 'Removed by the customer, who may take that back for 10 minutes.';
COMMENT ON COLUMN shop.cart_item.is_withdrawn IS 'Removed because the product was taken off sale. Shown until the customer clears the cart or places an order.';
CREATE TABLE shop.category (
    category_id uuid NOT NULL,
    parent_category_id uuid,
    name text NOT NULL,
    depth smallint NOT NULL,
    event_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT categories_nest_three_deep CHECK (((depth >= 1) AND (depth <= 3)))
);
COMMENT ON COLUMN shop.category.event_count IS 'Domain events of this aggregate so far; the number of its last one. The same in every table.';
CREATE TABLE shop.customer (
    customer_id uuid NOT NULL,
    email text,
    email_verified_at timestamp with time zone,
    password_hash text,
    first_name text,
    last_name text,
    frozen_at timestamp with time zone,
    event_count bigint DEFAULT 0 NOT NULL,
    published_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    published_types jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT an_email_is_lower_case CHECK ((email = lower(email)))
);
COMMENT ON COLUMN shop.customer.frozen_at IS 'Erasure has begun: every command of this customer is refused, every session is over.';
COMMENT ON COLUMN shop.customer.published_count IS 'Integration events about this subject so far; the sequence of its last one.';
COMMENT ON COLUMN shop.customer.published_types IS 'By type the number of integration events about this customer so far.';
CREATE TABLE shop.customer_export (
    customer_id uuid NOT NULL,
    exported_at timestamp with time zone NOT NULL,
    request_id uuid NOT NULL
);
CREATE TABLE shop.domain_event (
    aggregate_id uuid NOT NULL,
    n bigint NOT NULL,
    event_id uuid NOT NULL,
    aggregate text NOT NULL,
    name text NOT NULL,
    payload jsonb NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    version smallint DEFAULT 1 NOT NULL,
    actor text,
    correlation uuid,
    causation uuid,
    saga_id uuid,
    CONSTRAINT an_aggregate_is_known CHECK ((aggregate = ANY (ARRAY['Customer'::text, 'Cart'::text, 'Order'::text, 'Product'::text, 'Inventory'::text, 'Category'::text, 'Payment'::text])))
);
COMMENT ON COLUMN shop.domain_event.payload IS 'The fields of the catalogue; a personal one is {"sealed": "..."} under the customer''s key.';
COMMENT ON COLUMN shop.domain_event.version IS 'The version of the payload''s form in the catalogue.';
COMMENT ON COLUMN shop.domain_event.actor IS 'The actor: customer:<id>, admin:<id>, service:<id>, system and so on; null: recorded before this column.';
COMMENT ON COLUMN shop.domain_event.correlation IS 'The same for everything that one request leads to: the id of the request, or of the saga that no request has started.';
COMMENT ON COLUMN shop.domain_event.causation IS 'The request or the event that led to this one.';
COMMENT ON COLUMN shop.domain_event.saga_id IS 'The saga whose step recorded it.';
CREATE TABLE shop.door_secret (
    name text NOT NULL,
    secret bytea DEFAULT (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) NOT NULL
);
CREATE TABLE shop.erasure (
    customer_id uuid NOT NULL,
    anonymized_id uuid NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone,
    tax_until timestamp with time zone
);
COMMENT ON COLUMN shop.erasure.anonymized_id IS 'The id in the person''s orders from then on, and the name of the key of their tax records.';
COMMENT ON COLUMN shop.erasure.tax_until IS 'The end of the statutory time: then the key of the tax records is destroyed. Null: it is destroyed, or nothing is erased yet.';
CREATE TABLE shop.erasure_certificate (
    n bigint NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    certificate text NOT NULL,
    written_at timestamp with time zone NOT NULL,
    CONSTRAINT a_certificate_has_a_number CHECK ((n > 0))
);
COMMENT ON COLUMN shop.erasure_certificate.hash IS 'SHA-256 of the previous hash (32 zero bytes for the first row) and the text of the certificate.';
CREATE TABLE shop.gateway_customer (
    customer_id uuid NOT NULL,
    reference text NOT NULL,
    created_at timestamp with time zone NOT NULL
);
COMMENT ON TABLE shop.gateway_customer IS 'The account at the gateway to which a customer''s payment methods are attached.';
CREATE TABLE shop.gateway_event_count (
    kind text NOT NULL,
    events bigint NOT NULL,
    last_event_id text NOT NULL,
    last_at timestamp with time zone NOT NULL
);
COMMENT ON TABLE shop.gateway_event_count IS 'Events of the payment gateway that concern no payment of this shop, by the gateway''s name of their kind.';
CREATE TABLE shop.inventory (
    inventory_id uuid NOT NULL,
    product_id uuid NOT NULL,
    variant_id uuid,
    on_hand integer DEFAULT 0 NOT NULL,
    reserved integer DEFAULT 0 NOT NULL,
    low_stock_threshold integer DEFAULT 5 NOT NULL,
    event_count bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT a_threshold_is_not_negative CHECK ((low_stock_threshold >= 0)),
    CONSTRAINT reserved_stock_is_on_hand CHECK (((0 <= reserved) AND (reserved <= on_hand)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
COMMENT ON COLUMN shop.inventory.variant_id IS 'Null: the product has no variants.';
COMMENT ON COLUMN shop.inventory.reserved IS 'Always the sum of the open reservations; available is on_hand - reserved.';
CREATE TABLE shop.inventory_audit (
    inventory_id uuid NOT NULL,
    n bigint NOT NULL,
    change text NOT NULL,
    actor uuid NOT NULL,
    reason text NOT NULL,
    order_id uuid,
    on_hand_before integer NOT NULL,
    on_hand_after integer NOT NULL,
    reserved_before integer NOT NULL,
    reserved_after integer NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    CONSTRAINT an_inventory_change_is_known CHECK ((change = ANY (ARRAY['set'::text, 'adjusted'::text, 'reserved'::text, 'released'::text, 'deducted'::text])))
);
COMMENT ON COLUMN shop.inventory_audit.n IS 'The number of the domain event that tells of the change.';
CREATE TABLE shop.key_store (
    one boolean DEFAULT true NOT NULL,
    fingerprint uuid NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT a_database_has_one_key_store CHECK (one)
);
CREATE UNLOGGED TABLE shop.log_in_attempt (
    scope_hash bytea NOT NULL,
    tries integer NOT NULL,
    last_at timestamp with time zone NOT NULL,
    succeeded_at timestamp with time zone,
    customer_id uuid
);
CREATE UNLOGGED TABLE shop.mail_request (
    scope_hash bytea NOT NULL,
    asked_at timestamp with time zone[] NOT NULL,
    last_at timestamp with time zone NOT NULL
);
CREATE TABLE shop."order" (
    order_id uuid NOT NULL,
    order_number text NOT NULL,
    customer_id uuid NOT NULL,
    cart_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    status text NOT NULL,
    item_count integer NOT NULL,
    subtotal numeric(16,3) NOT NULL,
    shipping_cost numeric(16,3) NOT NULL,
    tax numeric(16,3) NOT NULL,
    total_amount numeric(16,3) NOT NULL,
    currency text NOT NULL,
    shipping_address text NOT NULL,
    cancel_reason text,
    failure_reason text,
    confirmed_by uuid,
    tracking_number text,
    carrier text,
    version bigint DEFAULT 1 NOT NULL,
    event_count bigint DEFAULT 0 NOT NULL,
    published_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    published_types jsonb DEFAULT '{}'::jsonb NOT NULL,
    tax_record text,
    CONSTRAINT an_order_status_is_known CHECK ((status = ANY (ARRAY['placing'::text, 'pending'::text, 'confirmed'::text, 'shipped'::text, 'delivered'::text, 'cancelled'::text, 'failed'::text]))),
    CONSTRAINT the_total_is_the_sum_of_its_parts CHECK ((total_amount = ((subtotal + shipping_cost) + tax)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
COMMENT ON COLUMN shop."order".payment_id IS 'The payment in force; an earlier one may have lapsed.';
COMMENT ON COLUMN shop."order".shipping_address IS 'Sealed under the customer''s key.';
COMMENT ON COLUMN shop."order".cancel_reason IS 'Sealed under the customer''s key: it is free text.';
COMMENT ON COLUMN shop."order".published_types IS 'By type the number of integration events about this order so far.';
COMMENT ON COLUMN shop."order".tax_record IS 'Of an erased customer whose order was paid: name and address, sealed under the key that is kept for the statutory time.';
CREATE TABLE shop.order_line (
    order_id uuid NOT NULL,
    line_no smallint NOT NULL,
    product_id uuid NOT NULL,
    variant_id uuid,
    name text NOT NULL,
    quantity integer NOT NULL,
    unit_price numeric(16,3) NOT NULL,
    line_total numeric(16,3) NOT NULL,
    CONSTRAINT a_line_is_at_least_one CHECK ((quantity >= 1)),
    CONSTRAINT a_line_total_is_price_by_quantity CHECK ((line_total = (unit_price * (quantity)::numeric)))
);
CREATE TABLE shop.parked_gateway_event (
    event_id text NOT NULL,
    why text NOT NULL,
    kind text NOT NULL,
    reference text,
    order_id uuid,
    amount numeric(16,3),
    currency text,
    happened_at timestamp with time zone,
    parked_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    verb text,
    verb_by text,
    verb_reason text,
    verb_at timestamp with time zone,
    CONSTRAINT a_misfit_is_known CHECK ((why = ANY (ARRAY['unknown_payment'::text, 'other_amount'::text, 'unreadable'::text, 'contradicts_our_books'::text, 'refund_failed'::text, 'dispute'::text]))),
    CONSTRAINT a_verb_on_a_parked_event_is_known CHECK ((verb = ANY (ARRAY['retry'::text, 'dismiss'::text]))),
    CONSTRAINT a_verb_on_a_parked_event_says_who_why_and_when CHECK ((num_nulls(verb, verb_by, verb_reason, verb_at) = ANY (ARRAY[0, 4]))),
    CONSTRAINT an_ended_parked_event_says_how CHECK (((ended_at IS NULL) OR (verb IS NOT NULL)))
);
COMMENT ON TABLE shop.parked_gateway_event IS 'Events of the payment gateway that a person must look at, and those that a person has ended in the last 90 days.';
COMMENT ON COLUMN shop.parked_gateway_event.ended_at IS 'Null: the event waits for a person.';
COMMENT ON COLUMN shop.parked_gateway_event.verb IS 'The last verb of an operator. A retry that changed nothing leaves the event waiting.';
COMMENT ON COLUMN shop.parked_gateway_event.verb_by IS 'The actor as in the causes of events, or the name that was given on the command line.';
CREATE TABLE shop.password_reset (
    customer_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
COMMENT ON COLUMN shop.password_reset.token_hash IS 'SHA-256 of the token, which is not kept.';
CREATE TABLE shop.payment (
    payment_id uuid NOT NULL,
    order_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    payment_method_id uuid NOT NULL,
    method text NOT NULL,
    state text NOT NULL,
    amount numeric(16,3) NOT NULL,
    currency text NOT NULL,
    refunded_amount numeric(16,3) DEFAULT 0 NOT NULL,
    authorization_id text,
    failure_reason text,
    event_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    ask_at timestamp with time zone,
    unanswered smallint DEFAULT 0 NOT NULL,
    CONSTRAINT a_payment_state_is_known CHECK ((state = ANY (ARRAY['authorizing'::text, 'authorized'::text, 'captured'::text, 'partially_refunded'::text, 'refunded'::text, 'voided'::text, 'declined'::text, 'unknown'::text]))),
    CONSTRAINT a_refund_never_exceeds_what_was_taken CHECK ((((0)::numeric <= refunded_amount) AND (refunded_amount <= amount)))
)
WITH (fillfactor='70');
COMMENT ON COLUMN shop.payment.method IS 'Kind and brand, such as card:visa; never a number.';
COMMENT ON COLUMN shop.payment.authorization_id IS 'The provider''s reference, by which its webhooks name the payment.';
COMMENT ON COLUMN shop.payment.ask_at IS 'When the gateway is asked about the payment again; null: it was not asked since the last change, and the time of its creation counts.';
COMMENT ON COLUMN shop.payment.unanswered IS 'How many questions in a row about the payment had no answer that could be read, while the gateway answered others.';
CREATE TABLE shop.payment_method (
    payment_method_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    kind text NOT NULL,
    token text,
    brand text NOT NULL,
    last4 text,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    attachment text,
    CONSTRAINT a_card_has_a_token CHECK (((kind = 'paypal'::text) OR (token IS NOT NULL))),
    CONSTRAINT a_method_kind_is_known CHECK ((kind = ANY (ARRAY['card'::text, 'paypal'::text]))),
    CONSTRAINT an_attachment_is_known CHECK ((attachment = ANY (ARRAY['asked'::text, 'attached'::text, 'refused'::text, 'detached'::text]))),
    CONSTRAINT last4_is_four_digits CHECK ((last4 ~ '^[0-9]{4}$'::text))
);
COMMENT ON COLUMN shop.payment_method.token IS 'The gateway''s own token. A card number never reaches this database. Null: PayPal has not opened the approval yet.';
COMMENT ON COLUMN shop.payment_method.attachment IS 'Null: nobody has asked the gateway to attach the method. Asked: orders that are paid with it wait until that is decided.';
CREATE TABLE shop.payment_transaction (
    transaction_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    amount numeric(16,3) NOT NULL,
    currency text NOT NULL,
    key text,
    reference text,
    reason text,
    requested_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT a_move_of_money_is_known CHECK ((kind = ANY (ARRAY['authorize'::text, 'capture'::text, 'void'::text, 'refund'::text, 'dispute'::text]))),
    CONSTRAINT a_transaction_state_is_known CHECK ((state = ANY (ARRAY['requested'::text, 'succeeded'::text, 'failed'::text, 'unknown'::text])))
)
WITH (fillfactor='80');
COMMENT ON COLUMN shop.payment_transaction.key IS 'The idempotency key the provider was given; known once the move is settled. Null: the shop did not ask for this move.';
CREATE TABLE shop.paypal_approval (
    payment_method_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    amount numeric(16,3) NOT NULL,
    currency text NOT NULL,
    return_url text NOT NULL,
    cancel_url text NOT NULL,
    state text NOT NULL,
    order_id uuid,
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT an_approval_is_of_some_money CHECK ((amount > (0)::numeric)),
    CONSTRAINT an_approval_names_the_order_that_uses_it CHECK (((state = 'used'::text) = (order_id IS NOT NULL))),
    CONSTRAINT an_approval_state_is_known CHECK ((state = ANY (ARRAY['pending'::text, 'approved'::text, 'used'::text, 'expired'::text])))
);
COMMENT ON COLUMN shop.paypal_approval.return_url IS 'Plain, and perhaps personal: PayPal is told it once, when the approval is opened.';
COMMENT ON COLUMN shop.paypal_approval.expires_at IS 'Pending: until when the customer may approve. Approved: until when PayPal holds the approval for an order. Null: not opened yet.';
CREATE TABLE shop.product (
    product_id uuid NOT NULL,
    category_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    price numeric(16,3) NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    has_variants boolean DEFAULT false NOT NULL,
    deleted_at timestamp with time zone,
    version bigint DEFAULT 1 NOT NULL,
    event_count bigint DEFAULT 0 NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    published_count bigint DEFAULT 0 NOT NULL,
    published_types jsonb DEFAULT '{}'::jsonb NOT NULL,
    words tsvector,
    CONSTRAINT a_price_is_at_least_a_cent CHECK ((price >= 0.01)),
    CONSTRAINT a_product_name_has_1_to_200_characters CHECK (((char_length(name) >= 1) AND (char_length(name) <= 200))),
    CONSTRAINT a_product_status_is_known CHECK ((status = ANY (ARRAY['draft'::text, 'active'::text, 'inactive'::text])))
);
COMMENT ON COLUMN shop.product.deleted_at IS 'Soft-deleted: out of the catalogue and the carts, still named by old orders.';
COMMENT ON COLUMN shop.product.published_count IS 'How many messages about it were written for partners.';
COMMENT ON COLUMN shop.product.published_types IS 'The same by the type of the message.';
COMMENT ON COLUMN shop.product.words IS 'The words of the name (weight A) and of the description (weight B).';
CREATE TABLE shop.product_variant (
    variant_id uuid NOT NULL,
    product_id uuid NOT NULL,
    name text NOT NULL,
    price numeric(16,3),
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT a_variant_name_has_1_to_200_characters CHECK (((char_length(name) >= 1) AND (char_length(name) <= 200))),
    CONSTRAINT a_variant_price_is_at_least_a_cent CHECK ((price >= 0.01))
);
COMMENT ON COLUMN shop.product_variant.price IS 'Null: the price of its product.';
CREATE TABLE shop.reservation (
    order_id uuid NOT NULL,
    inventory_id uuid NOT NULL,
    source text NOT NULL,
    quantity integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT a_reservation_holds_something CHECK ((quantity > 0)),
    CONSTRAINT a_reservation_source_is_known CHECK ((source = ANY (ARRAY['placement'::text, 'manual'::text])))
);
COMMENT ON COLUMN shop.reservation.source IS 'placement: made by an order. manual: by reserveInventory, the only ones releaseInventory frees.';
COMMENT ON COLUMN shop.reservation.expires_at IS 'When a reservation by hand is released by itself. Null: only with its order.';
CREATE TABLE shop.session (
    token_hash bytea NOT NULL,
    customer_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    agent text,
    network text
);
COMMENT ON COLUMN shop.session.last_seen_at IS 'Kept to within ten minutes, to spare a write a request.';
COMMENT ON COLUMN shop.session.agent IS 'The program that logged in, as it named itself.';
COMMENT ON COLUMN shop.session.network IS 'The network that it logged in from: an address prefix.';
CREATE TABLE shop.shipping_address (
    address_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    recipient_name text NOT NULL,
    street text NOT NULL,
    city text NOT NULL,
    state text NOT NULL,
    postal_code text NOT NULL,
    country text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone
);
CREATE TABLE shop.verification_token (
    token_hash bytea NOT NULL,
    customer_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone
);
COMMENT ON COLUMN shop.verification_token.token_hash IS 'SHA-256 of the token, which is not kept.';
CREATE UNLOGGED TABLE shop.wrong_log_in (
    minute timestamp with time zone NOT NULL,
    log_ins integer NOT NULL
)
WITH (fillfactor='60');
COMMENT ON TABLE shop.wrong_log_in IS 'Counts of log-ins with a wrong address or password. They rise when somebody guesses at many accounts.';
ALTER TABLE ONLY saga.journal ATTACH PARTITION saga.journal_default DEFAULT;
ALTER TABLE ONLY saga._migrations
    ADD CONSTRAINT _migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY saga.notice
    ADD CONSTRAINT a_commit_tells_a_kind_once PRIMARY KEY (shard, saga_id, seq, kind);
ALTER TABLE ONLY saga.inbox
    ADD CONSTRAINT a_message_is_handled_once PRIMARY KEY (shard, source, message_id);
ALTER TABLE ONLY saga.notice
    ADD CONSTRAINT a_place_among_notices_is_given_once UNIQUE (n);
ALTER TABLE ONLY saga.feed
    ADD CONSTRAINT a_position_is_given_once PRIMARY KEY (shard, n);
ALTER TABLE ONLY saga.feed_trouble
    ADD CONSTRAINT a_published_message_has_one_trouble_of_a_kind PRIMARY KEY (shard, n, kind);
ALTER TABLE ONLY saga.outbox
    ADD CONSTRAINT a_subject_publishes_a_sequence_once PRIMARY KEY (shard, subject, sequence);
ALTER TABLE ONLY saga.broker_topology
    ADD CONSTRAINT broker_topology_pkey PRIMARY KEY (name);
ALTER TABLE ONLY saga.bulk_item
    ADD CONSTRAINT bulk_item_pkey PRIMARY KEY (shard, bulk_id, saga_id);
ALTER TABLE ONLY saga.bulk
    ADD CONSTRAINT bulk_pkey PRIMARY KEY (shard, bulk_id);
ALTER TABLE ONLY saga.child_release
    ADD CONSTRAINT child_release_pkey PRIMARY KEY (shard, saga_id);
ALTER TABLE ONLY saga.clock
    ADD CONSTRAINT clock_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY saga.effect
    ADD CONSTRAINT effect_pkey PRIMARY KEY (shard, saga_id, step_no);
ALTER TABLE ONLY saga.end_wait
    ADD CONSTRAINT end_wait_pkey PRIMARY KEY (shard, saga_id, waiter_id, signal_id);
ALTER TABLE ONLY saga.escalation
    ADD CONSTRAINT escalation_pkey PRIMARY KEY (shard, saga_id);
ALTER TABLE ONLY saga.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (shard, saga_id);
ALTER TABLE ONLY saga.join_wait
    ADD CONSTRAINT join_wait_pkey PRIMARY KEY (shard, saga_id);
ALTER TABLE ONLY saga.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (shard, saga_id, seq, at);
ALTER TABLE ONLY saga.journal_default
    ADD CONSTRAINT journal_default_pkey PRIMARY KEY (shard, saga_id, seq, at);
ALTER TABLE ONLY saga.kind_pause
    ADD CONSTRAINT kind_pause_pkey PRIMARY KEY (shard, name, paused_at);
ALTER TABLE ONLY saga.notice_place
    ADD CONSTRAINT notice_place_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY saga.outbox_relay
    ADD CONSTRAINT outbox_relay_pkey PRIMARY KEY (owner);
ALTER TABLE ONLY saga.outbox_shard
    ADD CONSTRAINT outbox_shard_pkey PRIMARY KEY (shard);
ALTER TABLE ONLY saga.outbox_sleep
    ADD CONSTRAINT outbox_sleep_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY saga.quota_bucket
    ADD CONSTRAINT quota_bucket_pkey PRIMARY KEY (shard, name, scope, queue_key);
ALTER TABLE ONLY saga.quota
    ADD CONSTRAINT quota_pkey PRIMARY KEY (shard, name, scope, queue_key);
ALTER TABLE ONLY saga.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (shard, name);
ALTER TABLE ONLY saga.signal
    ADD CONSTRAINT signal_pkey PRIMARY KEY (shard, saga_id, signal_id);
ALTER TABLE ONLY saga.watch
    ADD CONSTRAINT watch_pkey PRIMARY KEY (shard, saga_id, step_no);
ALTER TABLE ONLY saga.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (worker_id);
ALTER TABLE ONLY shop._migrations
    ADD CONSTRAINT _migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY shop.erasure_certificate
    ADD CONSTRAINT a_certificate_is_written_once UNIQUE (hash);
ALTER TABLE ONLY shop.cart
    ADD CONSTRAINT a_customer_has_one_cart UNIQUE (customer_id);
ALTER TABLE ONLY shop.cart
    ADD CONSTRAINT a_guest_token_opens_one_cart UNIQUE (guest_token_hash);
ALTER TABLE ONLY shop.password_reset
    ADD CONSTRAINT a_reset_token_is_unique UNIQUE (token_hash);
ALTER TABLE ONLY shop.access_key
    ADD CONSTRAINT access_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY shop.access_key
    ADD CONSTRAINT an_access_key_is_unique UNIQUE (key_hash);
ALTER TABLE ONLY shop.erasure
    ADD CONSTRAINT an_anonymized_id_stands_for_one_person UNIQUE (anonymized_id);
ALTER TABLE ONLY shop.customer
    ADD CONSTRAINT an_email_is_registered_once UNIQUE (email);
ALTER TABLE ONLY shop."order"
    ADD CONSTRAINT an_order_number_is_unique UNIQUE (order_number);
ALTER TABLE ONLY shop.cart_item
    ADD CONSTRAINT cart_item_pkey PRIMARY KEY (cart_item_id);
ALTER TABLE ONLY shop.cart
    ADD CONSTRAINT cart_pkey PRIMARY KEY (cart_id);
ALTER TABLE ONLY shop.category
    ADD CONSTRAINT category_pkey PRIMARY KEY (category_id);
ALTER TABLE ONLY shop.customer_export
    ADD CONSTRAINT customer_export_pkey PRIMARY KEY (customer_id, exported_at, request_id);
ALTER TABLE ONLY shop.customer
    ADD CONSTRAINT customer_pkey PRIMARY KEY (customer_id);
ALTER TABLE ONLY shop.domain_event
    ADD CONSTRAINT domain_event_pkey PRIMARY KEY (aggregate_id, n);
ALTER TABLE ONLY shop.door_secret
    ADD CONSTRAINT door_secret_pkey PRIMARY KEY (name);
ALTER TABLE ONLY shop.erasure_certificate
    ADD CONSTRAINT erasure_certificate_pkey PRIMARY KEY (n);
ALTER TABLE ONLY shop.erasure
    ADD CONSTRAINT erasure_pkey PRIMARY KEY (customer_id);
ALTER TABLE ONLY shop.gateway_customer
    ADD CONSTRAINT gateway_customer_pkey PRIMARY KEY (customer_id);
ALTER TABLE ONLY shop.gateway_event_count
    ADD CONSTRAINT gateway_event_count_pkey PRIMARY KEY (kind);
ALTER TABLE ONLY shop.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (scope_hash);
ALTER TABLE ONLY shop.inventory_audit
    ADD CONSTRAINT inventory_audit_pkey PRIMARY KEY (inventory_id, n);
ALTER TABLE ONLY shop.inventory
    ADD CONSTRAINT inventory_pkey PRIMARY KEY (inventory_id);
ALTER TABLE ONLY shop.key_store
    ADD CONSTRAINT key_store_pkey PRIMARY KEY (one);
ALTER TABLE ONLY shop.log_in_attempt
    ADD CONSTRAINT log_in_attempt_pkey PRIMARY KEY (scope_hash);
ALTER TABLE ONLY shop.mail_request
    ADD CONSTRAINT mail_request_pkey PRIMARY KEY (scope_hash);
ALTER TABLE ONLY shop.order_line
    ADD CONSTRAINT order_line_pkey PRIMARY KEY (order_id, line_no);
ALTER TABLE ONLY shop."order"
    ADD CONSTRAINT order_pkey PRIMARY KEY (order_id);
ALTER TABLE ONLY shop.parked_gateway_event
    ADD CONSTRAINT parked_gateway_event_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY shop.password_reset
    ADD CONSTRAINT password_reset_pkey PRIMARY KEY (customer_id);
ALTER TABLE ONLY shop.payment_method
    ADD CONSTRAINT payment_method_pkey PRIMARY KEY (payment_method_id);
ALTER TABLE ONLY shop.payment
    ADD CONSTRAINT payment_pkey PRIMARY KEY (payment_id);
ALTER TABLE ONLY shop.payment_transaction
    ADD CONSTRAINT payment_transaction_pkey PRIMARY KEY (transaction_id);
ALTER TABLE ONLY shop.paypal_approval
    ADD CONSTRAINT paypal_approval_pkey PRIMARY KEY (payment_method_id);
ALTER TABLE ONLY shop.product
    ADD CONSTRAINT product_pkey PRIMARY KEY (product_id);
ALTER TABLE ONLY shop.product_variant
    ADD CONSTRAINT product_variant_pkey PRIMARY KEY (variant_id);
ALTER TABLE ONLY shop.rate_bucket
    ADD CONSTRAINT rate_bucket_pkey PRIMARY KEY (name_hash);
ALTER TABLE ONLY shop.reservation
    ADD CONSTRAINT reservation_pkey PRIMARY KEY (order_id, inventory_id, source);
ALTER TABLE ONLY shop.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (token_hash);
ALTER TABLE ONLY shop.shipping_address
    ADD CONSTRAINT shipping_address_pkey PRIMARY KEY (address_id);
ALTER TABLE ONLY shop.inventory
    ADD CONSTRAINT there_is_one_inventory_per_product_and_variant UNIQUE NULLS NOT DISTINCT (product_id, variant_id);
ALTER TABLE ONLY shop.verification_token
    ADD CONSTRAINT verification_token_pkey PRIMARY KEY (token_hash);
ALTER TABLE ONLY shop.wrong_log_in
    ADD CONSTRAINT wrong_log_in_pkey PRIMARY KEY (minute);
CREATE UNIQUE INDEX a_kind_is_paused_once ON saga.kind_pause USING btree (shard, name) WHERE (resumed_at IS NULL);
CREATE INDEX bulk_item_left ON saga.bulk_item USING btree (bulk_id, tries, shard, saga_id) WHERE (result IS NULL);
CREATE INDEX bulk_running ON saga.bulk USING btree (next_at) WHERE (status = 'running'::text);
CREATE INDEX end_wait_by_waiter ON saga.end_wait USING btree (waiter_id);
CREATE INDEX escalation_due ON saga.escalation USING btree (due_at);
CREATE INDEX inbox_by_age ON saga.inbox USING brin (handled_at);
CREATE INDEX instance_by_deadline ON saga.instance USING btree (deadline_at) WHERE ((deadline_at IS NOT NULL) AND (ended_at IS NULL) AND (NOT overdue));
CREATE INDEX instance_by_parent ON saga.instance USING btree (shard, parent_id) WHERE (parent_id IS NOT NULL);
CREATE INDEX instance_by_subject ON saga.instance USING btree (shard, subject);
CREATE INDEX instance_by_tag ON saga.instance USING gin (tags jsonb_path_ops) WHERE (tags IS NOT NULL);
CREATE INDEX instance_due ON saga.instance USING btree (priority, wake_at) WHERE (wake_at IS NOT NULL);
CREATE INDEX instance_in_queue ON saga.instance USING btree (name, queued, queue_key, priority, saga_id) WHERE ((queue_key IS NOT NULL) AND (ended_at IS NULL));
CREATE INDEX instance_in_trouble ON saga.instance USING btree (status, saga_id) WHERE (status = ANY (ARRAY['unwinding'::text, 'paused'::text, 'stuck'::text]));
CREATE INDEX instance_open_child ON saga.instance USING btree (shard, parent_id) WHERE ((parent_id IS NOT NULL) AND (ended_at IS NULL));
CREATE INDEX instance_owned ON saga.instance USING btree (owner) WHERE (owner IS NOT NULL);
CREATE INDEX notice_without_place ON saga.notice USING btree (at) WHERE (n IS NULL);
CREATE UNIQUE INDEX one_open_instance_per_subject ON saga.instance USING btree (shard, name, subject, start_key) WHERE (status <> ALL (ARRAY['completed'::text, 'unwound'::text, 'abandoned'::text]));
CREATE INDEX schedule_due ON saga.schedule USING btree (next_at) WHERE (next_at IS NOT NULL);
CREATE INDEX watch_due ON saga.watch USING btree (next_at);
CREATE UNIQUE INDEX a_category_name_is_unique ON shop.category USING btree (shop.folded(name));
CREATE UNIQUE INDEX a_paypal_token_names_one_method ON shop.payment_method USING btree (token) WHERE (kind = 'paypal'::text);
CREATE UNIQUE INDEX a_product_lies_in_a_cart_once ON shop.cart_item USING btree (cart_id, product_id, variant_id) NULLS NOT DISTINCT WHERE (removed_at IS NULL);
CREATE UNIQUE INDEX a_variant_name_is_unique_in_its_product ON shop.product_variant USING btree (product_id, shop.folded(name));
CREATE UNIQUE INDEX an_authorization_belongs_to_one_payment ON shop.payment USING btree (authorization_id);
CREATE UNIQUE INDEX an_order_has_one_live_payment ON shop.payment USING btree (order_id) WHERE (state <> ALL (ARRAY['refunded'::text, 'voided'::text, 'declined'::text]));
CREATE INDEX cart_item_by_cart ON shop.cart_item USING btree (cart_id);
CREATE INDEX cart_item_by_product ON shop.cart_item USING btree (product_id, cart_id) WHERE (removed_at IS NULL);
CREATE INDEX cart_not_watched ON shop.cart USING btree (last_activity_at) WHERE (NOT is_watched);
CREATE INDEX erasure_tax_until ON shop.erasure USING btree (tax_until) WHERE (tax_until IS NOT NULL);
CREATE INDEX idempotency_created_at ON shop.idempotency USING btree (created_at);
CREATE INDEX idempotency_customer ON shop.idempotency USING btree (customer_id) WHERE (customer_id IS NOT NULL);
CREATE INDEX log_in_attempt_customer ON shop.log_in_attempt USING btree (customer_id) WHERE (customer_id IS NOT NULL);
CREATE INDEX log_in_attempt_last_at ON shop.log_in_attempt USING btree (last_at) WHERE (succeeded_at IS NULL);
CREATE INDEX log_in_attempt_succeeded_at ON shop.log_in_attempt USING btree (succeeded_at) WHERE (succeeded_at IS NOT NULL);
CREATE INDEX mail_request_last_at ON shop.mail_request USING btree (last_at);
CREATE INDEX manual_reservation_by_age ON shop.reservation USING btree (inventory_id, created_at) WHERE (source = 'manual'::text);
CREATE INDEX order_by_customer ON shop."order" USING btree (customer_id, order_id);
CREATE INDEX order_by_customer_and_time ON shop."order" USING btree (customer_id, created_at, order_id);
CREATE INDEX order_by_status ON shop."order" USING btree (status, created_at, order_id);
CREATE INDEX order_by_time ON shop."order" USING btree (created_at, order_id);
CREATE INDEX parked_gateway_event_by_end ON shop.parked_gateway_event USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX parked_gateway_event_waiting ON shop.parked_gateway_event USING btree (parked_at, event_id) WHERE (ended_at IS NULL);
CREATE INDEX payment_by_order ON shop.payment USING btree (order_id);
CREATE INDEX payment_method_by_customer ON shop.payment_method USING btree (customer_id, payment_method_id);
CREATE INDEX payment_method_removed ON shop.payment_method USING btree (removed_at) WHERE (removed_at IS NOT NULL);
CREATE INDEX payment_to_ask ON shop.payment USING btree (COALESCE(ask_at, created_at)) WHERE (state = ANY (ARRAY['authorized'::text, 'captured'::text, 'partially_refunded'::text, 'refunded'::text]));
CREATE INDEX payment_transaction_by_payment ON shop.payment_transaction USING btree (payment_id);
CREATE INDEX paypal_approval_by_order ON shop.paypal_approval USING btree (order_id) WHERE (order_id IS NOT NULL);
CREATE INDEX paypal_approval_pending ON shop.paypal_approval USING btree (customer_id) WHERE (state = 'pending'::text);
CREATE INDEX paypal_approval_unused ON shop.paypal_approval USING btree (payment_method_id) WHERE (state <> 'used'::text);
CREATE INDEX product_by_category ON shop.product USING btree (category_id, product_id);
CREATE INDEX product_by_price ON shop.product USING btree (price, product_id) WHERE (deleted_at IS NULL);
CREATE INDEX product_by_price_in_category ON shop.product USING btree (category_id, price, product_id) WHERE (deleted_at IS NULL);
CREATE INDEX product_by_spelling ON shop.product USING gin (name shop.gin_trgm_ops) WHERE (deleted_at IS NULL);
CREATE INDEX product_by_words ON shop.product USING gin (words) WHERE (deleted_at IS NULL);
CREATE INDEX session_by_customer ON shop.session USING btree (customer_id);
CREATE INDEX session_by_end ON shop.session USING btree (expires_at);
CREATE INDEX shipping_address_by_customer ON shop.shipping_address USING btree (customer_id, address_id);
CREATE INDEX verification_token_by_customer ON shop.verification_token USING btree (customer_id);
CREATE INDEX verification_token_by_end ON shop.verification_token USING btree (expires_at);
ALTER INDEX saga.journal_pkey ATTACH PARTITION saga.journal_default_pkey;
CREATE TRIGGER certificates_are_append_only BEFORE DELETE OR UPDATE ON shop.erasure_certificate FOR EACH ROW EXECUTE FUNCTION shop.refuse_change_of_certificate();
CREATE TRIGGER certificates_are_not_truncated BEFORE TRUNCATE ON shop.erasure_certificate FOR EACH STATEMENT EXECUTE FUNCTION shop.refuse_change_of_certificate();
CREATE TRIGGER domain_events_are_append_only BEFORE DELETE OR UPDATE ON shop.domain_event FOR EACH ROW EXECUTE FUNCTION shop.refuse_change_of_event();
CREATE TRIGGER domain_events_are_not_truncated BEFORE TRUNCATE ON shop.domain_event FOR EACH STATEMENT EXECUTE FUNCTION shop.refuse_change_of_event();
CREATE TRIGGER product_words_are_noted BEFORE INSERT OR UPDATE OF name, description ON shop.product FOR EACH ROW EXECUTE FUNCTION shop.note_product_words();
ALTER TABLE ONLY shop.category
    ADD CONSTRAINT a_category_has_a_known_parent FOREIGN KEY (parent_category_id) REFERENCES shop.category(category_id);
ALTER TABLE ONLY shop.order_line
    ADD CONSTRAINT a_line_belongs_to_an_order FOREIGN KEY (order_id) REFERENCES shop."order"(order_id);
ALTER TABLE ONLY shop.payment_method
    ADD CONSTRAINT a_method_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id);
ALTER TABLE ONLY shop.password_reset
    ADD CONSTRAINT a_password_reset_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id) ON DELETE CASCADE;
ALTER TABLE ONLY shop.product
    ADD CONSTRAINT a_product_has_a_known_category FOREIGN KEY (category_id) REFERENCES shop.category(category_id);
ALTER TABLE ONLY shop.session
    ADD CONSTRAINT a_session_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id);
ALTER TABLE ONLY shop.verification_token
    ADD CONSTRAINT a_token_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id);
ALTER TABLE ONLY shop.product_variant
    ADD CONSTRAINT a_variant_belongs_to_a_product FOREIGN KEY (product_id) REFERENCES shop.product(product_id);
ALTER TABLE ONLY shop.gateway_customer
    ADD CONSTRAINT an_account_at_the_gateway_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id) ON DELETE CASCADE;
ALTER TABLE ONLY shop.shipping_address
    ADD CONSTRAINT an_address_belongs_to_a_customer FOREIGN KEY (customer_id) REFERENCES shop.customer(customer_id);
ALTER TABLE ONLY shop.paypal_approval
    ADD CONSTRAINT an_approval_belongs_to_a_method FOREIGN KEY (payment_method_id) REFERENCES shop.payment_method(payment_method_id) ON DELETE CASCADE;
ALTER TABLE ONLY shop.cart_item
    ADD CONSTRAINT an_item_lies_in_a_cart FOREIGN KEY (cart_id) REFERENCES shop.cart(cart_id);
