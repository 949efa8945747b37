//! Amounts of money, as terms declare them and the ledger shows them.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};

/// An amount of money: a decimal number that is not negative, and its currency.
///
/// As JSON it is `{"amount":"25.00","currency":"EUR"}`, as text `25.00 EUR`. One that is known when the program is written is checked by the
/// compiler ([`amount!`](crate::amount!)).
///
/// ```
/// use stepwise_engine::{Amount, Currency, InvalidAmount, amount};
///
/// let price = Amount::new("25.00".parse()?, Currency::EUR)?;
/// assert_eq!(price, amount!(25.00 EUR));
/// assert_eq!(Amount::new("-1".parse()?, Currency::EUR), Err(InvalidAmount::Negative));
/// assert_eq!("Euro".parse::<Currency>(), Err(InvalidAmount::Currency));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    value: Decimal,
    currency: Currency,
}

/// A currency by its ISO 4217 code: three capital letters.
///
/// ```
/// use stepwise_engine::{Amount, Currency, InvalidAmount};
///
/// let francs: Currency = "CHF".parse()?;
/// assert_eq!(Amount::new("5.50".parse()?, francs)?.to_string(), "5.50 CHF");
/// assert_eq!(Currency::new("chf"), Err(InvalidAmount::Currency));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Why something is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// An amount that moves is counted without a sign; the kind of an effect says in which direction.
    #[error("an amount is not negative")]
    Negative,
    /// Not three capital letters.
    #[error("a currency is three capital letters, such as EUR")]
    Currency,
    /// No decimal number, or one of more than 28 digits.
    #[error("an amount is a decimal number of at most 28 digits, such as 25.00")]
    NotANumber,
}

/// An [`Amount`] that is written in the code: `amount!(25.00 EUR)`. One that is none does not compile.
///
/// ```compile_fail
/// stepwise_engine::amount!(25.00 Euro);
/// ```
#[macro_export]
macro_rules! amount {
    ($value:literal $currency:ident) => {
        const { $crate::Amount::literal(stringify!($value), stringify!($currency)) }
    };
}

impl Amount {
    /// An amount of that currency.
    ///
    /// # Errors
    /// [`InvalidAmount::Negative`].
    pub const fn new(value: Decimal, currency: Currency) -> Result<Self, InvalidAmount> {
        if value.is_sign_negative() && !value.is_zero() {
            return Err(InvalidAmount::Negative);
        }
        Ok(Self { value, currency })
    }

    /// For [`amount!`](crate::amount!), which has the compiler run it.
    #[doc(hidden)]
    #[must_use]
    pub const fn literal(value: &str, currency: &str) -> Self {
        let Ok(currency) = Currency::new(currency) else {
            panic!("a currency is three capital letters, such as EUR")
        };
        let (text, mut at, mut units, mut scale, mut is_fraction) =
            (value.as_bytes(), 0, 0, 0, false);
        while at < text.len() {
            match text[at] {
                digit @ b'0'..=b'9' => {
                    units = 10 * units + (digit - b'0') as u64;
                    scale += is_fraction as u32;
                }
                b'.' if !is_fraction => is_fraction = true,
                b'_' => {}
                _ => panic!("an amount is a decimal number, such as 25.00"),
            }
            at += 1;
        }
        let value = Decimal::from_parts(units as u32, (units >> 32) as u32, 0, false, scale);
        Self { value, currency }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> Decimal {
        self.value
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }
}

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");

    /// The dollar of the United States.
    pub const USD: Self = Self(*b"USD");

    /// The currency of that code.
    ///
    /// # Errors
    /// [`InvalidAmount::Currency`].
    pub const fn new(code: &str) -> Result<Self, InvalidAmount> {
        match code.as_bytes() {
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z', c @ b'A'..=b'Z'] => Ok(Self([*a, *b, *c])),
            _ => Err(InvalidAmount::Currency),
        }
    }

    /// Its code, such as `EUR`.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only capital ASCII letters are taken in")
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.value, self.currency)
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let (value, currency) = text.split_once(' ').ok_or(InvalidAmount::Currency)?;
        Self::of_text(value, currency)
    }
}

impl Amount {
    fn of_text(value: &str, currency: &str) -> Result<Self, InvalidAmount> {
        let value = Decimal::from_str_exact(value).map_err(|_| InvalidAmount::NotANumber)?;
        Self::new(value, Currency::new(currency)?)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    amount: String,
    currency: String,
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { amount: self.value.to_string(), currency: self.currency.to_string() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { amount, currency } = Written::deserialize(deserializer)?;
        Self::of_text(&amount, &currency).map_err(D::Error::custom)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = InvalidAmount;

    fn from_str(code: &str) -> Result<Self, InvalidAmount> {
        Self::new(code)
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

/// Read from text, as `readable_amount` selects it.
impl Type<Postgres> for Amount {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Amount {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<&str as Decode<'r, Postgres>>::decode(value)?.parse()?)
    }
}

/// The amount of an effect with that table alias, as it can be read: any number and any text used to be taken, and one of those must
/// not keep a whole list from being read. It is shown as none.
macro_rules! readable_amount {
    ($alias:literal) => {
        concat!(
            "case when ",
            $alias,
            ".amount::text ~ '^[0-9.]{1,28}$' and ",
            $alias,
            ".currency ~ '^[A-Z]{3}$' then ",
            $alias,
            ".amount::text || ' ' || ",
            $alias,
            ".currency end as amount"
        )
    };
}

pub(crate) use readable_amount;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_amount_is_refused_where_it_is_made() {
        let decimal = |text: &str| text.parse::<Decimal>().expect("a decimal");
        assert_eq!(Amount::new(decimal("-0.01"), Currency::EUR), Err(InvalidAmount::Negative));
        assert!(Amount::new(decimal("-0"), Currency::EUR).is_ok());
        for code in ["eur", "EU", "EURO", "E\0R", "ÄÖ", ""] {
            assert_eq!(Currency::new(code), Err(InvalidAmount::Currency), "{code:?}");
        }
        for text in ["NaN EUR", "1e400 EUR", "Infinity EUR", " EUR"] {
            assert_eq!(text.parse::<Amount>(), Err(InvalidAmount::NotANumber), "{text}");
        }
        let negative = r#"{"amount":"-1","currency":"EUR"}"#;
        assert!(serde_json::from_str::<Amount>(negative).is_err());
    }

    #[test]
    fn an_amount_keeps_its_digits() {
        let amount = amount!(1_250.50 EUR);
        assert_eq!(
            (amount.to_string().as_str(), amount.currency()),
            ("1250.50 EUR", Currency::EUR)
        );
        assert_eq!(amount.to_string().parse(), Ok(amount));
        let json = serde_json::to_string(&amount).expect("it can be written");
        assert_eq!(json, r#"{"amount":"1250.50","currency":"EUR"}"#);
        assert_eq!(serde_json::from_str::<Amount>(&json).ok(), Some(amount));
    }
}
