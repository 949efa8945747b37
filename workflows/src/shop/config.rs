//! The decisions of a shop's owner: currency, shipping, taxes, limits, and how long things last.

use std::{collections::BTreeMap, time::Duration};

use rust_decimal::Decimal;

use crate::money::{Currency, Money};

const BASE_URL: &str = "http://127.0.0.1:8080";

const HOUR: Duration = Duration::from_secs(3600);

/// The decisions. [`Config::default`] is a shop in the United States.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one currency of the shop.
    pub currency: Currency,
    /// The price of shipping below [`free_shipping_from`](Self::free_shipping_from).
    pub shipping_cost: Money,
    /// The subtotal from which shipping is free.
    pub free_shipping_from: Money,
    /// The only country that is shipped to, ISO 3166 alpha-2.
    pub country: String,
    /// State code to tax rate (0.0725 is 7.25%). The states that are shipped to are its keys.
    pub tax_rates: BTreeMap<String, Decimal>,
    /// Available stock below this is low, where a product has no threshold of its own.
    pub low_stock_threshold: i32,
    /// The most of one product that a cart takes.
    pub most_per_line: i32,
    /// The most lines that a cart takes.
    pub most_lines: usize,
    /// The most variants of a product.
    pub most_variants: i64,
    /// A customer's cart expires when it was not used for so long.
    pub customer_cart_lifetime: Duration,
    /// A guest's cart expires, and its token with it, when it was not used for so long.
    pub guest_cart_lifetime: Duration,
    /// How long a reservation by hand holds stock.
    pub reservation_lifetime: Duration,
    /// How long a removed item can be taken back.
    pub restore_within: Duration,
    /// A placement holds stock: when the payment gateway has not answered it for so long, the order fails and the stock is free again.
    pub placement_patience: Duration,
    /// How long a customer has to approve a payment at PayPal.
    pub paypal_approval: Duration,
    /// The origins of the pages to which PayPal may send customers back: `https://shop.example`.
    pub return_origins: Vec<String>,
    /// How long a verification token is valid.
    pub verification_lifetime: Duration,
    /// How long after its first mail a customer is reminded to verify the address. From the token's lifetime on, there is no reminder.
    pub verification_reminder: Duration,
    /// How long a token that resets a password is valid.
    pub reset_lifetime: Duration,
    /// The most addresses, and the most payment methods, that a customer may have saved.
    pub most_saved: i32,
    /// The most sessions of a customer. One more ends the one that began first.
    pub most_sessions: i32,
    /// A session ends when it was not used for so long.
    pub session_idle: Duration,
    /// A session ends after so long in any case.
    pub session_lifetime: Duration,
    /// An erasure waits so long until the messages about its customer are published. Messages that are left go out without data.
    pub erasure_patience: Duration,
    /// How long the tax records of an erased customer stay readable: the statutory time.
    pub tax_retention: Duration,
    /// Where customers reach the shop; mails link there.
    pub base_url: String,
}

impl Default for Config {
    fn default() -> Self {
        let usd = |cents| {
            Money::from_minor(cents, Currency::USD).expect("a small amount of cents is valid")
        };
        Self {
            currency: Currency::USD,
            shipping_cost: usd(599),
            free_shipping_from: usd(5000),
            country: "US".to_owned(),
            tax_rates: us_tax_rates(),
            low_stock_threshold: 5,
            most_per_line: 999,
            most_lines: 100,
            most_variants: 200,
            customer_cart_lifetime: 30 * 24 * HOUR,
            guest_cart_lifetime: 7 * 24 * HOUR,
            reservation_lifetime: 24 * HOUR,
            restore_within: Duration::from_secs(600),
            placement_patience: Duration::from_secs(30 * 60),
            paypal_approval: Duration::from_secs(30 * 60),
            return_origins: vec![BASE_URL.to_owned()],
            verification_lifetime: 24 * HOUR,
            verification_reminder: 20 * HOUR,
            reset_lifetime: Duration::from_secs(15 * 60),
            most_saved: 50,
            most_sessions: 20,
            session_idle: 12 * HOUR,
            session_lifetime: 30 * 24 * HOUR,
            erasure_patience: 24 * HOUR,
            tax_retention: 87_660 * HOUR,
            base_url: BASE_URL.to_owned(),
        }
    }
}

/// State sales taxes in ten-thousandths, without the counties' and cities' own.
fn us_tax_rates() -> BTreeMap<String, Decimal> {
    #[rustfmt::skip]
    const RATES: [(&str, i64); 51] = [
        ("AK", 0), ("AL", 400), ("AR", 650), ("AZ", 560), ("CA", 725), ("CO", 290), ("CT", 635),
        ("DC", 600), ("DE", 0), ("FL", 600), ("GA", 400), ("HI", 400), ("IA", 600), ("ID", 600),
        ("IL", 625), ("IN", 700), ("KS", 650), ("KY", 600), ("LA", 500), ("MA", 625), ("MD", 600),
        ("ME", 550), ("MI", 600), ("MN", 688), ("MO", 423), ("MS", 700), ("MT", 0), ("NC", 475),
        ("ND", 500), ("NE", 550), ("NH", 0), ("NJ", 663), ("NM", 488), ("NV", 685), ("NY", 400),
        ("OH", 575), ("OK", 450), ("OR", 0), ("PA", 600), ("RI", 700), ("SC", 600), ("SD", 420),
        ("TN", 700), ("TX", 625), ("UT", 610), ("VA", 530), ("VT", 600), ("WA", 650), ("WI", 500),
        ("WV", 600), ("WY", 400),
    ];
    RATES.into_iter().map(|(state, rate)| (state.to_owned(), Decimal::new(rate, 4))).collect()
}
