//! What the black-box tests share.

mod house;

pub use house::{Buyer, House};
