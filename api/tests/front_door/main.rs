//! Tests of the front door with real HTTP, the real router and a real Postgres.

mod bulks;
mod causes;
mod cli;
mod connections;
mod conventions;
mod cost;
mod document;
mod fulfilment;
mod guessing;
mod house;
mod inventory;
mod keys;
mod masking;
mod ordering;
mod payments;
mod ports;
mod races;
mod repeats;
mod shopper;
mod shopping;
mod streams;
mod unreadable;
mod verbs;
mod webhooks;
