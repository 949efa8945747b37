//! Payments: what was asked of the gateway for an order, and what became of it.

pub mod gateway;
