//! What the black-box tests share.

mod house;
pub mod money;
pub mod pooler;
pub mod proxy;
pub mod rabbit;

pub use house::{Buyer, House};
