-- A person asks to be erased. The row of the erasure outlives the personal data, because a restored backup must be erased again.
create table shop.erasure (
    customer_id uuid primary key,
    anonymized_id uuid not null constraint an_anonymized_id_stands_for_one_person unique,
    requested_at timestamptz not null,
    erased_at timestamptz,
    tax_until timestamptz
);
create index erasure_tax_until on shop.erasure (tax_until) where tax_until is not null;
comment on column shop.erasure.anonymized_id is 'The id in the person''s orders from then on, and the name of the key of their tax records.';
comment on column shop.erasure.tax_until is 'The end of the statutory time: then the key of the tax records is destroyed. Null: it is destroyed, or nothing is erased yet.';

-- The proof of an erasure, without personal data. Each row's hash is made of the row before it, so none can be changed or left out.
create table shop.erasure_certificate (
    n bigint primary key constraint a_certificate_has_a_number check (n > 0),
    previous_hash bytea not null,
    hash bytea not null constraint a_certificate_is_written_once unique,
    certificate text not null,
    written_at timestamptz not null
);
comment on column shop.erasure_certificate.hash is 'SHA-256 of the previous hash (32 zero bytes for the first row) and the text of the certificate.';

create function shop.refuse_change_of_certificate() returns trigger language plpgsql as $$
begin
    raise exception 'a certificate of erasure is never changed or deleted'
        using errcode = 'restrict_violation', constraint = 'certificates_are_append_only';
end $$;
create trigger certificates_are_append_only before update or delete on shop.erasure_certificate
    for each row execute function shop.refuse_change_of_certificate();
create trigger certificates_are_not_truncated before truncate on shop.erasure_certificate
    for each statement execute function shop.refuse_change_of_certificate();

alter table shop."order" add column tax_record text;
comment on column shop."order".tax_record is 'Of an erased customer whose order was paid: name and address, sealed under the key that is kept for the statutory time.';

alter table shop.customer add column if not exists published_types jsonb not null default '{}';
comment on column shop.customer.published_types is 'By type the number of integration events about this customer so far.';
