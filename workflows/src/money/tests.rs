use rust_decimal::Decimal;

use super::*;

fn usd(text: &str) -> Money {
    Money::new(text.parse().expect("a decimal"), Currency::USD).expect("a valid amount")
}

#[test]
fn money_is_written_with_exactly_the_digits_of_its_currency() {
    let written = serde_json::to_string(&usd("50")).expect("it serialises");
    assert_eq!(written, r#"{"amount":"50.00","currency":"USD"}"#);
    assert_eq!(serde_json::from_str::<Money>(&written).expect("it reads back"), usd("50.00"));
}

#[test]
fn an_amount_with_more_digits_than_its_currency_is_refused() {
    assert_eq!(
        Money::new(Decimal::new(12_345, 3), Currency::USD),
        Err(InvalidMoney::TooManyDigits)
    );
    let yen: Currency = "JPY".parse().expect("a currency");
    assert_eq!(Money::new(Decimal::new(15, 1), yen), Err(InvalidMoney::TooManyDigits));
    assert!(serde_json::from_str::<Money>(r#"{"amount":"1.001","currency":"USD"}"#).is_err());
    assert!(serde_json::from_str::<Money>(r#"{"amount":1.0,"currency":"USD"}"#).is_err());
    assert!(serde_json::from_str::<Money>(r#"{"amount":"1.00","currency":"usd"}"#).is_err());
}

#[test]
fn taxes_are_rounded_half_to_even() {
    let rounded = |text: &str| {
        Money::rounded(text.parse().expect("a decimal"), Currency::USD).expect("valid")
    };
    assert_eq!(rounded("1.005"), usd("1.00"));
    assert_eq!(rounded("1.015"), usd("1.02"));
    assert_eq!(rounded("1.0151"), usd("1.02"));
}

#[test]
fn sums_that_do_not_fit_are_none_and_currencies_never_mix() {
    let most = usd("999999999999.99");
    assert_eq!(most.minor(), 99_999_999_999_999);
    assert_eq!(most.plus(usd("0.01")), None);
    assert_eq!(most.times(2), None);
    let yen = Money::from_minor(5, "JPY".parse().expect("a currency")).expect("valid");
    assert_eq!(usd("1.00").plus(yen), None);
    assert_eq!(usd("0.10").times(3), Some(usd("0.30")));
    assert_eq!(usd("1.50").minus(usd("1.00")), Some(usd("0.50")));
    assert_eq!(usd("1.00").minus(usd("1.50")), None);
    assert_eq!(Money::from_minor(-1, Currency::USD), Err(InvalidMoney::Negative));
}

#[test]
fn the_ledger_of_effects_holds_money_as_it_is() {
    assert_eq!(Amount::from(usd("49.9")).to_string(), "49.90 USD");
}
