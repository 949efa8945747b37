//! `stepwise up` as a newcomer, a script and an outage meet it: the real binary as a process, with
//! its own Postgres and its own gateway, in a folder of each test's own.

mod books;
mod broker;
mod chaos;
mod crashes;
mod customers;
mod descriptors;
mod doctor;
mod keys;
mod logins;
mod mail;
mod outages;
mod readme;
mod refusals;
mod roles;
mod site;
mod starts;
mod subscriber;
mod wire;
