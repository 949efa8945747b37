//! Adapters to the outside world: Stripe, PayPal, RabbitMQ, key store, mail, a private Postgres and the sandbox gateway.

pub mod breaker;
pub mod gateway;
pub mod keystore;
pub mod mail;
pub mod paypal;
pub mod postgres;
mod provider;
pub mod rabbitmq;
pub mod sandbox;
pub mod tls;

#[cfg(test)]
mod testing;
