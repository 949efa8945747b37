//! Values that only some callers may see.
//!
//! A field about a person is a [`Personal`]. A link that acts in the customer's name is an [`OwnersOnly`].
//! An answer contains them only if it is written for a caller who may see them ([`shown_to`]), so a route
//! that forgets to name the caller shows nothing.
//!
//! States and journals of sagas are JSON of any shape, which only staff may read. [`without_links`] masks links and
//! email addresses in them.

use std::{borrow::Cow, cell::Cell};

use poem_openapi::{
    registry::{MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

use super::caller::{Caller, Role};

/// The text that replaces a hidden value.
const MASK: &str = "***";

/// The set of values that one caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    /// Neither personal data nor the owner's values.
    Nothing,
    /// Personal data.
    Personal,
    /// Personal data and the owner's values.
    Everything,
}

thread_local! {
    /// The set of values that the current answer may contain. A thread-local works because writing an answer never yields.
    static VISIBILITY: Cell<Visibility> = const { Cell::new(Visibility::Nothing) };
}

/// Writes an answer for this caller. Customers and guests see all values, because they can only read their own
/// resources. Admins see personal data. All other callers see neither.
pub fn shown_to<T>(caller: &Caller, write: impl FnOnce() -> T) -> T {
    /// Resets the thread-local, also when writing panics.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            VISIBILITY.set(Visibility::Nothing);
        }
    }
    let _ended = Ended;
    VISIBILITY.set(match caller.role {
        Role::Customer | Role::Guest => Visibility::Everything,
        Role::Admin => Visibility::Personal,
        Role::Viewer | Role::Operator | Role::Service => Visibility::Nothing,
    });
    write()
}

macro_rules! hidden {
    ($(#[$doc:meta])* $name:ident, $needs:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name<T>(T);

        impl<T> $name<T> {
            /// Hides the value.
            pub fn new(value: T) -> Self {
                Self(value)
            }

            fn is_shown() -> bool {
                $needs.contains(&VISIBILITY.get())
            }
        }

        impl<T: Type> Type for $name<T> {
            const IS_REQUIRED: bool = false;
            type RawValueType = T::RawValueType;
            type RawElementValueType = T::RawElementValueType;

            fn name() -> Cow<'static, str> {
                T::name()
            }

            fn schema_ref() -> MetaSchemaRef {
                T::schema_ref()
            }

            fn register(registry: &mut Registry) {
                T::register(registry);
            }

            fn as_raw_value(&self) -> Option<&Self::RawValueType> {
                self.0.as_raw_value().filter(|_| Self::is_shown())
            }

            fn raw_element_iter<'a>(
                &'a self,
            ) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
                self.0.raw_element_iter()
            }

            fn is_none(&self) -> bool {
                !Self::is_shown() || self.0.is_none()
            }
        }

        impl<T: ParseFromJSON> ParseFromJSON for $name<T> {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                T::parse_from_json(value).map(Self).map_err(ParseError::propagate)
            }
        }

        impl<T: ToJSON> ToJSON for $name<T> {
            fn to_json(&self) -> Option<Value> {
                if Self::is_shown() { self.0.to_json() } else { None }
            }
        }
    };
}

hidden! {
    /// A value about a person, which that person and admins may see.
    Personal, [Visibility::Personal, Visibility::Everything]
}

hidden! {
    /// A value with which one can act in a person's name; only that person may see it.
    OwnersOnly, [Visibility::Everything]
}

/// Masks every link and email address in a JSON value, at any depth.
pub fn without_links(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("://") || text.contains('@') => MASK.into(),
        Value::Array(values) => values.into_iter().map(without_links).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, without_links(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn seen_by(role: Role) -> (Option<Value>, Option<Value>) {
        let caller = Caller { role, id: Uuid::nil(), scopes: Arc::new([]), token_hash: [0; 32] };
        let (personal, link) = (Personal::new("street".to_owned()), OwnersOnly::new(1));
        shown_to(&caller, || (personal.to_json(), link.to_json()))
    }

    #[test]
    fn nothing_is_shown_unless_it_is_written_for_somebody_who_may_see_it() {
        let (personal, link) = (Some(json!("street")), Some(json!(1)));
        assert_eq!(Personal::new(1).to_json(), None, "written for nobody");
        for role in [Role::Customer, Role::Guest] {
            assert_eq!(seen_by(role), (personal.clone(), link.clone()), "{role:?}");
        }
        assert_eq!(seen_by(Role::Admin), (personal, None));
        for role in [Role::Viewer, Role::Operator, Role::Service] {
            assert_eq!(seen_by(role), (None, None), "{role:?}");
        }
        assert_eq!(Personal::new(1).to_json(), None, "the visibility is reset");
    }

    #[test]
    fn links_are_masked_at_any_depth() {
        let state = json!({"a": [{"url": "http://x/approve", "id": "pi_1"}], "mail": "a@b.c"});
        let masked = json!({"a": [{"url": "***", "id": "pi_1"}], "mail": "***"});
        assert_eq!(without_links(state), masked);
    }
}
