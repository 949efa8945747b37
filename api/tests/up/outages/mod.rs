//! What `up` depends on fails, for a while or for good. Each test declares its row of docs/faults.md.

mod cluster;
mod database;
mod gateway;
mod worker;
