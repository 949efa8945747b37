//! Products and their variants.
//!
//! `draft -> active <-> inactive`, and soft-deleted at any time: a deleted product leaves the
//! catalogue and can no longer be ordered, while old orders keep naming it. A product with variants
//! is only sold as one of them. Its inventory row is made with it (or with its variant), so what can
//! be put into a cart always has one.
//!
//! A cart shows the price of the moment, and an order asks again if it rose; so a new price needs no
//! write to any cart.

mod commands;
mod list;
mod status;
mod view;

pub use commands::{
    CreateProduct, CreateProductRefusal, UpdateProduct, UpdateProductRefusal, add_product_variant,
    create_product, lock_version, update_product,
};
pub use list::{ProductFilter, ProductOrder, ProductPlace, list_products};
pub use status::{ProductStatusRefusal, activate_product, deactivate_product, delete_product};
pub use view::{ProductView, VariantView, get_product, get_products, other_currency};

use crate::refusal::refusals;

refusals! {
    /// Why a product is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownProduct {
        /// Unknown, deleted, or not on sale.
        #[error("There is no such product.")]
        NotFound => NotFound "product_not_found",
    }
}

#[cfg(test)]
mod tests;
