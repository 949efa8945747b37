//! Outages of the services that `up` depends on, temporary or permanent. Each test declares its row of docs/faults.md.

mod cluster;
mod database;
mod gateway;
mod worker;
