//! The settings of a process. A flag wins over the environment, the environment over the file, the file over the default.

mod network;
mod prices;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, builder::FalseyValueParser};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use stepwise_workflows::{Config, sagas::reconcile_payments::EVERY_MINUTES};

pub use self::{network::Network, prices::Prices};
use self::{network::NetworkOptions, prices::PriceOptions};
use super::{Failure, retention::Keep};

/// The settings file that is read if it exists and `--config` is not given.
const FILE: &str = "stepwise.toml";

/// The default log filter. The database sends notices only during migrations, so they are off. The pools' lines about single connections
/// are off too: `stepwise_engine::database` logs once when the database goes away and once when it is back.
const DEFAULT_LOG: &str = "info,sqlx::postgres::notice=warn,sqlx_core::pool=off";

/// Options every subcommand knows.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Options {
    /// Settings file [default: stepwise.toml, if there is one]
    #[arg(long, global = true, env = "STEPWISE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of your Postgres; without it `up` runs its own
    #[arg(
        long,
        global = true,
        env = "STEPWISE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// Address of a RabbitMQ; without it events are published on /v1/events/stream only
    #[arg(
        long,
        global = true,
        env = "STEPWISE_AMQP_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    amqp_url: Option<String>,
    /// Address of a payment gateway; without it `up` runs the sandbox
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GATEWAY_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    gateway_url: Option<String>,
    /// Key for the payment gateway of --gateway-url [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GATEWAY_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    gateway_key: Option<String>,
    /// Secret with which the gateway signs its webhooks [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    webhook_secret: Option<String>,
    /// Address of PayPal's API; without it `up` uses its sandbox, and other processes take no payments by PayPal if --gateway-url is given
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    paypal_url: Option<String>,
    /// Client id of the REST app at PayPal [default: the sandbox's]
    #[arg(long, global = true, env = "STEPWISE_PAYPAL_CLIENT_ID", value_name = "ID")]
    paypal_client_id: Option<String>,
    /// Secret of the REST app at PayPal [default: the key for the payment gateway, which is the sandbox's]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    paypal_secret: Option<String>,
    /// PayPal's id of the webhook at /v1/webhooks/paypal [default: the sandbox's]
    #[arg(long, global = true, env = "STEPWISE_PAYPAL_WEBHOOK_ID", value_name = "ID")]
    paypal_webhook_id: Option<String>,
    /// Seconds that a customer has to approve a payment at PayPal [default: 1800]
    #[arg(long, global = true, env = "STEPWISE_PAYPAL_APPROVAL", value_name = "SECONDS")]
    paypal_approval: Option<u32>,
    /// Seconds after which a customer is reminded to verify the email address; from 86400 on nobody is [default: 72000]
    #[arg(long, global = true, env = "STEPWISE_VERIFICATION_REMINDER", value_name = "SECONDS")]
    verification_reminder: Option<u32>,
    /// Origins to whose pages PayPal may send customers back, separated by commas: `https://shop.example` [default: that of --return-url]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RETURN_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    return_origins: Option<Vec<String>>,
    /// Address to which customers return after they have approved a payment [default: the shop's address]
    #[arg(long, global = true, env = "STEPWISE_RETURN_URL", value_name = "URL")]
    return_url: Option<String>,
    /// Mail server: `smtps://user:password@mail.example`, or `smtp://` for STARTTLS; without it mails are files in the data directory
    #[arg(
        long,
        global = true,
        env = "STEPWISE_SMTP_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    smtp_url: Option<String>,
    /// Sender of all mails, needed with --smtp-url: `Shop <shop@example.com>`
    #[arg(long, global = true, env = "STEPWISE_MAIL_FROM", value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// Folder for everything that the program writes [default: .stepwise]
    #[arg(long, global = true, env = "STEPWISE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Allow connections to other machines without TLS, because the network between them is private
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PLAIN_NETWORK",
        value_parser = FalseyValueParser::new()
    )]
    plain_network: bool,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, global = true, env = "STEPWISE_HOST", value_name = "IP")]
    host: Option<String>,
    /// Port to listen on [default: 8080]
    #[arg(long, global = true, env = "STEPWISE_PORT", value_name = "PORT")]
    port: Option<u16>,
    /// Requests a caller may send per second; 0 switches all limits off [default: 200]
    #[arg(long, global = true, env = "STEPWISE_RATE_LIMIT", value_name = "N")]
    rate_limit: Option<u32>,
    /// Requests without a valid token that one address may send per second [default: 1000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_ADDRESS_RATE_LIMIT",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    address_rate_limit: Option<u32>,
    /// Connections that one address may have open [default: 1000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    connections_per_address: Option<u32>,
    /// Seconds that a stopping process still accepts requests after /readyz has turned 503
    /// [default: 2; `up`: 0]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_STOP_DELAY",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(..=15)
    )]
    stop_delay: Option<u32>,
    /// Seconds that placing an order waits for a payment gateway that does not answer; then the order fails [default: 1800]
    #[arg(long, global = true, env = "STEPWISE_PLACEMENT_PATIENCE", value_name = "SECONDS")]
    placement_patience: Option<u32>,
    /// Years for which the tax records of erased customers stay readable: the statutory time [default: 10]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_TAX_RETENTION_YEARS",
        value_name = "YEARS",
        value_parser = clap::value_parser!(u8).range(..=100)
    )]
    tax_retention_years: Option<u8>,
    /// Minutes between two comparisons of payments with the payment gateway; 0 switches them off [default: 15]
    #[arg(long, global = true, env = "STEPWISE_RECONCILE_MINUTES", value_name = "MINUTES")]
    reconcile_minutes: Option<u8>,
    /// Days after which a customer's cart that nobody has used expires [default: 30]
    #[arg(long, global = true, env = "STEPWISE_CUSTOMER_CART_DAYS", value_name = "DAYS")]
    customer_cart_days: Option<u16>,
    /// Days after which a guest's cart that nobody has used expires [default: 7]
    #[arg(long, global = true, env = "STEPWISE_GUEST_CART_DAYS", value_name = "DAYS")]
    guest_cart_days: Option<u16>,
    /// Hours that stock reserved by hand is held for an order [default: 24]
    #[arg(long, global = true, env = "STEPWISE_RESERVATION_HOURS", value_name = "HOURS")]
    reservation_hours: Option<u16>,
    /// How long old things are kept, such as parked-events=30d,mail-files=7d; the kinds are in docs/operating.md
    #[arg(
        long,
        global = true,
        env = "STEPWISE_KEEP",
        value_name = "KIND=TIME",
        value_delimiter = ','
    )]
    keep: Option<Vec<String>>,
    /// Log level (error, warn, info, debug) or a filter in the form of RUST_LOG [default: info]
    #[arg(long, global = true, env = "STEPWISE_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Name of this installation; it refuses keys of other installations [default: local]
    #[arg(long, global = true, env = "STEPWISE_ENVIRONMENT", value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    prices: PriceOptions,
    /// Start `up` with an empty shop, without demo products and customers
    #[arg(long, global = true, env = "STEPWISE_NO_DEMO", value_parser = FalseyValueParser::new())]
    no_demo: bool,
}

/// The options as the settings file spells them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    database_url: Option<String>,
    amqp_url: Option<String>,
    gateway_url: Option<String>,
    gateway_key: Option<String>,
    webhook_secret: Option<String>,
    paypal_url: Option<String>,
    paypal_client_id: Option<String>,
    paypal_secret: Option<String>,
    paypal_webhook_id: Option<String>,
    paypal_approval: Option<u32>,
    verification_reminder: Option<u32>,
    return_origins: Option<Vec<String>>,
    return_url: Option<String>,
    smtp_url: Option<String>,
    mail_from: Option<String>,
    data_dir: Option<PathBuf>,
    plain_network: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
    rate_limit: Option<u32>,
    connections_per_address: Option<u32>,
    stop_delay: Option<u32>,
    placement_patience: Option<u32>,
    tax_retention_years: Option<u8>,
    reconcile_minutes: Option<u8>,
    address_rate_limit: Option<u32>,
    public_url: Option<String>,
    allow_origin: Option<Vec<String>>,
    trusted_proxy: Option<Vec<String>>,
    proxy_header: Option<String>,
    currency: Option<String>,
    shipping_cost: Option<String>,
    free_shipping_from: Option<String>,
    tax_rates: Option<Vec<String>>,
    customer_cart_days: Option<u16>,
    guest_cart_days: Option<u16>,
    reservation_hours: Option<u16>,
    keep: Option<Vec<String>>,
    log: Option<String>,
    environment: Option<String>,
    no_demo: Option<bool>,
}

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
    /// Requests without a valid token that one address may send per second, unless it is the usual limit.
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
    /// What customers pay.
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
}

impl Options {
    /// Puts flags, environment, file and defaults together.
    pub fn into_settings(self) -> Result<Settings, Failure> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None if Path::new(FILE).exists() => read(Path::new(FILE))?,
            None => File::default(),
        };
        let usual = Config::default();
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3_600);
        let settings = Settings {
            database_url: self.database_url.or(file.database_url),
            amqp_url: self.amqp_url.or(file.amqp_url),
            gateway_url: self.gateway_url.or(file.gateway_url),
            gateway_key: self.gateway_key.or(file.gateway_key).map(Into::into),
            webhook_secret: self.webhook_secret.or(file.webhook_secret).map(Into::into),
            paypal_url: self.paypal_url.or(file.paypal_url),
            paypal_client_id: self.paypal_client_id.or(file.paypal_client_id),
            paypal_secret: self.paypal_secret.or(file.paypal_secret).map(Into::into),
            paypal_webhook_id: self.paypal_webhook_id.or(file.paypal_webhook_id),
            paypal_approval: self
                .paypal_approval
                .or(file.paypal_approval)
                .map_or(Config::default().paypal_approval, |s| Duration::from_secs(s.into())),
            verification_reminder: self
                .verification_reminder
                .or(file.verification_reminder)
                .map_or(Config::default().verification_reminder, |s| Duration::from_secs(s.into())),
            return_origins: self.return_origins.or(file.return_origins),
            return_url: self.return_url.or(file.return_url),
            smtp_url: self.smtp_url.or(file.smtp_url).map(Into::into),
            mail_from: self.mail_from.or(file.mail_from),
            data_dir: self.data_dir.or(file.data_dir).unwrap_or_else(|| ".stepwise".into()),
            plain_network: self.plain_network || file.plain_network.unwrap_or(false),
            host: self.host.or(file.host).unwrap_or_else(|| "127.0.0.1".into()),
            port: self.port.or(file.port).unwrap_or(8080),
            address_rate_limit: self.address_rate_limit.or(file.address_rate_limit),
            rate_limit: self.rate_limit.or(file.rate_limit).unwrap_or(200),
            connections_per_address: self.connections_per_address.or(file.connections_per_address),
            stop_delay_s: self.stop_delay.or(file.stop_delay),
            placement_patience: self
                .placement_patience
                .or(file.placement_patience)
                .map_or(Config::default().placement_patience, |s| Duration::from_secs(s.into())),
            tax_retention: self
                .tax_retention_years
                .or(file.tax_retention_years)
                .map_or(Config::default().tax_retention, years),
            reconcile_minutes: self
                .reconcile_minutes
                .or(file.reconcile_minutes)
                .unwrap_or(EVERY_MINUTES),
            network: Network::read(NetworkOptions {
                public_url: self.network.public_url.or(file.public_url),
                allow_origin: self.network.allow_origin.or(file.allow_origin),
                trusted_proxy: self.network.trusted_proxy.or(file.trusted_proxy),
                proxy_header: self.network.proxy_header.or(file.proxy_header),
            })?,
            prices: Prices::read(&PriceOptions {
                currency: self.prices.currency.or(file.currency),
                shipping_cost: self.prices.shipping_cost.or(file.shipping_cost),
                free_shipping_from: self.prices.free_shipping_from.or(file.free_shipping_from),
                tax_rates: self.prices.tax_rates.or(file.tax_rates),
            })?,
            customer_cart_lifetime: self
                .customer_cart_days
                .or(file.customer_cart_days)
                .map_or(usual.customer_cart_lifetime, |days| hours(24 * u32::from(days))),
            guest_cart_lifetime: self
                .guest_cart_days
                .or(file.guest_cart_days)
                .map_or(usual.guest_cart_lifetime, |days| hours(24 * u32::from(days))),
            reservation_lifetime: self
                .reservation_hours
                .or(file.reservation_hours)
                .map_or(usual.reservation_lifetime, |count| hours(count.into())),
            keep: Keep::parse(
                self.keep.or(file.keep).unwrap_or_default().iter().map(String::as_str),
            )?,
            log: self.log.or(file.log).unwrap_or_else(|| DEFAULT_LOG.into()),
            environment: self.environment.or(file.environment).unwrap_or_else(|| "local".into()),
            no_demo: self.no_demo || file.no_demo.unwrap_or(false),
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

fn read(path: &Path) -> Result<File, Failure> {
    let at = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the settings file {at}: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        Failure::usage(format!("the settings file {at} is wrong: {}", error.message()))
    })
}
