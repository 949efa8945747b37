//! Amounts of money: a decimal number that is not negative and its currency, never a float.
//!
//! The JSON form is `{"amount":"49.99","currency":"USD"}`: the amount is a decimal string with
//! exactly the digits the currency has. Arithmetic is checked; a sum that does not fit is `None`,
//! not a panic.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use stepwise_engine::{Amount, InvalidAmount};

pub use stepwise_engine::Currency;

#[cfg(test)]
mod tests;

/// Amounts stay below this, in the currency's main unit: twelve digits before the point.
const LARGEST: Decimal = Decimal::from_parts(3_567_587_328, 232, 0, false, 0);

/// An amount in one currency, rounded to that currency's smallest unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

/// Why an amount was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not three capital letters.
    #[error("a currency is three capital letters, such as USD")]
    Currency,
    /// More digits after the point than the currency has.
    #[error("the amount has more digits than its currency")]
    TooManyDigits,
    /// Less than nothing.
    #[error("the amount is negative")]
    Negative,
    /// A million million or more.
    #[error("the amount is too large")]
    TooLarge,
    /// Not a decimal number such as `49.99`.
    #[error("the amount is not a decimal number such as \"49.99\"")]
    NotANumber,
}

impl Money {
    /// An amount that already has no more digits than its currency.
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, InvalidMoney> {
        let amount = Amount::new(amount, currency)?.value();
        if amount.normalize().scale() > digits(currency) {
            return Err(InvalidMoney::TooManyDigits);
        }
        if amount >= LARGEST {
            return Err(InvalidMoney::TooLarge);
        }
        let mut amount = amount;
        amount.rescale(digits(currency));
        Ok(Self { amount, currency })
    }

    /// An amount rounded half to even, as taxes and rates are.
    pub fn rounded(amount: Decimal, currency: Currency) -> Result<Self, InvalidMoney> {
        let rounded =
            amount.round_dp_with_strategy(digits(currency), RoundingStrategy::MidpointNearestEven);
        Self::new(rounded, currency)
    }

    /// An amount in the smallest unit (cents), as payment gateways count.
    pub fn from_minor(units: i64, currency: Currency) -> Result<Self, InvalidMoney> {
        Self::new(Decimal::new(units, digits(currency)), currency)
    }

    /// An amount read from its two columns; the shop wrote it, so anything else is damage.
    pub(crate) fn stored(amount: Decimal, currency: &str) -> Result<Self, sqlx::Error> {
        Currency::new(currency)
            .map_err(InvalidMoney::from)
            .and_then(|currency| Self::new(amount, currency))
            .map_err(|invalid| sqlx::Error::Decode(Box::new(invalid)))
    }

    /// Nothing of this currency.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::new(0, digits(currency)), currency }
    }

    /// The amount in the main unit, with exactly the digits the currency has.
    pub fn amount(self) -> Decimal {
        self.amount
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The amount in the smallest unit (cents).
    pub fn minor(self) -> i64 {
        i64::try_from(self.amount.mantissa())
            .expect("an amount below a million million has at most fifteen digits")
    }

    /// The sum; `None` when the currencies differ or the sum is too large.
    pub fn plus(self, other: Self) -> Option<Self> {
        let sum = self.amount.checked_add(other.amount)?;
        (self.currency == other.currency).then(|| Self::new(sum, self.currency).ok())?
    }

    /// The difference; `None` when the currencies differ or the other is larger.
    pub fn minus(self, other: Self) -> Option<Self> {
        let difference = self.amount.checked_sub(other.amount)?;
        (self.currency == other.currency).then(|| Self::new(difference, self.currency).ok())?
    }

    /// The amount for so many pieces; `None` when it is too large.
    pub fn times(self, count: i32) -> Option<Self> {
        Self::new(self.amount.checked_mul(Decimal::from(count))?, self.currency).ok()
    }
}

/// Digits after the point of an amount in that currency.
fn digits(currency: Currency) -> u32 {
    match currency.code() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "UYI" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// What a step moves, for the ledger of the engine.
impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self::new(money.amount, money.currency).expect("money is not negative")
    }
}

impl From<InvalidAmount> for InvalidMoney {
    fn from(invalid: InvalidAmount) -> Self {
        match invalid {
            InvalidAmount::Negative => Self::Negative,
            InvalidAmount::Currency => Self::Currency,
            InvalidAmount::NotANumber => Self::NotANumber,
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    amount: String,
    currency: String,
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { amount: self.amount.to_string(), currency: self.currency.to_string() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let currency = Currency::new(&written.currency)
            .map_err(|invalid| D::Error::custom(InvalidMoney::from(invalid)))?;
        let amount = Decimal::from_str_exact(&written.amount)
            .map_err(|_| D::Error::custom(InvalidMoney::NotANumber))?;
        Self::new(amount, currency).map_err(D::Error::custom)
    }
}
