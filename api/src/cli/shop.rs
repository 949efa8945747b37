//! Opens the shop with its gateway, key store and mailer.

use std::sync::Arc;

use reqwest::Url;
use stepwise_adapters::{
    breaker::Breaker,
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
};
use stepwise_workflows::{Config, Shop};

use super::{Failure, folder::Folder, gateway, settings::Settings};

/// The address of a payment gateway.
#[derive(Debug, Clone)]
pub(super) struct GatewayAddress(Url);

impl GatewayAddress {
    /// The address in `--gateway-url`, if that is given.
    pub(super) fn given(settings: &Settings) -> Result<Option<Self>, Failure> {
        settings.gateway_url.as_deref().map(Self::parse).transpose()
    }

    /// The address in `--gateway-url`, or else that of the sandbox in this data folder.
    pub(super) fn given_or_noted(settings: &Settings, folder: &Folder) -> Result<Self, Failure> {
        if let Some(given) = Self::given(settings)? {
            return Ok(given);
        }
        match gateway::Note::read(folder) {
            Some(note) => Self::parse(&note.url()),
            None => Err(Failure::usage(
                "no payment gateway is given: give --gateway-url (or STEPWISE_GATEWAY_URL), or start the \
                 sandbox with `stepwise gateway` and the same --data-dir",
            )),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text.parse::<Url>() {
            Ok(url) if url.has_host() => Ok(Self(url)),
            _ => Err(Failure::usage("--gateway-url is not the address of a server")),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port, for a check whether the gateway accepts connections.
    pub(super) fn host_and_port(&self) -> (String, u16) {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        (host, self.0.port_or_known_default().unwrap_or(443))
    }
}

impl std::fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Opens the shop, which calls the gateway through the breaker. Customers reach the shop at `base_url`.
pub(super) fn open(
    settings: &Settings,
    folder: &Folder,
    keys: FileKeyStore,
    gateway: &GatewayAddress,
    base_url: &str,
) -> Result<(Arc<Shop>, Breaker), Failure> {
    let key = match &settings.gateway_key {
        Some(key) => key.clone(),
        None => folder.secrets()?.gateway_key.into(),
    };
    let cannot =
        |what: &'static str| move |error: &dyn std::fmt::Display| Failure::failed(what, error);
    let mailer = FileMailer::new(&folder.join("mail"))
        .map_err(|error| cannot("cannot write mail into the data directory")(&error))?;
    let mut config = GatewayConfig::new(gateway.0.clone(), key);
    // A command of an operator has no address of a shop, and asks no customer to approve anything.
    let shop = Some(base_url).filter(|url| !url.is_empty());
    if let Some(url) = settings.return_url.as_deref().or(shop) {
        config.return_url = Url::parse(url)
            .map_err(|error| cannot("cannot use the address to which customers return")(&error))?;
    }
    let gateway = StripeGateway::new(config)
        .map_err(|error| cannot("cannot prepare calls to the payment gateway")(&error))?;
    let config = Config {
        base_url: base_url.to_owned(),
        placement_patience: settings.placement_patience,
        ..Config::default()
    };
    let gateway = Breaker::before(Arc::new(gateway));
    let shop = Shop::new(
        config,
        Arc::new(keys),
        Arc::new(gateway.clone()),
        Arc::new(mailer),
        stepwise_workflows::reactions::of_event,
    );
    Ok((Arc::new(shop), gateway))
}
