//! Opens the shop with its gateways, key store and mailer.

use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;
use sqlx::PgPool;
use stepwise_adapters::{
    breaker::Breaker,
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    paypal::{PayPal, PayPalConfig, Providers},
    sandbox::{PAYPAL_CLIENT_ID, PAYPAL_WEBHOOK_ID},
};
use stepwise_workflows::{Config, Shop, payment::gateway::PaymentGateway, product, purge};

use super::{
    Failure,
    folder::Folder,
    gateway, mail,
    settings::{Settings, is_origin},
};
use crate::readiness::Readiness;

/// The addresses of the payment gateways: of the one that takes cards, and of PayPal.
#[derive(Debug, Clone)]
pub(super) struct GatewayAddress {
    cards: Url,
    /// `None`: the shop takes no payments by PayPal.
    paypal: Option<Url>,
}

impl GatewayAddress {
    /// The addresses in `--gateway-url` and `--paypal-url`, if the former is given.
    pub(super) fn given(settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(cards) = settings.gateway_url.as_deref() else { return Ok(None) };
        let cards = parse("--gateway-url", cards)?;
        let paypal = settings.paypal_url.as_deref().map(|url| parse("--paypal-url", url));
        Ok(Some(Self { cards, paypal: paypal.transpose()? }))
    }

    /// The addresses that are given, or else that of the sandbox in this data folder, which is both.
    pub(super) fn given_or_noted(settings: &Settings, folder: &Folder) -> Result<Self, Failure> {
        if let Some(given) = Self::given(settings)? {
            return Ok(given);
        }
        match gateway::Note::read(folder) {
            Some(note) => Self::sandbox(settings, &note.url()),
            None => Err(Failure::usage(
                "no payment gateway is given: give --gateway-url (or STEPWISE_GATEWAY_URL), or start the \
                 sandbox with `stepwise gateway` and the same --data-dir",
            )),
        }
    }

    /// The address of the sandbox, which is PayPal as well unless `--paypal-url` is given.
    pub(super) fn sandbox(settings: &Settings, url: &str) -> Result<Self, Failure> {
        let cards = parse("--gateway-url", url)?;
        let paypal = match settings.paypal_url.as_deref() {
            Some(url) => parse("--paypal-url", url)?,
            None => cards.clone(),
        };
        Ok(Self { cards, paypal: Some(paypal) })
    }

    /// The address of the gateway that takes cards.
    pub(super) fn cards(&self) -> &Url {
        &self.cards
    }

    /// The address of PayPal, if the shop takes payments by PayPal.
    pub(super) fn paypal(&self) -> Option<&Url> {
        self.paypal.as_ref()
    }
}

/// Host and port, for a check whether a gateway accepts connections.
pub(super) fn host_and_port(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    (host, url.port_or_known_default().unwrap_or(443))
}

fn parse(option: &str, text: &str) -> Result<Url, Failure> {
    match text.parse::<Url>() {
        Ok(url) if url.has_host() => Ok(url),
        _ => Err(Failure::usage(format!("{option} is not the address of a server"))),
    }
}

impl std::fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.cards.as_str().trim_end_matches('/'))
    }
}

/// An open shop.
pub(super) struct Opened {
    pub(super) shop: Arc<Shop>,
    /// The breaker before the gateway that takes cards.
    pub(super) breaker: Breaker,
    /// PayPal, if the shop takes payments by PayPal, and the breaker before it.
    pub(super) paypal: Option<(PayPal, Breaker)>,
    /// How long old rows are kept.
    retention: purge::Retention,
}

impl Opened {
    /// The states of the gateways that this process calls at these addresses.
    pub(super) fn readiness(&self, gateway: &GatewayAddress) -> Readiness {
        let cards = host_and_port(&gateway.cards);
        let readiness = Readiness::default()
            .with_retention(self.retention.clone())
            .with_gateway(cards, self.breaker.line());
        match (&gateway.paypal, &self.paypal) {
            (Some(url), Some((_, breaker))) => {
                readiness.with_paypal(host_and_port(url), breaker.line())
            }
            _ => readiness,
        }
    }
}

/// Refuses a currency in which the products of this database are not priced: their prices would be read as if they were. 1 round trip.
pub(super) async fn check_currency(settings: &Settings, db: &PgPool) -> Result<(), Failure> {
    let currency = settings.prices.currency;
    match product::other_currency(db, currency).await? {
        None => Ok(()),
        Some(other) => Err(Failure::usage(format!(
            "--currency is {currency}, but this shop has products priced in {other}; give --currency {other}"
        ))),
    }
}

/// Opens the shop, which calls each gateway through a breaker. Customers reach the shop at `base_url`.
pub(super) fn open(
    settings: &Settings,
    folder: &Folder,
    keys: FileKeyStore,
    gateway: &GatewayAddress,
    base_url: &str,
) -> Result<Opened, Failure> {
    let key = match &settings.gateway_key {
        Some(key) => key.clone(),
        None => folder.secrets()?.gateway_key.into(),
    };
    let cannot =
        |what: &'static str| move |error: &dyn std::fmt::Display| Failure::failed(what, error);
    let mut config = GatewayConfig::new(gateway.cards.clone(), key.clone());
    // A command of an operator has no address of a shop, and asks no customer to approve anything.
    let shop = Some(base_url).filter(|url| !url.is_empty());
    let return_url = settings.return_url.as_deref().or(shop);
    let return_url = return_url
        .map(Url::parse)
        .transpose()
        .map_err(|error| cannot("cannot use the address to which customers return")(&error))?;
    let return_origins = match (&settings.return_origins, &return_url) {
        (Some(origins), _) => origins.clone(),
        (None, Some(url)) => {
            Vec::from_iter(Some(url.origin().ascii_serialization()).filter(|text| is_origin(text)))
        }
        (None, None) => Vec::new(),
    };
    if let Some(url) = return_url {
        config.return_url = url;
    }
    let cards = StripeGateway::new(config)
        .map_err(|error| cannot("cannot prepare calls to the payment gateway")(&error))?;
    let breaker = Breaker::before(Arc::new(cards));
    let paypal = match &gateway.paypal {
        // The sandbox is both gateways, with one key.
        Some(url) => {
            let sandbox_key = (*url == gateway.cards).then_some(key);
            Some(open_paypal(settings, url, sandbox_key)?)
        }
        None => None,
    };
    let config = Config {
        base_url: base_url.to_owned(),
        currency: settings.prices.currency,
        shipping_cost: settings.prices.shipping_cost,
        free_shipping_from: settings.prices.free_shipping_from,
        tax_rates: settings.prices.tax_rates.clone(),
        placement_patience: settings.placement_patience,
        paypal_approval: settings.paypal_approval,
        verification_reminder: settings.verification_reminder,
        customer_cart_lifetime: settings.customer_cart_lifetime,
        guest_cart_lifetime: settings.guest_cart_lifetime,
        reservation_lifetime: settings.reservation_lifetime,
        tax_retention: settings.tax_retention,
        return_origins,
        ..Config::default()
    };
    let paypal_payments =
        paypal.as_ref().map(|(_, breaker)| Arc::new(breaker.clone()) as Arc<dyn PaymentGateway>);
    let gateway = Arc::new(Providers::new(Arc::new(breaker.clone()), paypal_payments));
    let reactions = stepwise_workflows::reactions::of_event;
    let shop = Shop::new(config, Arc::new(keys), gateway, mail::open(settings, folder)?, reactions);
    let shop = match &paypal {
        Some((paypal, _)) => shop.with_paypal(Arc::new(paypal.clone())),
        None => shop,
    };
    let retention = settings.keep.rows.clone();
    Ok(Opened { shop: Arc::new(shop), breaker, paypal, retention })
}

/// The client for PayPal, and the breaker before it. Only the sandbox has credentials that need not be given.
fn open_paypal(
    settings: &Settings,
    url: &Url,
    sandbox_key: Option<SecretString>,
) -> Result<(PayPal, Breaker), Failure> {
    let missing = |option: &str| {
        Failure::usage(format!("--paypal-url is not the sandbox: give {option} as well"))
    };
    let of_sandbox = |text: &'static str| sandbox_key.as_ref().map(|_| text.to_owned());
    let client_id = settings.paypal_client_id.clone().or(of_sandbox(PAYPAL_CLIENT_ID));
    let client_id = client_id.ok_or_else(|| missing("--paypal-client-id"))?;
    let webhook_id = settings.paypal_webhook_id.clone().or(of_sandbox(PAYPAL_WEBHOOK_ID));
    let webhook_id = webhook_id.ok_or_else(|| missing("--paypal-webhook-id"))?;
    let secret = settings.paypal_secret.clone().or(sandbox_key);
    let secret = secret.ok_or_else(|| missing("--paypal-secret"))?;
    let config = PayPalConfig { webhook_id, ..PayPalConfig::new(url.clone(), &client_id, secret) };
    let paypal = PayPal::new(config)
        .map_err(|error| Failure::failed("cannot prepare calls to PayPal", error))?;
    let breaker = Breaker::before_paypal(Arc::new(paypal.clone()));
    Ok((paypal, breaker))
}
