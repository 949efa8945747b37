//! The settings that decide what customers pay: currency, shipping and taxes.

use std::collections::BTreeMap;

use clap::Args;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use stepwise_adapters::gateway::takes_every_amount;
use stepwise_workflows::{
    Config,
    money::{Currency, Money},
};

use crate::cli::Failure;

/// The most digits of a tax rate after the point.
const RATE_DIGITS: u32 = 6;

/// Options that decide what customers pay.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct PriceOptions {
    /// Currency of all prices, three capital letters [default: USD]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CURRENCY",
        value_name = "CODE",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) currency: Option<String>,
    /// Price of shipping an order, in the shop's currency [default: 5.99]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_SHIPPING_COST",
        value_name = "AMOUNT",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shipping_cost: Option<String>,
    /// Subtotal from which shipping is free [default: 50.00]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_FREE_SHIPPING_FROM",
        value_name = "AMOUNT",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) free_shipping_from: Option<String>,
    /// States that are shipped to with their tax rates, separated by commas: `CA=0.0725,OR=0` [default: the states of the USA]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_TAX_RATES",
        value_name = "RATES",
        value_delimiter = ',',
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tax_rates: Option<Vec<String>>,
}

/// The settings that decide what customers pay.
#[derive(Debug, Clone)]
pub struct Prices {
    /// The currency of all prices.
    pub currency: Currency,
    /// The price of shipping an order.
    pub shipping_cost: Money,
    /// The subtotal from which shipping is free.
    pub free_shipping_from: Money,
    /// State code to tax rate. The states that are shipped to are its keys.
    pub tax_rates: BTreeMap<String, Decimal>,
}

impl Prices {
    /// Reads the options. Refuses an unknown form of one by its name.
    pub(super) fn read(options: &PriceOptions) -> Result<Self, Failure> {
        let usual = Config::default();
        let currency = match options.currency.as_deref() {
            Some(code) => read_currency(code)?,
            None => usual.currency,
        };
        let amount = |name: &str, given: Option<&str>, usual: Money| {
            let text = given.map_or_else(|| usual.amount().to_string(), str::to_owned);
            read_amount(&text, currency)
                .map_err(|why| Failure::usage(format!("--{name}: {text:?}: {why}")))
        };
        let shipping_cost =
            amount("shipping-cost", options.shipping_cost.as_deref(), usual.shipping_cost)?;
        let free_from = options.free_shipping_from.as_deref();
        let free_shipping_from = amount("free-shipping-from", free_from, usual.free_shipping_from)?;
        let tax_rates = match &options.tax_rates {
            Some(given) => read_rates(given)?,
            None => usual.tax_rates,
        };
        Ok(Self { currency, shipping_cost, free_shipping_from, tax_rates })
    }
}

fn read_currency(code: &str) -> Result<Currency, Failure> {
    let currency = Currency::new(code).map_err(|_| {
        Failure::usage(format!(
            "--currency: {code:?} is not a currency such as USD (three capital letters)"
        ))
    })?;
    // The shop does not round totals, so the gateway would decline some orders and not others.
    if !takes_every_amount(currency) {
        return Err(Failure::usage(format!(
            "--currency: the payment gateway does not take every amount of {currency}, so it would decline most orders; \
             give a currency whose smallest unit it takes, such as USD"
        )));
    }
    Ok(currency)
}

fn read_amount(text: &str, currency: Currency) -> Result<Money, String> {
    let amount =
        Decimal::from_str_exact(text).map_err(|_| "it is not an amount such as 5.99".to_owned())?;
    Money::new(amount, currency).map_err(|why| format!("{why} ({currency})"))
}

fn read_rates(given: &[String]) -> Result<BTreeMap<String, Decimal>, Failure> {
    let mut rates = BTreeMap::new();
    for pair in given.iter().map(|pair| pair.trim()).filter(|pair| !pair.is_empty()) {
        let wrong = |why: &str| Failure::usage(format!("--tax-rates: {pair:?}: {why}"));
        let (state, rate) =
            pair.split_once('=').ok_or_else(|| wrong("write a state and its rate: CA=0.0725"))?;
        if state.len() != 2 || !state.bytes().all(|letter| letter.is_ascii_uppercase()) {
            return Err(wrong("a state is two capital letters"));
        }
        let rate = Decimal::from_str_exact(rate).ok().filter(|rate| {
            (Decimal::ZERO..Decimal::ONE).contains(rate) && rate.normalize().scale() <= RATE_DIGITS
        });
        let rate = rate.ok_or_else(|| {
            wrong("a rate is 0 or more and below 1, with at most six digits: 0.0725 is 7.25%")
        })?;
        if rates.insert(state.to_owned(), rate).is_some() {
            return Err(wrong("this state has two rates"));
        }
    }
    if rates.is_empty() {
        return Err(Failure::usage("--tax-rates names no state, so nobody could order"));
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: PriceOptions) -> Result<Prices, String> {
        Prices::read(&options).map_err(|failure| failure.to_string())
    }

    #[test]
    fn prices_are_those_of_the_default_shop_unless_they_are_given() {
        let usual = read(PriceOptions::default()).expect("the defaults are right");
        assert_eq!(usual.shipping_cost.to_string(), "5.99 USD");
        assert_eq!(usual.tax_rates.len(), 51);
        let given = read(PriceOptions {
            currency: Some("EUR".into()),
            shipping_cost: Some("4.5".into()),
            free_shipping_from: Some("0".into()),
            tax_rates: Some(vec!["CA=0.19".into(), " OR=0".into()]),
        });
        let given = given.expect("they are right");
        assert_eq!(given.shipping_cost.to_string(), "4.50 EUR");
        assert_eq!(given.free_shipping_from.to_string(), "0.00 EUR");
        assert_eq!(given.tax_rates["CA"], Decimal::new(19, 2));
        assert_eq!(given.tax_rates.len(), 2);
    }

    #[test]
    fn a_wrong_price_is_refused_by_the_name_of_its_option() {
        let rates = |text: &str| PriceOptions {
            tax_rates: Some(text.split(',').map(str::to_owned).collect()),
            ..PriceOptions::default()
        };
        let currency =
            |code: &str| PriceOptions { currency: Some(code.into()), ..PriceOptions::default() };
        let shipping = |text: &str| PriceOptions {
            shipping_cost: Some(text.into()),
            ..PriceOptions::default()
        };
        for (options, name) in [
            (currency("usd"), "--currency"),
            (currency("DOLLAR"), "--currency"),
            // Stripe wants the last of their digits to be 0.
            (currency("KWD"), "--currency: the payment gateway does not take every amount of KWD"),
            (currency("BHD"), "--currency: the payment gateway does not take every amount of BHD"),
            (currency("IQD"), "--currency: the payment gateway does not take every amount of IQD"),
            (currency("MGA"), "--currency: the payment gateway does not take every amount of MGA"),
            // 5.99 is not an amount of yen, so the price of shipping must be given as well.
            (currency("JPY"), "--shipping-cost"),
            (shipping("-1"), "--shipping-cost"),
            (shipping("free"), "--shipping-cost"),
            (shipping("1.999"), "--shipping-cost"),
            (rates("CA"), "--tax-rates"),
            (rates("CA=1"), "--tax-rates"),
            (rates("CA=-0.1"), "--tax-rates"),
            (rates("ca=0.1"), "--tax-rates"),
            (rates("CA=0.1,CA=0.2"), "--tax-rates"),
            (rates(""), "--tax-rates"),
        ] {
            let line = read(options).expect_err(name);
            assert!(line.starts_with(name), "{line}");
        }
    }
}
