//! What can be set, and where: flag, environment, file, default, in this order.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, builder::FalseyValueParser};
use secrecy::SecretString;
use serde::Deserialize;
use stepwise_workflows::Config;

use super::Failure;

/// The file that is read if it is there and `--config` says nothing.
const FILE: &str = "stepwise.toml";

/// What is logged unless told otherwise. The database's notices are about migrations only.
/// The pools' own lines about single connections are left out: the state of the database is told once (`stepwise_engine::database`).
const DEFAULT_LOG: &str = "info,sqlx::postgres::notice=warn,sqlx_core::pool=off";

/// Options every subcommand knows.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Options {
    /// Settings file [default: stepwise.toml, if there is one]
    #[arg(long, global = true, env = "STEPWISE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of a Postgres of yours; without it `up` runs its own
    #[arg(
        long,
        global = true,
        env = "STEPWISE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// Address of a RabbitMQ; without it events go out on /v1/events/stream only
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
    /// Key to the payment gateway of --gateway-url [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_GATEWAY_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    gateway_key: Option<String>,
    /// What the gateway signs its webhooks with [default: the sandbox's, from the data directory]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    webhook_secret: Option<String>,
    /// Where everything is kept that the program writes [default: .stepwise]
    #[arg(long, global = true, env = "STEPWISE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Connections to other machines may go without TLS: the network between them is private
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
    /// Connections that one address may have open [default: 1000]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    connections_per_address: Option<u32>,
    /// Seconds between /readyz turning 503 and the end of new requests, once told to stop
    /// [default: 2; `up`: 0]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_STOP_DELAY",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(..=15)
    )]
    stop_delay: Option<u32>,
    /// Seconds that a placement waits for a payment gateway that does not answer; then the order fails [default: 1800]
    #[arg(long, global = true, env = "STEPWISE_PLACEMENT_PATIENCE", value_name = "SECONDS")]
    placement_patience: Option<u32>,
    /// What to log: error, warn, info, debug, or a filter as RUST_LOG has them [default: info]
    #[arg(long, global = true, env = "STEPWISE_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// The name of this installation; keys of others are not known here [default: local]
    #[arg(long, global = true, env = "STEPWISE_ENVIRONMENT", value_name = "NAME")]
    environment: Option<String>,
    /// `up` opens an empty shop, without products and customers to try it with
    #[arg(long, global = true, env = "STEPWISE_NO_DEMO", value_parser = FalseyValueParser::new())]
    no_demo: bool,
}

/// The same, in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    database_url: Option<String>,
    amqp_url: Option<String>,
    gateway_url: Option<String>,
    gateway_key: Option<String>,
    webhook_secret: Option<String>,
    data_dir: Option<PathBuf>,
    plain_network: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
    rate_limit: Option<u32>,
    connections_per_address: Option<u32>,
    stop_delay: Option<u32>,
    placement_patience: Option<u32>,
    log: Option<String>,
    environment: Option<String>,
    no_demo: Option<bool>,
}

/// What holds in the end.
#[derive(Clone)]
pub struct Settings {
    /// A Postgres of the user's, if any.
    pub database_url: Option<String>,
    /// A RabbitMQ, if any.
    pub amqp_url: Option<String>,
    /// A payment gateway, if not the sandbox.
    pub gateway_url: Option<String>,
    /// Opens the gateway, if not the sandbox's.
    pub gateway_key: Option<SecretString>,
    /// Signs the gateway's webhooks, if not the sandbox's.
    pub webhook_secret: Option<SecretString>,
    /// Where the program keeps what it writes.
    pub data_dir: PathBuf,
    /// Whether connections to other machines may go without TLS.
    pub plain_network: bool,
    /// Where to listen.
    pub host: String,
    /// Where to listen.
    pub port: u16,
    /// Requests per caller and second; 0: no limits at all.
    pub rate_limit: u32,
    /// Connections of one address at once.
    pub connections_per_address: Option<u32>,
    /// Seconds from the order to stop to the end of new requests.
    pub stop_delay_s: Option<u32>,
    /// How long a placement waits for a gateway that does not answer.
    pub placement_patience: Duration,
    /// The log filter.
    pub log: String,
    /// The name of this installation.
    pub environment: String,
    /// Whether `up` leaves the shop empty.
    pub no_demo: bool,
}

impl Options {
    /// Puts flags, environment, file and defaults together.
    pub fn settle(self) -> Result<Settings, Failure> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None if Path::new(FILE).exists() => read(Path::new(FILE))?,
            None => File::default(),
        };
        let settings = Settings {
            database_url: self.database_url.or(file.database_url),
            amqp_url: self.amqp_url.or(file.amqp_url),
            gateway_url: self.gateway_url.or(file.gateway_url),
            gateway_key: self.gateway_key.or(file.gateway_key).map(Into::into),
            webhook_secret: self.webhook_secret.or(file.webhook_secret).map(Into::into),
            data_dir: self.data_dir.or(file.data_dir).unwrap_or_else(|| ".stepwise".into()),
            plain_network: self.plain_network || file.plain_network.unwrap_or(false),
            host: self.host.or(file.host).unwrap_or_else(|| "127.0.0.1".into()),
            port: self.port.or(file.port).unwrap_or(8080),
            rate_limit: self.rate_limit.or(file.rate_limit).unwrap_or(200),
            connections_per_address: self.connections_per_address.or(file.connections_per_address),
            stop_delay_s: self.stop_delay.or(file.stop_delay),
            placement_patience: self
                .placement_patience
                .or(file.placement_patience)
                .map_or(Config::default().placement_patience, |s| Duration::from_secs(s.into())),
            log: self.log.or(file.log).unwrap_or_else(|| DEFAULT_LOG.into()),
            environment: self.environment.or(file.environment).unwrap_or_else(|| "local".into()),
            no_demo: self.no_demo || file.no_demo.unwrap_or(false),
        };
        settings.plausible()
    }
}

impl Settings {
    fn plausible(self) -> Result<Self, Failure> {
        let schemes: [(&str, &Option<String>, &[&str]); 3] = [
            ("database-url", &self.database_url, &["postgres", "postgresql"]),
            ("amqp-url", &self.amqp_url, &["amqp", "amqps"]),
            ("gateway-url", &self.gateway_url, &["http", "https"]),
        ];
        for (name, value, known) in schemes {
            let scheme = value.as_deref().map(|url| url.split_once("://").map_or("", |(s, _)| s));
            if let Some(scheme) = scheme
                && !known.contains(&scheme)
            {
                return Err(Failure::usage(format!(
                    "--{name} is not an address of that kind: it must begin with {}://",
                    known[0]
                )));
            }
        }
        if let Some(url) = self.gateway_url.as_deref()
            && url.starts_with("http://")
            && !self.plain_network
            && !url.parse().is_ok_and(|url: reqwest::Url| is_this_machine(url.host_str()))
        {
            return Err(Failure::usage(
                "--gateway-url is http:// to another machine: the gateway's key would go over the wire in clear; use \
                 https://, or say --plain-network if that network is private",
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

/// Whether what is sent to this host never leaves the machine.
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
