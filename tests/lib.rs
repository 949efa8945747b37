//! What the black-box tests share.

mod house;
pub mod money;

pub use house::{Buyer, House};
