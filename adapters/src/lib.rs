//! Adapters to the outside world: payment gateway, RabbitMQ, key store, mail, a private Postgres and the sandbox gateway.

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
