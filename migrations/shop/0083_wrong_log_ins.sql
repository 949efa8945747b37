-- Log-ins with a wrong address or password, of all accounts together, by the minute. After a crash of the database the counting begins anew.
create unlogged table shop.wrong_log_in (
    minute timestamptz primary key,
    log_ins integer not null
) with (fillfactor = 60);
comment on table shop.wrong_log_in is 'Counts of log-ins with a wrong address or password. They rise when somebody guesses at many accounts.';
