//! Customers.

mod password;

pub use password::{InvalidPassword, Password, PasswordPool, PoolError};
