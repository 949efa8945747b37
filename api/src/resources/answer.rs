//! Answers that are declared once: the fields that a client sees, their schema, and the value that each is made of.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::door::personal::{OwnersOnly, Personal};

/// Declares the answer that is made of a value of the workflows: a [`poem_openapi::Object`] and its `From`. A field has the value of the same name
/// unless an expression says otherwise. [`Personal`] and [`OwnersOnly`] in a field's type mask it for callers who may not see it.
///
/// ```text
/// answer! {
///     /// The stock of a product.
///     #[oai(rename = "Stock", rename_all = "camelCase")]
///     struct StockShape from stock: Stock {
///         product_id: Uuid,
///         /// The available quantity: on hand and not reserved.
///         available: i32 = stock.available(),
///     }
/// }
/// ```
macro_rules! answer {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Shape:ident from $value:ident: $Value:ty {
            $($(#[$about:meta])* $field:ident: $Type:ty $(= $made:expr)?,)*
        }
    ) => {
        #[derive(Debug, poem_openapi::Object)]
        $(#[$meta])*
        $vis struct $Shape {
            $($(#[$about])* $field: $Type,)*
        }

        impl From<$Value> for $Shape {
            fn from($value: $Value) -> Self {
                Self { $($field: answer!(field $value $field $(= $made)?),)* }
            }
        }

        impl $crate::resources::answer::Show<$Shape> for $Value {
            fn show(self) -> $Shape {
                self.into()
            }
        }
    };
    (field $value:ident $field:ident = $made:expr) => { $made };
    (field $value:ident $field:ident) => { $crate::resources::answer::Show::show($value.$field) };
}
pub(crate) use answer;

/// A value that an answer shows as `Shown`.
pub trait Show<Shown> {
    /// Makes the shown value.
    fn show(self) -> Shown;
}

macro_rules! shown_as_it_is {
    ($($Type:ty),+) => {
        $(impl Show<$Type> for $Type {
            fn show(self) -> $Type {
                self
            }
        })+
    };
}

shown_as_it_is!(Uuid, String, bool, i32, i64, DateTime<Utc>);

impl<V: Show<S>, S> Show<Option<S>> for Option<V> {
    fn show(self) -> Option<S> {
        self.map(Show::show)
    }
}

impl<V: Show<S>, S> Show<Vec<S>> for Vec<V> {
    fn show(self) -> Vec<S> {
        self.into_iter().map(Show::show).collect()
    }
}

impl<V: Show<S>, S> Show<Personal<S>> for V {
    fn show(self) -> Personal<S> {
        Personal::new(self.show())
    }
}

impl<V: Show<S>, S> Show<OwnersOnly<S>> for V {
    fn show(self) -> OwnersOnly<S> {
        OwnersOnly::new(self.show())
    }
}
