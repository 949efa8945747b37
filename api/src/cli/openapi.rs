//! `stepwise openapi`.

use super::Failure;

/// Prints the document.
pub(super) fn run() -> Result<(), Failure> {
    println!("{}", crate::routes::document());
    Ok(())
}
