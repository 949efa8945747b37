//! Sagas by name and version.

/// Sagas, each with the highest version of it that is known here: two columns, as statements take them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    pub(crate) names: Vec<&'static str>,
    pub(crate) versions: Vec<i16>,
}

impl FromIterator<(&'static str, i16)> for Kinds {
    fn from_iter<I: IntoIterator<Item = (&'static str, i16)>>(kinds: I) -> Self {
        let (names, versions) = kinds.into_iter().unzip();
        Self { names, versions }
    }
}
