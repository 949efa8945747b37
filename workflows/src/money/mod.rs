//! Amounts of money: a decimal number and its currency, never a float.
//!
//! The JSON form is `{"amount":"49.99","currency":"USD"}`: the amount is a decimal string with
//! exactly the digits the currency has. Arithmetic is checked; a sum that does not fit is `None`,
//! not a panic.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

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

/// A currency by its ISO 4217 code, such as `USD`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// Why an amount was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not three capital letters.
    #[error("a currency is three capital letters, such as USD")]
    Currency,
    /// More digits after the point than the currency has.
    #[error("the amount has more digits than its currency")]
    TooManyDigits,
    /// A million million or more, in either direction.
    #[error("the amount is too large")]
    TooLarge,
    /// Not a decimal number such as `49.99`.
    #[error("the amount is not a decimal number such as \"49.99\"")]
    NotANumber,
}

impl Money {
    /// An amount that already has no more digits than its currency.
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, InvalidMoney> {
        if amount.normalize().scale() > currency.digits() {
            return Err(InvalidMoney::TooManyDigits);
        }
        if amount.abs() >= LARGEST {
            return Err(InvalidMoney::TooLarge);
        }
        let mut amount = amount;
        amount.rescale(currency.digits());
        Ok(Self { amount, currency })
    }

    /// An amount rounded half to even, as taxes and rates are.
    pub fn rounded(amount: Decimal, currency: Currency) -> Result<Self, InvalidMoney> {
        let rounded =
            amount.round_dp_with_strategy(currency.digits(), RoundingStrategy::MidpointNearestEven);
        Self::new(rounded, currency)
    }

    /// An amount in the smallest unit (cents), as payment gateways count.
    pub fn from_minor(units: i64, currency: Currency) -> Result<Self, InvalidMoney> {
        Self::new(Decimal::new(units, currency.digits()), currency)
    }

    /// An amount read from its two columns; the shop wrote it, so anything else is damage.
    pub(crate) fn stored(amount: Decimal, currency: &str) -> Result<Self, sqlx::Error> {
        currency
            .parse()
            .and_then(|currency| Self::new(amount, currency))
            .map_err(|invalid| sqlx::Error::Decode(Box::new(invalid)))
    }

    /// Nothing of this currency.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::new(0, currency.digits()), currency }
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

    /// The difference; `None` when the currencies differ or it is too large.
    pub fn minus(self, other: Self) -> Option<Self> {
        let difference = self.amount.checked_sub(other.amount)?;
        (self.currency == other.currency).then(|| Self::new(difference, self.currency).ok())?
    }

    /// So many of it; `None` when the product is too large.
    pub fn times(self, count: i32) -> Option<Self> {
        Self::new(self.amount.checked_mul(Decimal::from(count))?, self.currency).ok()
    }
}

impl Currency {
    /// United States dollar, the default of the shop.
    pub const USD: Self = Self(*b"USD");

    /// The code, such as `USD`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only capital ASCII letters are taken in")
    }

    /// Digits after the point.
    pub fn digits(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

impl FromStr for Currency {
    type Err = InvalidMoney;

    fn from_str(code: &str) -> Result<Self, InvalidMoney> {
        let letters: [u8; 3] = code.as_bytes().try_into().map_err(|_| InvalidMoney::Currency)?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
            .ok_or(InvalidMoney::Currency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
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
        let currency = written.currency.parse().map_err(D::Error::custom)?;
        let amount = Decimal::from_str_exact(&written.amount)
            .map_err(|_| D::Error::custom(InvalidMoney::NotANumber))?;
        Self::new(amount, currency).map_err(D::Error::custom)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
