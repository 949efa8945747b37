//! Strict parsing of request bodies. It checks size, time, UTF-8, depth, duplicate keys, NUL and card numbers, and
//! then the operation's schema in the published OpenAPI document.
//!
//! serde_json alone would keep the last of two equal keys and ignore unknown fields. In both cases a client could
//! believe that something was done that was not.

use std::{
    any::TypeId,
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use poem::{Request, RequestBody, error::ReadBodyError, http::StatusCode, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, Type},
};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stepwise_workflows::text::has_card_number;

use super::problem::{FieldError, Problem};

/// The largest accepted body, in bytes.
pub const BODY_LIMIT: usize = 256 * 1024;
/// How long a client may take to send its body.
pub const BODY_TIME_LIMIT: Duration = Duration::from_secs(10);
/// How deep a body may nest.
const DEPTH_LIMIT: usize = 32;
/// How many values a body may have, all levels together. One of few bytes takes many in memory.
const VALUE_LIMIT: usize = 10_000;

/// A JSON body of type `T`.
#[derive(Debug)]
pub struct Body<T> {
    /// The parsed body.
    pub value: T,
    /// SHA-256 of the canonical body: keys sorted, without whitespace.
    pub fingerprint: [u8; 32],
}

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
        close(&T::schema_ref(), registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: T::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !is_json(request) {
            return Err(Problem::unsupported_media_type().into());
        }
        let bytes = read(body).await?;
        let sent = parse(&bytes)?;
        let fingerprint = fingerprint(&sent);
        Schema::of::<T>().check(&sent)?;
        let value = T::parse_from_json(Some(sent))
            .map_err(|wrong| Problem::unprocessable("invalid_data", clip(wrong.into_message())))?;
        Ok(Self { value, fingerprint })
    }
}

/// The type of the fields of a body that its schema does not name. The framework cannot write `false` there;
/// [`crate::routes::document`] does.
pub const NO_FIELD: &str = "never";

/// Says in the document that the objects of a body have no other fields than those of their schemas.
fn close(at: &MetaSchemaRef, registry: &mut Registry) {
    let within: Vec<MetaSchemaRef> = match at {
        MetaSchemaRef::Reference(name) => {
            let Some(schema) = registry.schemas.get_mut(name) else { return };
            if schema.ty == "object" {
                let none = MetaSchemaRef::Inline(Box::new(MetaSchema::new(NO_FIELD)));
                schema.additional_properties.get_or_insert(Box::new(none));
            }
            schema.properties.iter().map(|(_, property)| property.clone()).collect()
        }
        MetaSchemaRef::Inline(schema) => {
            let items = schema.items.iter().map(|items| (**items).clone());
            schema.all_of.iter().cloned().chain(items).collect()
        }
    };
    for schema in &within {
        close(schema, registry);
    }
}

/// Reads the body's bytes. 413 if there are too many, 408 if they take too long.
pub async fn read(body: &mut RequestBody) -> Result<Vec<u8>, Problem> {
    let body = body.take().map_err(|_| Problem::internal())?;
    match tokio::time::timeout(BODY_TIME_LIMIT, body.into_bytes_limit(BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(Problem::payload_too_large()),
        Ok(Err(_)) => {
            Err(Problem::bad_request("incomplete_body", "The request body ended too early."))
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The request body took longer than 10 seconds to arrive.",
        )
        .with_header(header::CONNECTION, header::HeaderValue::from_static("close"))),
    }
}

fn is_json(request: &Request) -> bool {
    let plain = request.headers().get(header::CONTENT_ENCODING).is_none_or(|v| v == "identity");
    let content_type = request.content_type().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    plain && media_type.eq_ignore_ascii_case("application/json")
}

/// Parses strictly: 400 if the text is not JSON, 422 if no operation could accept it.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let malformed = |detail| Problem::bad_request("malformed_json", detail);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
    let (refused, left) = (RefCell::new(None), Cell::new(VALUE_LIMIT));
    let mut source = serde_json::Deserializer::from_str(text);
    let strict = Strict { pointer: "", depth: 0, left: &left, refused: &refused };
    let parsed = strict.deserialize(&mut source).and_then(|value| source.end().map(|()| value));
    parsed.map_err(|error| match refused.into_inner() {
        Some(field) => Problem::fields(vec![field]),
        None if error.to_string().starts_with("recursion limit") => too_deep(""),
        None => Problem::bad_request(
            "malformed_json",
            format!("The body is not JSON (line {}, column {}).", error.line(), error.column()),
        ),
    })
}

fn too_deep(pointer: &str) -> Problem {
    Problem::field(pointer, "too_deep", format!("Nested deeper than {DEPTH_LIMIT} levels."))
}

/// The fields that hold a password.
const PASSWORDS: [&str; 3] = ["password", "currentPassword", "newPassword"];

/// SHA-256 of the canonical text of `value`. Passwords are left out, because SHA-256 is too fast to protect them;
/// [`Ask::with_password`](super::Ask::with_password) adds them.
pub fn fingerprint(value: &Value) -> [u8; 32] {
    // serde_json's map is sorted by key, so its text is canonical.
    let text = match value {
        Value::Object(sent) if sent.keys().any(|key| PASSWORDS.contains(&key.as_str())) => {
            let rest: serde_json::Map<_, _> = sent
                .iter()
                .filter(|(k, _)| !PASSWORDS.contains(&k.as_str()))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            Value::Object(rest).to_string()
        }
        _ => value.to_string(),
    };
    Sha256::digest(text.as_bytes()).into()
}

/// Builds a [`Value`], and records the place of the first error.
struct Strict<'s> {
    pointer: &'s str,
    depth: usize,
    /// How many more values the body may have.
    left: &'s Cell<usize>,
    refused: &'s RefCell<Option<FieldError>>,
}

impl Strict<'_> {
    /// The same for the value at `pointer`, one level deeper.
    fn within<'s>(&'s self, pointer: &'s str) -> Strict<'s> {
        Strict { pointer, depth: self.depth + 1, left: self.left, refused: self.refused }
    }

    fn refuse<E: serde::de::Error>(&self, at: &str, code: &str, detail: &str) -> E {
        self.refused.replace(Some(FieldError::new(clip(at.to_owned()), code, detail)));
        E::custom(code)
    }

    fn text<E: serde::de::Error>(&self, text: &str, at: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(self.refuse(at, "invalid_character", "U+0000 is not allowed."));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_LIMIT {
            return Err(self.refuse(self.pointer, "too_deep", "Nested deeper than 32 levels."));
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            let detail = "The body has more than 10,000 values.";
            return Err(self.refuse(self.pointer, "too_many_values", detail));
        };
        self.left.set(left);
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.text(v, self.pointer)?;
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let pointer = format!("{}/{}", self.pointer, items.len());
            match seq.next_element_seed(self.within(&pointer))? {
                Some(item) => items.push(item),
                None => return Ok(items.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let pointer = pointer_to(self.pointer, &key);
            self.text::<A::Error>(&key, &pointer)?;
            if object.contains_key(&key) {
                let detail = "The key occurs twice.";
                return Err(self.refuse::<A::Error>(&pointer, "duplicate_key", detail));
            }
            let value = map.next_value_seed(self.within(&pointer))?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// `key` below `parent`, escaped as RFC 6901 says.
fn pointer_to(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Shortens text of the client that is quoted in an answer.
fn clip(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    text
}

/// A schema of the OpenAPI document, with all schemas that it refers to.
pub struct Schema {
    root: MetaSchemaRef,
    registry: Registry,
}

impl Schema {
    /// The schema of `T`, which is built at its first use.
    pub fn of<T: Type + 'static>() -> Arc<Self> {
        static KNOWN: LazyLock<Mutex<HashMap<TypeId, Arc<Schema>>>> = LazyLock::new(Mutex::default);
        let mut known = KNOWN.lock().expect("nothing panics while holding the schemas");
        let schema = known.entry(TypeId::of::<T>()).or_insert_with(|| {
            let mut registry = Registry::new();
            T::register(&mut registry);
            Arc::new(Self { root: T::schema_ref(), registry })
        });
        Arc::clone(schema)
    }

    /// Checks `value` against the schema. One 422 names everything that the schema does not accept.
    pub fn check(&self, value: &Value) -> Result<(), Problem> {
        let mut errors = Vec::new();
        self.walk(&self.root, value, "", &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(Problem::fields(errors)) }
    }

    fn walk(&self, at: &MetaSchemaRef, value: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
        if errors.len() >= 20 {
            return;
        }
        match at {
            MetaSchemaRef::Reference(name) => {
                if let Some(schema) = self.registry.schemas.get(name) {
                    self.check_one(schema, value, pointer, errors);
                }
            }
            MetaSchemaRef::Inline(schema) => self.check_one(schema, value, pointer, errors),
        }
    }

    fn check_one(
        &self,
        schema: &MetaSchema,
        value: &Value,
        pointer: &str,
        errors: &mut Vec<FieldError>,
    ) {
        for part in &schema.all_of {
            self.walk(part, value, pointer, errors);
        }
        match (schema.ty, value) {
            ("", _) => {}
            ("object", Value::Object(sent)) => self.check_object(schema, sent, pointer, errors),
            ("array", Value::Array(items)) => {
                if let Some(inner) = &schema.items {
                    for (i, item) in items.iter().enumerate() {
                        self.walk(inner, item, &format!("{pointer}/{i}"), errors);
                    }
                }
            }
            ("string", Value::String(text)) => {
                errors.extend(wrong_text(schema, text, pointer));
            }
            ("integer", Value::Number(n)) if n.is_i64() || n.is_u64() => {
                errors.extend(wrong_number(schema, n.as_f64().unwrap_or(f64::MAX), pointer));
            }
            ("number", Value::Number(n)) => {
                errors.extend(wrong_number(schema, n.as_f64().unwrap_or(f64::MAX), pointer));
            }
            ("boolean", Value::Bool(_)) => {}
            (expected, _) => {
                let article =
                    if matches!(expected, "object" | "array" | "integer") { "an" } else { "a" };
                let detail = format!("Expected {article} {expected}.");
                errors.push(FieldError::new(pointer, "wrong_type", detail));
            }
        }
    }

    fn check_object(
        &self,
        schema: &MetaSchema,
        sent: &serde_json::Map<String, Value>,
        pointer: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let known: HashSet<&str> = schema.properties.iter().map(|(name, _)| *name).collect();
        if schema.additional_properties.is_none() {
            for key in sent.keys().filter(|key| !known.contains(key.as_str())) {
                let at = clip(pointer_to(pointer, key));
                errors.push(FieldError::new(at, "unknown_field", "This object has no such field."));
            }
        }
        for (name, inner) in &schema.properties {
            let at = pointer_to(pointer, name);
            let required = schema.required.contains(name);
            match sent.get(*name) {
                None if required => {
                    let detail = format!("The field `{name}` is required.");
                    errors.push(FieldError::new(at, "missing_field", detail));
                }
                // An optional field may be null, which means the same as leaving it out.
                None => {}
                Some(Value::Null) if !required => {}
                Some(value) => self.walk(inner, value, &at, errors),
            }
        }
    }
}

fn wrong_text(schema: &MetaSchema, text: &str, pointer: &str) -> Option<FieldError> {
    let error = |code, detail: String| Some(FieldError::new(pointer, code, detail));
    let length = text.chars().count();
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return error("too_long", format!("Longer than {most} characters."));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        return error("too_short", format!("Shorter than {least} characters."));
    }
    match schema.format {
        Some("uuid") if text.parse::<uuid::Uuid>().is_err() => {
            error("invalid_format", "Expected a UUID.".into())
        }
        Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => {
            error("invalid_format", "Expected a time as in RFC 3339.".into())
        }
        None if !schema.enum_items.is_empty()
            && !schema.enum_items.iter().any(|item| item == text) =>
        {
            error("invalid_value", "This is not one of the field's allowed values.".into())
        }
        None if !pointer.ends_with("/trackingNumber") && has_card_number(text) => error(
            "card_number_not_accepted",
            "This looks like a card number; card numbers are not accepted anywhere.".into(),
        ),
        _ => None,
    }
}

fn wrong_number(schema: &MetaSchema, number: f64, pointer: &str) -> Option<FieldError> {
    let error = |detail: String| Some(FieldError::new(pointer, "out_of_range", detail));
    if schema.format == Some("int32")
        && !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)
    {
        return error("The number is too large.".to_owned());
    }
    if let Some(least) = schema.minimum.filter(|least| number < *least) {
        return error(format!("Less than {least}."));
    }
    if let Some(most) = schema.maximum.filter(|most| number > *most) {
        return error(format!("More than {most}."));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        parse(text.as_bytes()).expect_err("refused").code().to_owned()
    }

    #[test]
    fn what_is_not_json_is_told_apart_from_what_is_not_accepted() {
        assert_eq!(code("{"), "malformed_json");
        assert_eq!(code(r#"{"a":1}{"#), "malformed_json");
        assert_eq!(code(r#""\ud800""#), "malformed_json");
        assert_eq!(parse(b"\"\xff\"").expect_err("refused").code(), "malformed_json");
        assert_eq!(code(r#"{"a":1,"a":2}"#), "duplicate_key");
        assert_eq!(code(r#"{"a":"x\u0000"}"#), "invalid_character");
        assert_eq!(code(&"[".repeat(10_000)), "too_deep");
        let values = |most: usize| format!("[{}0]", "0,".repeat(most - 2));
        assert!(parse(values(VALUE_LIMIT).as_bytes()).is_ok());
        assert_eq!(code(&values(VALUE_LIMIT + 1)), "too_many_values");
        let keys: String = (0..VALUE_LIMIT).map(|n| format!("\"{n}\":{{}},")).collect();
        assert_eq!(code(&format!("{{{keys}\"z\":1}}")), "too_many_values");
    }

    #[test]
    fn a_fingerprint_tells_nothing_of_a_password() {
        for field in PASSWORDS {
            let body =
                |password: &str| serde_json::json!({ "email": "a@b.example", field: password });
            assert_eq!(fingerprint(&body("one")), fingerprint(&body("two")), "{field}");
        }
    }

    #[test]
    fn equal_bodies_have_equal_fingerprints_however_they_are_written() {
        let one = parse(br#"{"a":1,"b":{"c":2,"d":3}}"#).expect("fine");
        let two = parse(br#" { "b":{"d":3,"c":2}, "a":1 } "#).expect("fine");
        assert_eq!(fingerprint(&one), fingerprint(&two));
    }
}
