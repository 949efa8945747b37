-- An operator ends a parked gateway event: it is retried, or dismissed. Its row stays for 90 days as the record of that.
alter table shop.parked_gateway_event
    add column ended_at timestamptz,
    add column verb text constraint a_verb_on_a_parked_event_is_known check (verb in ('retry', 'dismiss')),
    add column verb_by text,
    add column verb_reason text,
    add column verb_at timestamptz,
    add constraint an_ended_parked_event_says_how check (ended_at is null or verb is not null),
    add constraint a_verb_on_a_parked_event_says_who_why_and_when
        check (num_nulls(verb, verb_by, verb_reason, verb_at) in (0, 4));
create index parked_gateway_event_waiting on shop.parked_gateway_event (parked_at, event_id) where ended_at is null;
comment on table shop.parked_gateway_event is
    'Events of the payment gateway that a person must look at, and those that a person has ended in the last 90 days.';
comment on column shop.parked_gateway_event.ended_at is 'Null: the event waits for a person.';
comment on column shop.parked_gateway_event.verb is 'The last verb of an operator. A retry that changed nothing leaves the event waiting.';
comment on column shop.parked_gateway_event.verb_by is 'The actor as in the causes of events, or the name that was given on the command line.';
