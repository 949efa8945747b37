//! The price of an order: `subtotal`, shipping and the tax of the state it goes to.

use crate::{money::Money, shop::config::Config};

/// The parts of an order's price and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// The sum of the lines.
    pub subtotal: Money,
    /// Free from the configured subtotal.
    pub shipping_cost: Money,
    /// The state's rate of the subtotal, rounded half to even.
    pub tax: Money,
    /// The three together.
    pub total_amount: Money,
}

/// Prices lines that go to `state`; `None`: the sum is larger than any amount may be, which the
/// limits on prices, quantities and lines exclude.
pub fn totals(
    config: &Config,
    line_totals: impl IntoIterator<Item = Money>,
    state: &str,
) -> Option<Totals> {
    let nothing = Money::zero(config.currency);
    let subtotal = line_totals.into_iter().try_fold(nothing, Money::plus)?;
    let is_free = subtotal.amount() >= config.free_shipping_from.amount();
    let shipping_cost = if is_free { nothing } else { config.shipping_cost };
    let rate = config.tax_rates.get(state).copied().unwrap_or_default();
    let tax = Money::rounded(subtotal.amount().checked_mul(rate)?, config.currency).ok()?;
    let total_amount = subtotal.plus(shipping_cost)?.plus(tax)?;
    Some(Totals { subtotal, shipping_cost, tax, total_amount })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    fn usd(cents: i64) -> Money {
        Money::from_minor(cents, Currency::USD).expect("a small amount")
    }

    #[test]
    fn shipping_is_free_from_fifty_and_tax_is_the_states() {
        let config = Config::default();
        let below = totals(&config, [usd(4999)], "CA").expect("it fits");
        assert_eq!(below.shipping_cost, usd(599));
        assert_eq!(below.tax, usd(362)); // 49.99 * 7.25% = 3.624275
        assert_eq!(below.total_amount, usd(4999 + 599 + 362));
        let free = totals(&config, [usd(2500), usd(2500)], "OR").expect("it fits");
        assert_eq!((free.shipping_cost, free.tax), (usd(0), usd(0)));
        assert_eq!(free.total_amount, usd(5000));
    }
}
