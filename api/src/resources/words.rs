//! Words of a closed list, such as the status of an order. The document has the list as the field's `enum`.

use std::{borrow::Cow, fmt, marker::PhantomData};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

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
    ($($(#[$doc:meta])* $Name:ident: [$($word:literal),+ $(,)?];)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $Name;
        impl Words for $Name {
            const ALL: &'static [&'static str] = &[$($word),+];
        }
    )+};
}

words! {
    /// The statuses of an order.
    OrderWords: ["placing", "pending", "confirmed", "shipped", "delivered", "cancelled", "failed"];
    /// The statuses of a payment.
    PaymentWords: [
        "authorizing", "authorized", "captured", "partially_refunded", "refunded", "voided", "declined", "unknown",
    ];
    /// The kinds of moves of money.
    MoveKinds: ["authorize", "capture", "void", "refund", "dispute"];
    /// The states of a move of money.
    MoveStates: ["requested", "succeeded", "failed", "unknown"];
    /// The kinds of payment methods.
    MethodKinds: ["card", "paypal"];
    /// The statuses of an approval at PayPal.
    ApprovalWords: ["pending", "approved", "used", "expired"];
    /// The statuses of a parked event.
    ParkedWords: ["waiting", "ended"];
    /// The statuses of a product.
    ProductWords: ["draft", "active", "inactive"];
    /// The kinds of changes of a stock.
    StockChanges: ["set", "adjusted", "reserved", "released", "deducted"];
    /// The statuses of an operation.
    OperationWords: ["running", "succeeded", "failed", "needs_attention"];
    /// The statuses of an effect outside the database.
    EffectWords: ["intent", "confirmed", "refuted", "undone", "waived"];
    /// The outcomes of an attempt.
    OutcomeWords: ["done", "not_done", "unknown"];
    /// The receipts of an event.
    ReceiptWords: ["received", "ignored", "parked"];
    /// The status of a process that is alive or ready.
    OkWord: ["ok"];
    /// The states of a part of the process.
    PartWords: ["ok", "away", "elsewhere"];
}

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
