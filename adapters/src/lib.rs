//! The outside world.

pub mod keystore;
pub mod mail;

#[cfg(test)]
mod testing;
