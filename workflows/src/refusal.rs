//! Refusals: what a client is told when a command does nothing.
//!
//! Each command declares its refusals once, with `refusals!`: a closed enum whose variants carry the kind, the stable code, the place in the request
//! and the sentence for people. The front door turns any of them into an answer, and the API's document lists them, by this declaration alone.
//!
//! A variant without a code passes on what its payload declares: the errors of the database, the engine and the key store are such payloads. A
//! surprise is no refusal: nobody is told of it, it is logged.

use std::borrow::Cow;

use stepwise_engine::{SignalError, StartError, StepError};

/// The kind of a refusal. The front door gives each kind its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody proved who they are.
    Unauthenticated,
    /// The money cannot be had.
    PaymentRequired,
    /// It is not allowed to this customer as things are.
    Forbidden,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// The present state does not allow it.
    Conflict,
    /// The thing has changed since the client read it.
    Changed,
    /// The request is not acceptable, whatever the state.
    Unprocessable,
    /// The payment gateway did not do it.
    GatewayFailed,
    /// It may be possible in a moment.
    Unavailable,
}

/// A refusal as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Its kind.
    pub kind: Kind,
    /// Its code, which clients compare: `out_of_stock`. It never changes.
    pub code: &'static str,
    /// The JSON pointer of the wrong field, if it is always the same.
    pub pointer: Option<&'static str>,
    /// The sentence for people, perhaps with `{placeholders}`.
    pub sentence: &'static str,
}

/// A refusal as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its kind.
    pub kind: Kind,
    /// Its code.
    pub code: &'static str,
    /// One sentence for people.
    pub detail: String,
    /// The wrong places in the request.
    pub fields: Vec<Field>,
}

/// A wrong place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its JSON pointer.
    pub pointer: Cow<'static, str>,
    /// The fault in it.
    pub detail: String,
}

/// Something that no client could have avoided.
#[derive(Debug)]
pub enum Surprise {
    /// The database failed.
    Database(sqlx::Error),
    /// A mistake of ours or damaged data, for the log.
    Broken(String),
}

/// A type that declares refusals. A tuple declares those of all its members.
pub trait Declares {
    /// All refusals that are possible.
    fn declared() -> Vec<Declared>;
}

/// The answer of a command that does nothing.
pub trait Refusal: Declares {
    /// Turns it into the answer for the client.
    ///
    /// # Errors
    /// It is no refusal but a surprise.
    fn refused(self) -> Result<Refused, Surprise>;
}

impl<A: Declares, B: Declares> Declares for (A, B) {
    fn declared() -> Vec<Declared> {
        [A::declared(), B::declared()].concat()
    }
}

impl Refused {
    /// A refusal of this kind.
    pub fn new(kind: Kind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, code, detail: detail.into(), fields: Vec::new() }
    }

    /// Adds the wrong place in the request. The sentence is about that place.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push(Field { pointer: pointer.into(), detail: self.detail.clone() });
        self
    }
}

/// A refusal whose sentence is always the same.
impl From<Declared> for Refused {
    fn from(Declared { kind, code, sentence, .. }: Declared) -> Self {
        Self::new(kind, code, sentence)
    }
}

impl Declares for Refused {
    fn declared() -> Vec<Declared> {
        Vec::new()
    }
}

impl Refusal for Refused {
    fn refused(self) -> Result<Refused, Surprise> {
        Ok(self)
    }
}

impl Declares for sqlx::Error {
    fn declared() -> Vec<Declared> {
        Vec::new()
    }
}

impl Refusal for sqlx::Error {
    fn refused(self) -> Result<Refused, Surprise> {
        Err(Surprise::Database(self))
    }
}

const ALREADY_OPEN: Declared = Declared {
    kind: Kind::Conflict,
    code: "operation_in_progress",
    pointer: None,
    sentence: "The same operation is already running.",
};

impl Declares for StartError {
    fn declared() -> Vec<Declared> {
        vec![ALREADY_OPEN]
    }
}

impl Refusal for StartError {
    fn refused(self) -> Result<Refused, Surprise> {
        match self {
            Self::AlreadyOpen { .. } => Ok(ALREADY_OPEN.into()),
            Self::Database(error) | Self::Step(StepError::Database(error)) => error.refused(),
            Self::Unknown(_)
            | Self::Broken(_)
            | Self::OverLimit(_)
            | Self::Unstorable(_)
            | Self::Step(StepError::Broken(_)) => {
                Err(Surprise::Broken(format!("cannot start a saga: {self}")))
            }
        }
    }
}

impl Declares for SignalError {
    fn declared() -> Vec<Declared> {
        Vec::new()
    }
}

impl Refusal for SignalError {
    fn refused(self) -> Result<Refused, Surprise> {
        match self {
            Self::Database(error) => error.refused(),
            Self::NotFound(_)
            | Self::Unreadable { .. }
            | Self::OverLimit(_)
            | Self::Unstorable(_)
            | Self::Broken(_) => {
                Err(Surprise::Broken(format!("cannot send a saga a signal: {self}")))
            }
        }
    }
}

/// Declares the refusals of a command: an error enum of `thiserror` whose variants also say their kind and code.
///
/// After the code may stand the field that is wrong, or a function that lists the wrong places:
///
/// ```text
/// refusals! {
///     /// Why an item is not put into the cart.
///     #[derive(Debug, thiserror::Error)]
///     pub enum AddItemRefusal {
///         /// The product has variants and none was named.
///         #[error("the product has variants: name one")]
///         VariantRequired => Unprocessable "variant_required" at "/variantId",
///         /// Some lines cannot be had.
///         #[error("{} items are not available", .0.len())]
///         OutOfStock(Vec<ShortLine>) => Conflict "out_of_stock" with short_lines,
///         /// A surprise.
///         #[error(transparent)]
///         Database(#[from] sqlx::Error),
///     }
/// }
/// ```
///
/// An enum that only passes on what its payloads declare is one line, such as that of a command that starts a saga:
///
/// ```text
/// refusals! {
///     /// Why an order is not shipped.
///     pub enum ShipOrderError = Refused(ShipOrderRefusal) | Start(StartError);
/// }
/// ```
macro_rules! refusals {
    (
        $(#[$meta:meta])*
        $visible:vis enum $name:ident {$(
            $(#[doc = $doc:literal])+
            #[error($($error:tt)+)]
            $variant:ident
            $(($(#[$from:meta])? $payload:ty))?
            $({$($(#[doc = $field_doc:literal])+ $field:ident: $type:ty),+ $(,)?})?
            $(=> $kind:ident $code:literal $(at $pointer:literal)? $(with $list:path)?)?
        ),+ $(,)?}
    ) => {
        $(#[$meta])*
        $visible enum $name {$(
            $(#[doc = $doc])+
            #[error($($error)+)]
            $variant
            $(($(#[$from])? $payload))?
            $({$($(#[doc = $field_doc])+ $field: $type),+})?
        ),+}

        impl $crate::refusal::Declares for $name {
            fn declared() -> Vec<$crate::refusal::Declared> {
                let variants = [$(
                    $crate::refusal::refusals!(
                        @declared [$($payload)?] [$($error)+] [$($doc)+]
                        $($kind $code $(at $pointer)?)?
                    )
                ),+];
                variants.concat()
            }
        }

        impl $crate::refusal::Refusal for $name {
            fn refused(self) -> Result<$crate::refusal::Refused, $crate::refusal::Surprise> {
                let detail = self.to_string();
                match self {$(
                    Self::$variant
                    $(($crate::refusal::refusals!(@bind $payload, payload)))?
                    $({$($field: _),+})?
                    => $crate::refusal::refusals!(
                        @refused detail [$($crate::refusal::refusals!(@bind $payload, payload))?]
                        $($kind $code $(at $pointer)? $(with $list)?)?
                    )
                ),+}
            }
        }
    };

    // Every variant passes on what its payload declares.
    (
        $(#[$meta:meta])*
        $visible:vis enum $name:ident = $($variant:ident($payload:ty))|+;
    ) => {
        $crate::refusal::refusals! {
            $(#[$meta])*
            #[derive(Debug, thiserror::Error)]
            $visible enum $name {$(
                /// It is passed on.
                #[error(transparent)]
                $variant(#[from] $payload)
            ),+}
        }
    };

    (@bind $payload:ty, $name:ident) => { $name };

    // Passed on: what the payload declares.
    (@declared [$payload:ty] $error:tt $doc:tt) => {
        <$payload as $crate::refusal::Declares>::declared()
    };
    // A surprise.
    (@declared [] $error:tt $doc:tt) => { Vec::new() };
    (@declared $payload:tt [$sentence:literal $($rest:tt)*] $doc:tt $kind:ident $code:literal $(at $pointer:literal)?) => {
        vec![$crate::refusal::Declared {
            kind: $crate::refusal::Kind::$kind,
            code: $code,
            pointer: $crate::refusal::refusals!(@pointer $($pointer)?),
            sentence: $sentence,
        }]
    };
    // The sentence is that of the payload: the document has the description instead.
    (@declared $payload:tt [transparent] [$doc:literal $($more:literal)*] $kind:ident $code:literal $(at $pointer:literal)?) => {
        vec![$crate::refusal::Declared {
            kind: $crate::refusal::Kind::$kind,
            code: $code,
            pointer: $crate::refusal::refusals!(@pointer $($pointer)?),
            sentence: $doc,
        }]
    };

    (@pointer) => { None };
    (@pointer $pointer:literal) => { Some($pointer) };

    (@refused $detail:ident [$payload:expr]) => {{
        let _ = $detail;
        $crate::refusal::Refusal::refused($payload)
    }};
    (@refused $detail:ident []) => { Err($crate::refusal::Surprise::Broken($detail)) };
    (@refused $detail:ident [$($payload:expr)?] $kind:ident $code:literal) => {{
        $(let _ = $payload;)?
        Ok($crate::refusal::Refused::new($crate::refusal::Kind::$kind, $code, $detail))
    }};
    (@refused $detail:ident [$($payload:expr)?] $kind:ident $code:literal at $pointer:literal) => {{
        $(let _ = $payload;)?
        Ok($crate::refusal::Refused::new($crate::refusal::Kind::$kind, $code, $detail).at($pointer))
    }};
    (@refused $detail:ident [$payload:expr] $kind:ident $code:literal with $list:path) => {
        Ok($crate::refusal::Refused {
            fields: $list(&$payload),
            ..$crate::refusal::Refused::new($crate::refusal::Kind::$kind, $code, $detail)
        })
    };
}

pub(crate) use refusals;

#[cfg(test)]
mod tests;
