//! The settings of a process. A flag wins over the environment, the environment over the file, the file over the default.

mod environment;
mod network;
mod options;
mod prices;

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use stepwise_workflows::{Config, sagas::reconcile_payments::EVERY_MINUTES};

pub use self::{network::Network, options::Options, prices::Prices};
use super::{Failure, retention::Keep};

/// The default log filter. The database sends notices only during migrations, so they are off. The pools' lines about single connections
/// are off too: `stepwise_engine::database` logs once when the database goes away and once when it is back.
const DEFAULT_LOG: &str = "info,sqlx::postgres::notice=warn,sqlx_core::pool=off";

/// The settings in effect.
#[derive(Clone)]
pub struct Settings {
    /// The user's own Postgres, if there is one.
    pub database_url: Option<String>,
    /// A RabbitMQ, if any.
    pub amqp_url: Option<String>,
    /// The payment gateway, unless it is the sandbox.
    pub gateway_url: Option<String>,
    /// The key for the gateway, unless it is the sandbox's key.
    pub gateway_key: Option<SecretString>,
    /// The secret that signs the gateway's webhooks, unless it is the sandbox's secret.
    pub webhook_secret: Option<SecretString>,
    /// PayPal's API, unless it is the sandbox.
    pub paypal_url: Option<String>,
    /// The client id at PayPal, unless it is the sandbox's.
    pub paypal_client_id: Option<String>,
    /// The secret at PayPal, unless it is the key for the gateway.
    pub paypal_secret: Option<SecretString>,
    /// PayPal's id of the webhook, unless it is the sandbox's.
    pub paypal_webhook_id: Option<String>,
    /// How long a customer has to approve a payment at PayPal.
    pub paypal_approval: Duration,
    /// How long after the first mail a customer is reminded to verify the email address.
    pub verification_reminder: Duration,
    /// The origins to whose pages PayPal may send customers back, unless it is the shop's.
    pub return_origins: Option<Vec<String>>,
    /// The address to which customers return after an approval, unless it is the shop's.
    pub return_url: Option<String>,
    /// The mail server, unless mails are files.
    pub smtp_url: Option<SecretString>,
    /// The sender of all mails.
    pub mail_from: Option<String>,
    /// The folder for everything that the program writes.
    pub data_dir: PathBuf,
    /// Whether connections to other machines may go without TLS.
    pub plain_network: bool,
    /// The address to listen on.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
    /// Requests that a caller may send per second; 0 switches all limits off.
    pub rate_limit: u32,
    /// Requests that one address may send per second without a valid token, as a guest, or as the first with a token, unless it is the usual limit.
    pub address_rate_limit: Option<u32>,
    /// Connections that one address may have open.
    pub connections_per_address: Option<u32>,
    /// Seconds that a stopping process still accepts requests.
    pub stop_delay_s: Option<u32>,
    /// How long placing an order waits for a gateway that does not answer.
    pub placement_patience: Duration,
    /// How long tax records of erased customers stay readable.
    pub tax_retention: Duration,
    /// Minutes between two comparisons of payments with the gateway; 0: none.
    pub reconcile_minutes: u8,
    /// How clients reach the front door.
    pub network: Network,
    /// The currency, shipping and taxes.
    pub prices: Prices,
    /// How long a customer's cart may be left alone.
    pub customer_cart_lifetime: Duration,
    /// How long a guest's cart may be left alone.
    pub guest_cart_lifetime: Duration,
    /// How long a reservation by hand holds stock.
    pub reservation_lifetime: Duration,
    /// How long old things are kept.
    pub keep: Keep,
    /// The log filter.
    pub log: String,
    /// The name of this installation.
    pub environment: String,
    /// Whether `up` starts with an empty shop.
    pub no_demo: bool,
    /// All options that are given, for a process that this one starts.
    pub(super) given: Options,
}

impl Options {
    /// Puts flags, environment, file and defaults together.
    pub fn into_settings(self) -> Result<Settings, Failure> {
        let given = self.with_file()?;
        given.check_limits()?;
        let all = given.clone();
        let usual = Config::default();
        let seconds = |count: u32| Duration::from_secs(count.into());
        let hours = |count: u64| Duration::from_secs(count * 3_600);
        let days = |count: u16| hours(24 * u64::from(count));
        let keep = given.keep.unwrap_or_default();
        let settings = Settings {
            database_url: given.database_url,
            amqp_url: given.amqp_url,
            gateway_url: given.gateway_url,
            gateway_key: given.gateway_key.map(Into::into),
            webhook_secret: given.webhook_secret.map(Into::into),
            paypal_url: given.paypal_url,
            paypal_client_id: given.paypal_client_id,
            paypal_secret: given.paypal_secret.map(Into::into),
            paypal_webhook_id: given.paypal_webhook_id,
            paypal_approval: given.paypal_approval.map_or(usual.paypal_approval, seconds),
            verification_reminder: given
                .verification_reminder
                .map_or(usual.verification_reminder, seconds),
            return_origins: given.return_origins,
            return_url: given.return_url,
            smtp_url: given.smtp_url.map(Into::into),
            mail_from: given.mail_from,
            data_dir: given.data_dir.unwrap_or_else(|| ".stepwise".into()),
            plain_network: given.plain_network.unwrap_or(false),
            host: given.host.unwrap_or_else(|| "127.0.0.1".into()),
            port: given.port.unwrap_or(8080),
            address_rate_limit: given.address_rate_limit,
            rate_limit: given.rate_limit.unwrap_or(200),
            connections_per_address: given.connections_per_address,
            stop_delay_s: given.stop_delay,
            placement_patience: given.placement_patience.map_or(usual.placement_patience, seconds),
            tax_retention: given.tax_retention_years.map_or(usual.tax_retention, years),
            reconcile_minutes: given.reconcile_minutes.unwrap_or(EVERY_MINUTES),
            network: Network::read(given.network)?,
            prices: Prices::read(&given.prices)?,
            customer_cart_lifetime: given
                .customer_cart_days
                .map_or(usual.customer_cart_lifetime, days),
            guest_cart_lifetime: given.guest_cart_days.map_or(usual.guest_cart_lifetime, days),
            reservation_lifetime: given
                .reservation_hours
                .map_or(usual.reservation_lifetime, |count| hours(count.into())),
            keep: Keep::parse(keep.iter().map(String::as_str))?,
            log: given.log.unwrap_or_else(|| DEFAULT_LOG.into()),
            environment: given.environment.unwrap_or_else(|| "local".into()),
            no_demo: given.no_demo.unwrap_or(false),
            given: all,
        };
        settings.check()
    }
}

/// The length of years of 365.25 days.
fn years(years: u8) -> Duration {
    Duration::from_secs(u64::from(years) * 31_557_600)
}

impl Settings {
    fn check(self) -> Result<Self, Failure> {
        let smtp = self.smtp_url.as_ref().map(|url| url.expose_secret().to_owned());
        let schemes: [(&str, &Option<String>, &[&str]); 6] = [
            ("database-url", &self.database_url, &["postgres", "postgresql"]),
            ("smtp-url", &smtp, &["smtps", "smtp"]),
            ("amqp-url", &self.amqp_url, &["amqp", "amqps"]),
            ("gateway-url", &self.gateway_url, &["http", "https"]),
            ("paypal-url", &self.paypal_url, &["http", "https"]),
            ("return-url", &self.return_url, &["http", "https"]),
        ];
        for (name, value, known) in schemes {
            let scheme = value.as_deref().map(|url| url.split_once("://").map_or("", |(s, _)| s));
            if let Some(scheme) = scheme
                && !known.contains(&scheme)
            {
                return Err(Failure::usage(format!(
                    "--{name} is not a valid address: it must begin with {}://",
                    known[0]
                )));
            }
        }
        self.check_secrets()?;
        if let Some(url) = &self.return_url
            && !url.parse().is_ok_and(|url: reqwest::Url| url.has_host())
        {
            return Err(Failure::usage("--return-url is not the address of a page"));
        }
        for (name, url) in [("gateway-url", &self.gateway_url), ("paypal-url", &self.paypal_url)] {
            if let Some(url) = url.as_deref()
                && url.starts_with("http://")
                && !self.plain_network
                && !url.parse().is_ok_and(|url: reqwest::Url| is_this_machine(url.host_str()))
            {
                return Err(Failure::usage(format!(
                    "--{name} is http:// to another machine: the gateway's key would be sent unencrypted; use \
                     https://, or give --plain-network if that network is private",
                )));
            }
        }
        if let Some(wrong) = self.return_origins.iter().flatten().find(|origin| !is_origin(origin))
        {
            return Err(Failure::usage(format!(
                "--return-origins: {wrong} is not an origin such as https://shop.example (http:// is allowed on this machine only)"
            )));
        }
        if self.reconcile_minutes != 0 && 60 % self.reconcile_minutes != 0 {
            return Err(Failure::usage(
                "--reconcile-minutes must divide an hour: 5, 15, 30, 60, …",
            ));
        }
        if !(1..=10_800).contains(&self.paypal_approval.as_secs()) {
            return Err(Failure::usage("--paypal-approval must be 1 s to 3 hours (10800)"));
        }
        let lifetimes =
            [self.customer_cart_lifetime, self.guest_cart_lifetime, self.reservation_lifetime];
        if lifetimes.iter().any(Duration::is_zero) {
            return Err(Failure::usage(
                "--customer-cart-days, --guest-cart-days and --reservation-hours must be 1 or more",
            ));
        }
        let name = &self.environment;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(Failure::usage(
                "--environment must be lower-case letters and digits: it is part of service keys",
            ));
        }
        Ok(self)
    }

    fn check_secrets(&self) -> Result<(), Failure> {
        let secrets = [
            ("gateway-key", &self.gateway_key),
            ("webhook-secret", &self.webhook_secret),
            ("paypal-secret", &self.paypal_secret),
        ];
        for (name, secret) in secrets {
            if secret.as_ref().is_some_and(|secret| !is_secret(secret.expose_secret())) {
                return Err(Failure::usage(format!(
                    "--{name} is empty or has a space or another character that no secret has; give it whole, or not at all"
                )));
            }
        }
        Ok(())
    }
}

/// Whether this can be a secret. With an empty one anybody could sign.
fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is an origin to which customers may be sent: `https`, or `http` on this machine.
pub(super) fn is_origin(text: &str) -> bool {
    let Ok(url) = text.parse::<reqwest::Url>() else { return false };
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => is_this_machine(url.host_str()),
        _ => false,
    };
    is_safe && url.origin().ascii_serialization() == text
}

/// Whether data sent to this host stays on this machine.
pub(super) fn is_this_machine(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let bare = host.trim_matches(['[', ']']);
    // A path is a Unix socket.
    host == "localhost"
        || host.starts_with('/')
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
