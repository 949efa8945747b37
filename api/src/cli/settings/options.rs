//! The options of all commands, as flags, as variables and in the settings file.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{network::NetworkOptions, prices::PriceOptions};
use crate::cli::Failure;

/// The settings file that is read if it exists and `--config` is not given.
const FILE: &str = "stepwise.toml";

/// Options every subcommand knows. The settings file has them under the same names.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Options {
    /// Settings file [default: stepwise.toml, if there is one]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CONFIG",
        value_name = "FILE",
        help_heading = "General"
    )]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// Address of your Postgres; without it `up` runs its own
    #[arg(
        long,
        global = true,
        env = "STEPWISE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "General"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database_url: Option<String>,
    /// Address of a RabbitMQ; without it events are published on /v1/events/stream only
    #[arg(
        long,
        global = true,
        env = "STEPWISE_AMQP_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "General"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amqp_url: Option<String>,
    /// Folder for everything that the program writes [default: .stepwise]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_DATA_DIR",
        value_name = "DIR",
        help_heading = "General"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_dir: Option<PathBuf>,
    /// Allow connections to other machines without TLS, because the network between them is private
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PLAIN_NETWORK",
        value_parser = switch,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "General",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plain_network: Option<bool>,
    /// Log level (error, warn, info, debug) or a filter in the form of RUST_LOG [default: info]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_LOG",
        value_name = "FILTER",
        help_heading = "General"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
    /// Name of this installation; it refuses keys of other installations [default: local]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_ENVIRONMENT",
        value_name = "NAME",
        help_heading = "General",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_HOST",
        value_name = "IP",
        help_heading = "Front door"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    /// Port to listen on [default: 8080]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PORT",
        value_name = "PORT",
        help_heading = "Front door"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) network: NetworkOptions,
    /// Requests a caller may send per second; 0 switches all limits off [default: 200]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RATE_LIMIT",
        value_name = "N",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate_limit: Option<u32>,
    /// Requests that one address may send per second without a valid token, as a guest, or as the first with a token [default: 1000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_ADDRESS_RATE_LIMIT",
        value_name = "N",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address_rate_limit: Option<u32>,
    /// Connections that one address may have open [default: 1000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections_per_address: Option<u32>,
    /// Seconds that a stopping process still accepts requests after /readyz has turned 503
    /// [default: 2; `up`: 0]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_STOP_DELAY",
        value_name = "SECONDS",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_delay: Option<u32>,
    /// Address of a payment gateway; without it `up` runs the sandbox
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GATEWAY_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Payments"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway_url: Option<String>,
    /// Key for the payment gateway of --gateway-url [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GATEWAY_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway_key: Option<String>,
    /// Secret with which the gateway signs its webhooks [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_secret: Option<String>,
    /// Address of PayPal's API; without it `up` uses its sandbox, and other processes take no payments by PayPal if --gateway-url is given
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paypal_url: Option<String>,
    /// Client id of the REST app at PayPal [default: the sandbox's]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_CLIENT_ID",
        value_name = "ID",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paypal_client_id: Option<String>,
    /// Secret of the REST app at PayPal [default: the key for the payment gateway, which is the sandbox's]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paypal_secret: Option<String>,
    /// PayPal's id of the webhook at /v1/webhooks/paypal [default: the sandbox's]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_WEBHOOK_ID",
        value_name = "ID",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paypal_webhook_id: Option<String>,
    /// Seconds that a customer has to approve a payment at PayPal [default: 1800]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PAYPAL_APPROVAL",
        value_name = "SECONDS",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paypal_approval: Option<u32>,
    /// Origins to whose pages PayPal may send customers back, separated by commas: `https://shop.example` [default: that of --return-url]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RETURN_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ',',
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) return_origins: Option<Vec<String>>,
    /// Address to which customers return after they have approved a payment [default: the shop's address]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RETURN_URL",
        value_name = "URL",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) return_url: Option<String>,
    /// Seconds that placing an order waits for a payment gateway that does not answer; then the order fails [default: 1800]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PLACEMENT_PATIENCE",
        value_name = "SECONDS",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) placement_patience: Option<u32>,
    /// Minutes between two comparisons of payments with the payment gateway; 0 switches them off [default: 15]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RECONCILE_MINUTES",
        value_name = "MINUTES",
        help_heading = "Payments",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reconcile_minutes: Option<u8>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) prices: PriceOptions,
    /// Seconds after which a customer is reminded to verify the email address; from 86400 on nobody is [default: 72000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_VERIFICATION_REMINDER",
        value_name = "SECONDS",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verification_reminder: Option<u32>,
    /// Days after which a customer's cart that nobody has used expires [default: 30]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CUSTOMER_CART_DAYS",
        value_name = "DAYS",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) customer_cart_days: Option<u16>,
    /// Days after which a guest's cart that nobody has used expires [default: 7]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GUEST_CART_DAYS",
        value_name = "DAYS",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guest_cart_days: Option<u16>,
    /// Hours that stock reserved by hand is held for an order [default: 24]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_RESERVATION_HOURS",
        value_name = "HOURS",
        help_heading = "Shop",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reservation_hours: Option<u16>,
    /// Start `up` with an empty shop, without demo products and customers
    #[arg(
        long,
        global = true,
        env = "STEPWISE_NO_DEMO",
        value_parser = switch,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Shop"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) no_demo: Option<bool>,
    /// Mail server: `smtps://user:password@mail.example`, or `smtp://` for STARTTLS; without it mails are files in the data directory
    #[arg(
        long,
        global = true,
        env = "STEPWISE_SMTP_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Mail",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) smtp_url: Option<String>,
    /// Sender of all mails, needed with --smtp-url: `Shop <shop@example.com>`
    #[arg(
        long,
        global = true,
        env = "STEPWISE_MAIL_FROM",
        value_name = "ADDRESS",
        help_heading = "Mail",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mail_from: Option<String>,
    /// How long old things are kept, such as parked-events=30d,mail-files=7d; the kinds are in docs/operating.md
    #[arg(
        long,
        global = true,
        env = "STEPWISE_KEEP",
        value_name = "KIND=TIME",
        value_delimiter = ',',
        help_heading = "Retention",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep: Option<Vec<String>>,
    /// Years for which the tax records of erased customers stay readable: the statutory time [default: 10]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_TAX_RETENTION_YEARS",
        value_name = "YEARS",
        help_heading = "Retention",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tax_retention_years: Option<u8>,
}

/// Reads a switch. An empty variable is a switch that is off.
fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "" | "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}

impl Options {
    /// These options, and those of the settings file for all that are not given.
    pub(super) fn with_file(self) -> Result<Self, Failure> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None if Path::new(FILE).exists() => FILE.into(),
            None => return Ok(self),
        };
        let wrong = |why: &str| {
            Failure::usage(format!("the settings file {} is wrong: {why}", path.display()))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("cannot read the settings file {}: {error}", path.display()))
        })?;
        let mut all: Table =
            text.parse().map_err(|error: toml::de::Error| wrong(error.message()))?;
        if let Some(key) = all.keys().find(|key| !is_known(key)) {
            return Err(wrong(&format!("there is no setting {key}; `stepwise --help` lists all")));
        }
        let given = Table::try_from(self)
            .map_err(|_| Failure::usage("--data-dir must be UTF-8 if there is a settings file"))?;
        // A wrong type is told of the file alone: flags and variables have been checked.
        Self::deserialize(all.clone()).map_err(|error| wrong(error.message()))?;
        all.extend(given);
        Self::deserialize(all).map_err(|error| wrong(error.message()))
    }
}

impl Options {
    /// Refuses numbers beyond their limits, wherever they were given.
    pub(super) fn check_limits(&self) -> Result<(), Failure> {
        let numbers = [
            ("address-rate-limit", self.address_rate_limit, 1..=u32::MAX),
            ("connections-per-address", self.connections_per_address, 1..=u32::MAX),
            ("stop-delay", self.stop_delay, 0..=15),
            ("tax-retention-years", self.tax_retention_years.map(Into::into), 0..=100),
        ];
        for (name, number, limits) in numbers {
            if number.is_some_and(|number| !limits.contains(&number)) {
                let (least, most) = limits.into_inner();
                return Err(Failure::usage(format!("--{name} must be {least} to {most}")));
            }
        }
        Ok(())
    }
}

/// Whether an option has this name. The settings file cannot name another settings file.
fn is_known(name: &str) -> bool {
    let command = Options::augment_args(Command::new("stepwise"));
    name != "config" && command.get_arguments().any(|argument| argument.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_be_written_to_a_file_and_read_from_it() {
        let names = ["allow-origin", "currency", "keep", "no-demo", "port", "smtp-url"];
        assert!(names.into_iter().all(is_known));
        assert!(!is_known("config") && !is_known("prot"));
        let options = Options { port: Some(9), no_demo: Some(false), ..Options::default() };
        let table = Table::try_from(options).expect("TOML");
        assert_eq!(
            table.to_string(),
            "no-demo = false\nport = 9\n",
            "only what is given is written"
        );
    }
}
