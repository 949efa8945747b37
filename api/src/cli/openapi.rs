//! `stepwise openapi`: prints the OpenAPI document.

use super::{Failure, output::say};

/// Prints the document.
pub(super) fn run() -> Result<(), Failure> {
    say!("{}", crate::routes::document());
    Ok(())
}
