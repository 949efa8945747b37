//! Types that several resources share.

use poem_openapi::Object;
use stepwise_engine::{SignalError, StartError, StepError};
use stepwise_workflows::{
    money::{InvalidMoney, Money},
    text::{BadField, BadText},
};

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

/// The problem of a text that a command does not accept: 422 at the text's field.
pub fn bad_field(bad: BadField) -> Problem {
    let code = match bad.problem {
        BadText::Missing => "missing_field",
        BadText::TooLong(_) => "too_long",
        BadText::ControlCharacter => "invalid_character",
        BadText::CardNumber => "card_number_not_accepted",
    };
    Problem::field(&format!("/{}", bad.field), code, bad.to_string())
}

/// The problem of a saga that could not be started. If another saga with the same subject is running, 409; every other cause
/// is a bug.
pub fn not_started(error: StartError) -> Problem {
    match error {
        StartError::AlreadyOpen { .. } => {
            Problem::conflict("operation_in_progress", "The same operation is already running.")
        }
        StartError::Database(error) | StartError::Step(StepError::Database(error)) => error.into(),
        StartError::Unknown(_)
        | StartError::Broken(_)
        | StartError::OverLimit(_)
        | StartError::Unstorable(_)
        | StartError::Step(StepError::Broken(_)) => {
            tracing::error!(%error, "cannot start a saga");
            Problem::internal()
        }
    }
}

/// The problem of a signal that a saga could not be sent.
pub fn not_signalled(error: SignalError) -> Problem {
    match error {
        SignalError::Database(error) => error.into(),
        SignalError::NotFound(_)
        | SignalError::Unreadable { .. }
        | SignalError::OverLimit(_)
        | SignalError::Unstorable(_)
        | SignalError::Broken(_) => {
            tracing::error!(%error, "cannot send a saga a signal");
            Problem::internal()
        }
    }
}
