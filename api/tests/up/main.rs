//! Tests of `stepwise up` and the other roles as processes of the real binary. Each test has a folder of its own, with
//! a Postgres and a gateway of its own.

mod benches;
mod books;
mod broker;
mod chaos;
mod crashes;
mod customers;
mod descriptors;
mod doctor;
mod erasure;
mod keys;
mod limits;
mod logins;
mod mail;
mod memory;
mod months;
mod network;
mod outages;
mod owner;
mod readme;
mod refusals;
mod roles;
mod site;
mod smtp;
mod starts;
mod subscriber;
mod wire;
