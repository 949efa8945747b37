//! The engine's promises, each a test on a real Postgres, with a scripted outside world.

mod fence;
mod group;
mod kit;
mod order;
mod plain;
mod provider;
mod race;
mod world;
