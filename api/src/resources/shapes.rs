//! Types that several resources share.

use poem_openapi::Object;
use stepwise_workflows::{
    money::{InvalidMoney, Money},
    refusal::{Declared, Declares, Kind},
};

use super::answer::Show;
use crate::door::problem::Problem;

/// An amount of money.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Money")]
pub struct MoneyShape {
    /// A decimal number with no more digits than the currency has: `49.99`.
    #[oai(validator(max_length = 20))]
    pub amount: String,
    /// ISO 4217: `USD`.
    #[oai(validator(max_length = 3))]
    pub currency: String,
}

impl From<Money> for MoneyShape {
    fn from(money: Money) -> Self {
        Self { amount: money.amount().to_string(), currency: money.currency().to_string() }
    }
}

impl Show<MoneyShape> for Money {
    fn show(self) -> MoneyShape {
        self.into()
    }
}

/// The refusal of an amount that cannot be read, of an operation whose command declares none.
pub struct UnreadableAmount;

impl Declares for UnreadableAmount {
    fn declared() -> Vec<Declared> {
        vec![Declared {
            kind: Kind::Unprocessable,
            code: "invalid_amount",
            pointer: Some("/amount"),
            sentence: "The amount is not a decimal number, or its currency is unknown.",
        }]
    }
}

impl MoneyShape {
    /// Parses the amount. An invalid one is a problem with `code` at `pointer`.
    pub fn read(&self, pointer: &str, code: &'static str) -> Result<Money, Problem> {
        let money = self.parse();
        money.map_err(|why| Problem::field(pointer, code, why.to_string()))
    }

    fn parse(&self) -> Result<Money, InvalidMoney> {
        let plain = self.amount.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        let amount = self.amount.parse().ok().filter(|_| plain).ok_or(InvalidMoney::NotANumber)?;
        Money::new(amount, self.currency.parse()?)
    }
}
