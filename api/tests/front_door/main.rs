//! The front door as clients meet it: real HTTP, the real router, a real Postgres.

mod bulks;
mod cli;
mod connections;
mod conventions;
mod cost;
mod document;
mod guessing;
mod house;
mod inventory;
mod keys;
mod masking;
mod ordering;
mod ports;
mod races;
mod repeats;
mod shopper;
mod shopping;
mod streams;
mod unreadable;
mod verbs;
mod webhooks;
