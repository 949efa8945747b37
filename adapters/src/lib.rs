//! The outside world.

pub mod breaker;
pub mod gateway;
pub mod keystore;
pub mod mail;
pub mod postgres;
pub mod rabbitmq;
pub mod sandbox;
pub mod tls;

#[cfg(test)]
mod testing;
