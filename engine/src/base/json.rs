//! Payloads as JSON text that Postgres can store, and what cannot be stored.

mod finite;

use serde::Serialize;
use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo},
};

/// Why something cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// It cannot be written as JSON, for example a map whose keys are not strings.
    #[error("it cannot be written as JSON: {0}")]
    NoJson(String),
    /// It has a number that is infinite or NaN. JSON has no such numbers, and it would be read back as null.
    #[error("it holds a number that is infinite or no number")]
    NotFinite,
    /// A name, a reason or an instruction holds the character NUL.
    #[error("the {0} holds the character NUL, which Postgres does not store")]
    Nul(&'static str),
}

/// A value as JSON text, or the reason why it cannot be written as JSON. Sending such a reason to the database is an error, so nothing else is ever
/// stored in place of the value.
#[derive(Debug, Clone)]
pub(crate) struct Json(Result<String, Unstorable>);

impl Json {
    /// # Errors
    /// Why it cannot be stored.
    pub(crate) fn text(&self) -> Result<&str, Unstorable> {
        self.0.as_deref().map_err(Clone::clone)
    }

    /// How many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, String::len)
    }

    /// JSON that is made from this one.
    pub(crate) fn map(self, wrap: impl FnOnce(String) -> String) -> Self {
        Self(self.0.map(wrap))
    }

    /// An object with this value under that name.
    pub(crate) fn under(self, name: &str) -> Self {
        self.map(|text| format!("{{\"{name}\":{text}}}"))
    }

    /// An array of these.
    pub(crate) fn list(members: impl Iterator<Item = Self>) -> Self {
        let members = members.map(|member| member.0).collect::<Result<Vec<_>, _>>();
        Self(members.map(|members| format!("[{}]", members.join(","))))
    }

    /// JSON that is written out in the code.
    pub(crate) fn literal(text: impl Into<String>) -> Self {
        Self(Ok(text.into()))
    }
}

/// JSON text that is sent as it stands, to a parameter of type `json`.
pub(crate) struct JsonText<'a>(pub(crate) &'a Json);

impl Type<Postgres> for JsonText<'_> {
    fn type_info() -> PgTypeInfo {
        // `json`; what sqlx sends JSON values as is `jsonb`.
        PgTypeInfo::with_oid(sqlx::postgres::types::Oid(114))
    }
}

impl PgHasArrayType for JsonText<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(sqlx::postgres::types::Oid(199))
    }
}

impl Encode<'_, Postgres> for JsonText<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.text()?.as_bytes());
        Ok(IsNull::No)
    }

    fn size_hint(&self) -> usize {
        self.0.len()
    }
}

/// A value as JSON. `\u0000`, which jsonb refuses, is replaced, so that foreign text cannot fail a batch.
pub(crate) fn json(value: &impl Serialize) -> Json {
    Json(written(value))
}

/// The same for tests and people: text of the reason if the value cannot be written.
pub(crate) fn shown(value: &impl Serialize) -> String {
    written(value).unwrap_or_else(|why| why.to_string())
}

fn written(value: &impl Serialize) -> Result<String, Unstorable> {
    let text = serde_json::to_string(value).map_err(|why| Unstorable::NoJson(why.to_string()))?;
    // A number that is not finite is written as `null`: only then is it worth a second look.
    if text.contains("null") && !finite::is_finite(value) {
        return Err(Unstorable::NotFinite);
    }
    Ok(if text.contains("\\u0000") { replace_nul(&text) } else { text })
}

/// Checks a name by which an instance or a signal is found: it is stored unchanged or refused.
///
/// # Errors
/// [`Unstorable::Nul`].
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), Unstorable> {
    if text.contains('\0') { Err(Unstorable::Nul(what)) } else { Ok(()) }
}

/// A text that a person gives is stored as it is, or not at all.
///
/// # Errors
/// [`Unstorable`].
pub(crate) fn check_given(what: &'static str, given: &impl Serialize) -> Result<(), Unstorable> {
    let text = serde_json::to_string(given).map_err(|why| Unstorable::NoJson(why.to_string()))?;
    if text.contains("\\u0000") && replace_nul(&text) != text {
        return Err(Unstorable::Nul(what));
    }
    Ok(())
}

/// Replaces the escape `\u0000` (but not an escaped backslash followed by `u0000`).
fn replace_nul(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let taken = if tail.starts_with("\\u0000") {
            out.push_str("\\ufffd");
            6
        } else {
            out.push_str(&tail[..2.min(tail.len())]);
            2.min(tail.len())
        };
        rest = &tail[taken..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn text(value: &impl Serialize) -> String {
        written(value).expect("it can be written")
    }

    #[test]
    fn foreign_nul_is_replaced_and_an_escaped_backslash_is_not_mistaken_for_one() {
        assert_eq!(text(&"a\0b"), "\"a\\ufffdb\"");
        assert_eq!(text(&"a\\u0000b"), "\"a\\\\u0000b\"");
        assert_eq!(text(&"\0\0"), "\"\\ufffd\\ufffd\"");
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        let keyed = BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(written(&keyed), Err(Unstorable::NoJson(_))));
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(written(&Some(vec![(1, number)])), Err(Unstorable::NotFinite));
            assert_eq!(written(&BTreeMap::from([("a", number)])), Err(Unstorable::NotFinite));
        }
        assert_eq!(text(&(None::<u8>, 1.5, ())), "[null,1.5,null]");
    }
}
