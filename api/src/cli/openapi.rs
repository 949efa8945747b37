//! `stepwise openapi`: prints the OpenAPI document.

use super::{Failure, output::say, settings::Settings};

/// Prints the document, with the public address if there is one.
pub(super) fn run(settings: &Settings) -> Result<(), Failure> {
    say!("{}", crate::routes::document_at(settings.network.public_url.as_deref()));
    Ok(())
}
