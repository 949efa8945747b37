//! Sagas by name and version.

use std::fmt;

use sqlx::FromRow;

/// One version of a saga: the one that wrote a row, or, with `N = &'static str`, one that this program knows.
///
/// ```
/// # use stepwise_engine::SagaVersion;
/// let wrote = SagaVersion { name: "trip".to_owned(), version: 3 };
/// assert_eq!(wrote.to_string(), "version 3 of trip");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct SagaVersion<N = String> {
    /// [`crate::Saga::NAME`].
    pub name: N,
    /// [`crate::Saga::VERSION`].
    pub version: i16,
}

impl<N: fmt::Display> fmt::Display for SagaVersion<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of {}", self.version, self.name)
    }
}

/// Sagas, each with the highest version of it that is known here: two columns, as statements take them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    pub(crate) names: Vec<&'static str>,
    pub(crate) versions: Vec<i16>,
}

impl FromIterator<SagaVersion<&'static str>> for Kinds {
    fn from_iter<I: IntoIterator<Item = SagaVersion<&'static str>>>(kinds: I) -> Self {
        let (names, versions) = kinds.into_iter().map(|kind| (kind.name, kind.version)).unzip();
        Self { names, versions }
    }
}
