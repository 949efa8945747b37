//! Words of a closed list, such as the status of an order. The document has the list as the field's `enum`.

use std::{borrow::Cow, fmt, marker::PhantomData};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;
use stepwise_workflows::order::OrderStatus;

use super::answer::Show;

/// A closed list of words.
pub trait Words: Send + Sync + 'static {
    /// All words of the list.
    const ALL: &'static [&'static str];
}

/// A word of the list `L`.
pub struct Word<L> {
    word: Cow<'static, str>,
    list: PhantomData<fn() -> L>,
}

macro_rules! words {
    ($($(#[$doc:meta])* $Name:ident: $words:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $Name;
        impl Words for $Name {
            const ALL: &'static [&'static str] = $words;
        }
    )+};
}

words! {
    /// The statuses of an order.
    OrderWords: OrderStatus::WORDS;
    /// The statuses of a payment.
    PaymentWords: &[
        "authorizing", "authorized", "captured", "partially_refunded", "refunded", "voided", "declined", "unknown",
    ];
    /// The kinds of moves of money.
    MoveKinds: &["authorize", "capture", "void", "refund", "dispute"];
    /// The states of a move of money.
    MoveStates: &["requested", "succeeded", "failed", "unknown"];
    /// The kinds of payment methods.
    MethodKinds: &["card", "paypal"];
    /// The statuses of an approval at PayPal.
    ApprovalWords: &["pending", "approved", "used", "expired"];
    /// The statuses of a parked event.
    ParkedWords: &["waiting", "ended"];
    /// The statuses of a product.
    ProductWords: &["draft", "active", "inactive"];
    /// The kinds of changes of a stock.
    StockChanges: &["set", "adjusted", "reserved", "released", "deducted"];
    /// The statuses of an operation.
    OperationWords: &["running", "succeeded", "failed", "needs_attention"];
    /// The statuses of an effect outside the database.
    EffectWords: &["intent", "confirmed", "refuted", "undone", "waived"];
    /// The outcomes of an attempt: done, or one of the engine's outcomes of an attempt that failed.
    OutcomeWords: &["done", "not_done", "answered_no", "unknown", "not_undone", "cannot_undo"];
    /// The receipts of an event.
    ReceiptWords: &["received", "ignored", "parked"];
    /// The status of a process that is alive or ready.
    OkWord: &["ok"];
    /// The states of a part of the process.
    PartWords: &["ok", "away", "elsewhere"];
}

/// Makes an enum of the document that has the variants of an enum of the engine or the shop. A variant that only one of them has does not compile.
macro_rules! mirrors {
    ($(#[$meta:meta])* enum $Shape:ident of $Real:ty { $($Variant:ident),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, poem_openapi::Enum)]
        $(#[$meta])*
        enum $Shape { $($Variant),+ }

        impl From<$Shape> for $Real {
            fn from(shape: $Shape) -> Self {
                match shape { $($Shape::$Variant => Self::$Variant),+ }
            }
        }

        impl From<$Real> for $Shape {
            fn from(real: $Real) -> Self {
                match real { $(<$Real>::$Variant => Self::$Variant),+ }
            }
        }
    };
}

pub(super) use mirrors;

impl<L> Word<L> {
    /// The word as text.
    pub fn as_str(&self) -> &str {
        &self.word
    }
}

impl<L> From<&'static str> for Word<L> {
    fn from(word: &'static str) -> Self {
        Self { word: Cow::Borrowed(word), list: PhantomData }
    }
}

impl<L> From<String> for Word<L> {
    fn from(word: String) -> Self {
        Self { word: Cow::Owned(word), list: PhantomData }
    }
}

impl<L> Show<Word<L>> for String {
    fn show(self) -> Word<L> {
        self.into()
    }
}

impl<L> Clone for Word<L> {
    fn clone(&self) -> Self {
        Self { word: self.word.clone(), list: PhantomData }
    }
}

impl<L> fmt::Debug for Word<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)
    }
}

impl<L: Words> Type for Word<L> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let enum_items = L::ALL.iter().map(|word| Value::from(*word)).collect();
        MetaSchemaRef::Inline(Box::new(MetaSchema { enum_items, ..MetaSchema::new("string") }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl<L: Words> ToJSON for Word<L> {
    fn to_json(&self) -> Option<Value> {
        Some(self.as_str().into())
    }
}

impl<L: Words> ParseFromJSON for Word<L> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(word)) if L::ALL.contains(&word.as_str()) => Ok(word.into()),
            other => Err(ParseError::expected_type(other.unwrap_or_default())),
        }
    }
}

/// The words of an enum of the engine, as the error for another word lists them.
#[cfg(test)]
pub(super) fn words_of<T: std::str::FromStr<Err = stepwise_engine::UnknownWord>>() -> Vec<String> {
    let refused = "?".parse::<T>().err().expect("no enum has this word").to_string();
    let (_, known) = refused.split_once(" is none of ").expect("it lists the known words");
    known.split(", ").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::iter::successors;

    use stepwise_engine::{AttemptOutcome, EffectStatus};
    use stepwise_workflows::payment::PaymentState;

    use super::*;

    #[test]
    fn the_lists_of_effects_and_outcomes_are_those_of_the_engine() {
        assert_eq!(EffectWords::ALL, words_of::<EffectStatus>());
        let outcomes = [vec!["done".to_owned()], words_of::<AttemptOutcome>()].concat();
        assert_eq!(OutcomeWords::ALL, outcomes);
    }

    #[test]
    fn the_list_of_the_statuses_of_a_payment_is_complete() {
        // A new state does not compile until it has its place here.
        let next = |state: &PaymentState| match state {
            PaymentState::Authorizing => Some(PaymentState::Authorized),
            PaymentState::Authorized => Some(PaymentState::Captured),
            PaymentState::Captured => Some(PaymentState::PartiallyRefunded),
            PaymentState::PartiallyRefunded => Some(PaymentState::Refunded),
            PaymentState::Refunded => Some(PaymentState::Voided),
            PaymentState::Voided => Some(PaymentState::Declined),
            PaymentState::Declined => Some(PaymentState::Unknown),
            PaymentState::Unknown => None,
        };
        let states: Vec<_> = successors(Some(PaymentState::Authorizing), next).collect();
        let words: Vec<&str> = states.into_iter().map(PaymentState::as_str).collect();
        assert_eq!(PaymentWords::ALL, words);
    }
}
