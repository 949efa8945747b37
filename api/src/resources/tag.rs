//! A tag of an instance as a query parameter: `name=value`.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromParameter, ParseResult, Type},
};

/// A name, which is not empty and has no `=`, and a value.
#[derive(Debug, Clone)]
pub struct Tag {
    /// The name.
    pub name: String,
    /// The value. It may be empty.
    pub value: String,
}

impl Type for Tag {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let pattern = Some("^[^=]+=".to_owned());
        MetaSchemaRef::Inline(Box::new(MetaSchema { pattern, ..MetaSchema::new("string") }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for Tag {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(ParseError::custom("a tag must have the form name=value")),
        }
    }
}
