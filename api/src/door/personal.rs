//! What only some callers may see, and the one exit that shows it.
//!
//! A field about a person is a [`Personal`], a link that acts in the customer's name is an
//! [`OwnersOnly`]. Both are absent from every answer unless it is written for a caller who may see
//! them ([`shown_to`]): a route or a field that forgets to say for whom shows nothing.
//!
//! States and journals of sagas are JSON of any shape and are read by staff only; [`without_links`]
//! takes links out of them.

use std::{borrow::Cow, cell::Cell};

use poem_openapi::{
    registry::{MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

use super::caller::{Caller, Role};

/// What stands where something must not be shown.
const MASK: &str = "***";

/// What one caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Neither.
    Nothing,
    /// Personal data.
    Personal,
    /// Personal data, and what only its owner may see.
    Everything,
}

thread_local! {
    /// For whom an answer is being written; writing one never yields.
    static SIGHT: Cell<Sight> = const { Cell::new(Sight::Nothing) };
}

/// Writes an answer for this caller. Customers and guests see what is theirs (whatever is not theirs is
/// unknown to them anyway), admins see personal data, and nobody else does.
pub fn shown_to<T>(caller: &Caller, write: impl FnOnce() -> T) -> T {
    /// Takes the sight back, also when writing panics.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            SIGHT.set(Sight::Nothing);
        }
    }
    let _ended = Ended;
    SIGHT.set(match caller.role {
        Role::Customer | Role::Guest => Sight::Everything,
        Role::Admin => Sight::Personal,
        Role::Viewer | Role::Operator | Role::Service => Sight::Nothing,
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
                $needs.contains(&SIGHT.get())
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
    /// Something about a person: shown to that person and to admins.
    Personal, [Sight::Personal, Sight::Everything]
}

hidden! {
    /// Something that acts in a person's name: shown to that person only.
    OwnersOnly, [Sight::Everything]
}

/// The same JSON with every link and email address in it masked, at any depth.
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
        assert_eq!(Personal::new(1).to_json(), None, "the sight is taken back");
    }

    #[test]
    fn links_are_masked_at_any_depth() {
        let state = json!({"a": [{"url": "http://x/approve", "id": "pi_1"}], "mail": "a@b.c"});
        let masked = json!({"a": [{"url": "***", "id": "pi_1"}], "mail": "***"});
        assert_eq!(without_links(state), masked);
    }
}
