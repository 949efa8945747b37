-- Why each event came about, and that it stays as it is.
alter table shop.domain_event
    add column version smallint not null default 1,
    add column actor text,
    add column correlation uuid,
    add column causation uuid,
    add column saga_id uuid;
comment on column shop.domain_event.version is 'The version of the payload''s form in the catalogue.';
comment on column shop.domain_event.actor is
    'The actor: customer:<id>, admin:<id>, service:<id>, system and so on; null: recorded before this column.';
comment on column shop.domain_event.correlation is
    'The same for everything that one request leads to: the id of the request, or of the saga that no request has started.';
comment on column shop.domain_event.causation is 'The request or the event that led to this one.';
comment on column shop.domain_event.saga_id is 'The saga whose step recorded it.';

-- Erasing a person destroys their key, after which nobody can read what is sealed in their events. It changes no event.
create function shop.refuse_change_of_event() returns trigger language plpgsql as $$
begin
    raise exception 'a domain event is never changed or deleted'
        using errcode = 'restrict_violation', constraint = 'domain_events_are_append_only';
end $$;
create trigger domain_events_are_append_only before update or delete on shop.domain_event
    for each row execute function shop.refuse_change_of_event();
create trigger domain_events_are_not_truncated before truncate on shop.domain_event
    for each statement execute function shop.refuse_change_of_event();

-- The messages about an order are counted by type as well.
alter table shop."order" add column published_types jsonb not null default '{}';
comment on column shop."order".published_types is
    'By type the number of integration events about this order so far.';
