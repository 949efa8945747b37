//! The outside world.

pub mod keystore;
pub mod mail;
pub mod rabbitmq;

#[cfg(test)]
mod testing;
