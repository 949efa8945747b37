//! The engine's promises, each a test on a real Postgres, with a scripted outside world.

mod chains;
mod counter;
mod examples;
mod family;
mod fence;
mod group;
mod keeping;
mod kit;
mod notices;
mod odd;
mod order;
mod parcel;
mod plain;
mod planted;
mod provider;
mod race;
mod signals;
mod stops;
mod tasks;
mod trip;
mod undo;
mod unknown;
mod versions;
mod watch;
mod world;
