//! Payloads as JSON text that Postgres can store.

use serde::Serialize;
use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo},
};

/// JSON text that is sent as it stands, to a parameter of type `json`.
pub(crate) struct JsonText<'a>(pub(crate) &'a str);

impl Type<Postgres> for JsonText<'_> {
    fn type_info() -> PgTypeInfo {
        // `json`; what sqlx sends JSON values as is `jsonb`.
        PgTypeInfo::with_oid(sqlx::postgres::types::Oid(114))
    }
}

impl Encode<'_, Postgres> for JsonText<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn size_hint(&self) -> usize {
        self.0.len()
    }
}

/// Plain data as JSON text. `\u0000`, which jsonb refuses, is replaced, so that foreign text cannot fail a batch.
pub(crate) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|error| {
        // Payloads are derived plain data; only a hand-written Serialize can fail, and it must not lose the instance.
        format!("{{\"unserializable\":{:?}}}", error.to_string())
    });
    if text.contains("\\u0000") { replace_nul(&text) } else { text }
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
    use super::*;

    #[test]
    fn foreign_nul_is_replaced_and_an_escaped_backslash_is_not_mistaken_for_one() {
        assert_eq!(json(&"a\0b"), "\"a\\ufffdb\"");
        assert_eq!(json(&"a\\u0000b"), "\"a\\\\u0000b\"");
        assert_eq!(json(&"\0\0"), "\"\\ufffd\\ufffd\"");
    }
}
