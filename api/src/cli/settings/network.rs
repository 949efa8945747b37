//! The settings that say how clients reach the front door: its address, proxies in front of it, and pages of other origins.

use clap::Args;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::is_origin;
use crate::{
    cli::Failure,
    door::proxies::{Forwarding, Proxies, parse_network},
};

/// Options that say how clients reach the front door.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct NetworkOptions {
    /// Address at which clients reach the shop: `https://shop.example`. It stands in mails, in events and in the OpenAPI document
    /// [default: the address that the shop listens on]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PUBLIC_URL",
        value_name = "URL",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) public_url: Option<String>,
    /// Origin whose pages may call the shop from browsers: `https://shop.example`; several separated by commas [default: none]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_origin: Option<Vec<String>>,
    /// Network of reverse proxies in front of the shop, which say who the client is: `10.0.0.0/8`; several separated by commas
    /// [default: none]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trusted_proxy: Option<Vec<String>>,
    /// Header in which trusted proxies name the client: x-forwarded-for or forwarded [default: x-forwarded-for]
    #[arg(
        long,
        global = true,
        env = "STEPWISE_PROXY_HEADER",
        value_name = "HEADER",
        help_heading = "Front door",
        hide_short_help = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_header: Option<String>,
}

/// The settings that say how clients reach the front door.
#[derive(Debug, Clone)]
pub struct Network {
    /// The origin at which clients reach the shop, if it is not the address that the shop listens on.
    pub public_url: Option<String>,
    /// The origins whose pages may call the shop from browsers.
    pub allowed_origins: Vec<String>,
    /// The reverse proxies in front of the shop.
    pub proxies: Proxies,
}

impl Network {
    /// Reads the options. Refuses an unknown form of one by its name.
    pub(super) fn read(options: NetworkOptions) -> Result<Self, Failure> {
        let public_url = options.public_url.as_deref().map(read_public_url).transpose()?;
        let allowed_origins = options.allow_origin.unwrap_or_default();
        if let Some(wrong) = allowed_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(Failure::usage(format!(
                "--allow-origin: {wrong} is not an origin such as https://shop.example (http:// is allowed on this machine only)"
            )));
        }
        let networks = options.trusted_proxy.unwrap_or_default();
        let networks: Result<Vec<IpNet>, Failure> = networks
            .iter()
            .map(|text| {
                parse_network(text).ok_or_else(|| {
                    Failure::usage(format!(
                        "--trusted-proxy: {text} is not a network such as 10.0.0.0/8 or an address"
                    ))
                })
            })
            .collect();
        let forwarding = match options.proxy_header.as_deref() {
            None | Some("x-forwarded-for") => Forwarding::XForwardedFor,
            Some("forwarded") => Forwarding::Forwarded,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "--proxy-header: {other} is neither x-forwarded-for nor forwarded"
                )));
            }
        };
        let proxies = Proxies::new(networks?, forwarding);
        Ok(Self { public_url, allowed_origins, proxies })
    }
}

/// An address of `http` or `https` without a path. Answers name their resources by paths from the root.
fn read_public_url(text: &str) -> Result<String, Failure> {
    let trimmed = text.trim_end_matches('/');
    let is_origin = trimmed.parse::<reqwest::Url>().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == trimmed
    });
    if is_origin {
        return Ok(trimmed.to_owned());
    }
    Err(Failure::usage(format!(
        "--public-url: {text} is not an address such as https://shop.example (lower case, without a path, a user or the usual port)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_by_the_name_of_its_option() {
        let public = |url: &str| NetworkOptions {
            public_url: Some(url.into()),
            ..NetworkOptions::default()
        };
        let origin = |text: &str| NetworkOptions {
            allow_origin: Some(vec!["https://shop.example".into(), text.into()]),
            ..NetworkOptions::default()
        };
        let proxy = |text: &str| NetworkOptions {
            trusted_proxy: Some(vec![text.into()]),
            ..NetworkOptions::default()
        };
        let header = |text: &str| NetworkOptions {
            proxy_header: Some(text.into()),
            ..NetworkOptions::default()
        };
        for (options, name) in [
            (public("shop.example"), "--public-url"),
            (public("ftp://shop.example"), "--public-url"),
            (public("https://shop.example/shop"), "--public-url"),
            (public("https://user@shop.example"), "--public-url"),
            (public("https://shop.example?x"), "--public-url"),
            (origin("*"), "--allow-origin"),
            (origin("http://shop.example"), "--allow-origin"),
            (origin("https://shop.example/"), "--allow-origin"),
            (proxy("10.0.0.0/33"), "--trusted-proxy"),
            (proxy("proxy.example"), "--trusted-proxy"),
            (header("x-real-ip"), "--proxy-header"),
        ] {
            let refused = Network::read(options).expect_err(name).to_string();
            assert!(refused.starts_with(name), "{refused}");
        }
        for url in ["https://shop.example", "https://shop.example/", "http://[::1]:8080"] {
            let read = Network::read(public(url)).expect("it is right");
            assert_eq!(read.public_url.as_deref(), Some(url.trim_end_matches('/')));
        }
    }
}
