//! A front door for one test: a fresh database, a server on a free port, a client.

use std::{path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use serde_json::Value;
use stepwise::{
    door::{
        Door, DoorSettings, codes,
        limits::Rates,
        tokens::{NewKey, make_key},
    },
    readiness::Readiness,
    server::ServerSettings,
};
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    paypal::{PayPal, PayPalConfig, Providers},
    rabbitmq::{RabbitPublisher, Topology},
    sandbox::{
        PAYPAL_CLIENT_ID, PAYPAL_WEBHOOK_ID, Sandbox, SandboxConfig, Timing, WebhookConfig,
        ledger::{self, Line},
    },
};
use stepwise_engine::{
    WorkerConfig,
    outbox::{DeclaredTopologies, Embedded, Publisher, Relay, RelaySettings},
    testing::Database,
};
use stepwise_tests::money;
use stepwise_workflows::{Config, Shop, cloud_event::Envelopes, payment::gateway::PaymentGateway};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    cli::Folder,
    ports::{Letters, Nobody},
};

/// The secret with which the gateway signs its webhooks in these tests.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_test";

/// The key of the sandbox gateway in these tests.
pub(crate) const GATEWAY_KEY: &str = "sk_sandbox";

/// A running front door.
pub(crate) struct House {
    pub(crate) database: Database,
    pub(crate) door: Arc<Door>,
    pub(crate) mail: Arc<Letters>,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    /// The address of the sandbox gateway; empty without one.
    pub(crate) gateway: String,
    /// The gateway's own book.
    ledger: Option<PathBuf>,
    /// The data directory with the customers' keys, for the command line.
    pub(crate) folder: Folder,
    stop: CancellationToken,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text))
    }

    /// Checks that this is a complete problem document whose type leads to a page, and returns its code.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        let kind = self.headers.get("content-type").and_then(|v| v.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let body = self.json();
        for field in ["type", "title", "code", "detail", "instance", "requestId"] {
            assert!(body[field].as_str().is_some_and(|s| !s.is_empty()), "{field} in {body}");
        }
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(body["requestId"], self.header("x-request-id"), "{body}");
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        assert!(codes::meaning(&code).is_some(), "{code} has no page");
        (self.status, code)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// A status and a code, as a short form of `(403, "forbidden".to_owned())`.
pub(crate) fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_with(Rates::OFF).await
    }

    /// Starts a front door without a worker, with a gateway that never answers.
    pub(crate) async fn open_with(rates: Rates) -> Self {
        let (listener, base) = listen().await;
        let (nobody, stop) = (Outside::nobody(), CancellationToken::new());
        let settings = DoorSettings { rates, ..DoorSettings::default() };
        Self::build(settings, listener, base, nobody, ServerSettings::default(), stop).await
    }

    /// Starts a front door without a worker, with these settings. Its environment and secrets are those of all tests.
    pub(crate) async fn open_as(settings: DoorSettings) -> Self {
        let (listener, base) = listen().await;
        let (nobody, stop) = (Outside::nobody(), CancellationToken::new());
        Self::build(settings, listener, base, nobody, ServerSettings::default(), stop).await
    }

    /// Starts a front door without a worker, with these server settings.
    pub(crate) async fn open_served(settings: ServerSettings) -> Self {
        let (listener, base) = listen().await;
        let (nobody, stop) = (Outside::nobody(), CancellationToken::new());
        Self::build(unlimited(), listener, base, nobody, settings, stop).await
    }

    /// Tells the server to stop, like the signal.
    pub(crate) fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// The address on which the server listens.
    pub(crate) fn address(&self) -> &str {
        self.base.strip_prefix("http://").expect("that is how it begins")
    }

    /// Starts a whole shop: the sandbox gateway over HTTP with its webhooks, a worker and a relay.
    pub(crate) async fn open_working() -> Self {
        Self::open_working_as(unlimited()).await
    }

    /// Starts a whole shop with these settings. Its environment and secrets are those of all tests.
    pub(crate) async fn open_working_as(settings: DoorSettings) -> Self {
        let (listener, base) = listen().await;
        let paypal_webhooks_to = format!("{base}/v1/webhooks/paypal");
        let house = Self::open_working_at(listener, base, &paypal_webhooks_to, settings).await;
        house.relaying(Embedded)
    }

    /// Starts a whole shop that publishes at the broker, at an exchange of its own. Returns the exchange's name as well.
    pub(crate) async fn open_publishing(broker: &str) -> (Self, String) {
        let (listener, base) = listen().await;
        let paypal_webhooks_to = format!("{base}/v1/webhooks/paypal");
        let house = Self::open_working_at(listener, base, &paypal_webhooks_to, unlimited()).await;
        let exchange = format!("test.{}", Uuid::now_v7().simple());
        let topology = Topology {
            exchange: exchange.clone(),
            archive: format!("{exchange}.archive"),
            ..Topology::default()
        };
        let shop = &house.door.shop;
        let envelopes = Envelopes::new(Arc::clone(&shop.keys), &shop.config.base_url);
        let declared = DeclaredTopologies::new(house.database.pool().clone());
        let address = broker.parse().expect("an address");
        let publisher = RabbitPublisher::new(address, envelopes, topology, declared);
        publisher.connect().await.expect("the broker is there");
        (house.relaying(publisher), exchange)
    }

    /// Starts a whole shop that PayPal's webhooks do not reach: they go to this address.
    pub(crate) async fn open_without_webhooks_of_paypal(they_go_to: &str) -> Self {
        let (listener, base) = listen().await;
        Self::open_working_at(listener, base, they_go_to, unlimited()).await.relaying(Embedded)
    }

    /// Starts the relay, which publishes there.
    fn relaying(self, publisher: impl Publisher + 'static) -> Self {
        let (pool, publisher) = (self.database.pool().clone(), Arc::new(publisher));
        let relay = Relay::new(pool, publisher, RelaySettings::default());
        tokio::spawn(relay.run(self.stop.clone()));
        self
    }

    async fn open_working_at(
        listener: TcpListener,
        base: String,
        paypal_webhooks_to: &str,
        door: DoorSettings,
    ) -> Self {
        let stop = CancellationToken::new();
        let (outside, address, ledger) = sandbox(&base, paypal_webhooks_to, &stop).await;
        let settings = ServerSettings::default();
        let house = Self::build(door, listener, base, outside, settings, stop.clone()).await;
        let house = Self { gateway: address, ledger: Some(ledger), ..house };
        let engine = house.door.engine.clone();
        tokio::spawn(stepwise_engine::work(
            engine,
            WorkerConfig::default(),
            stop.cancelled_owned(),
        ));
        house
    }

    async fn build(
        door_settings: DoorSettings,
        listener: TcpListener,
        base: String,
        outside: Outside,
        settings: ServerSettings,
        stop: CancellationToken,
    ) -> Self {
        let database = Database::fresh(&[
            stepwise_engine::migrations::migrations(),
            stepwise_workflows::migrations::migrations(),
        ])
        .await;
        let db = stepwise::server::pool(database.options(), 10);
        let mail = Arc::new(Letters::default());
        let folder = Folder::new();
        let keys = FileKeyStore::open(&folder.0.join(".stepwise/keys")).expect("a writable folder");
        let keys = Arc::new(keys);
        let Outside { gateway, paypal } = outside;
        let shop = Shop::new(
            Config::default(),
            keys,
            gateway,
            Arc::clone(&mail) as _,
            stepwise_workflows::reactions::of_event,
        );
        let shop = Arc::new(match paypal.clone() {
            Some(paypal) => shop.with_paypal(Arc::new(paypal)),
            None => shop,
        });
        stepwise_workflows::sagas::explore();
        let engine = stepwise_workflows::sagas::engine(&shop, database.pool().clone());
        let door_settings = DoorSettings {
            environment: "test".to_owned(),
            webhook_secrets: vec![WEBHOOK_SECRET.to_owned().into()],
            paypal,
            ..door_settings
        };
        let readiness = Readiness::default();
        let door = Door::open(db, shop, engine, door_settings, readiness, stop.clone()).await;
        let door = Arc::new(door.expect("a fresh database has its secrets"));
        tokio::spawn(stepwise::server::serve(listener, Arc::clone(&door), settings));
        let (gateway, ledger) = (String::new(), None);
        Self { database, door, mail, base, client: client(), gateway, ledger, folder, stop }
    }

    /// Compares the books of money with the gateway's, once every saga has ended; then stops everything.
    pub(crate) async fn close(self) {
        if let Some(ledger) = &self.ledger {
            // A saga that only waits for time or for a customer's verification moves no money.
            let open = "select count(*) from saga.instance
                where status not in ('completed', 'unwound') and name <> 'register-customer' and name not like '%-expiry'";
            let db = self.database.pool();
            let open: i64 = sqlx::query_scalar(open).fetch_one(db).await.expect("readable");
            if open == 0 {
                money::agrees(db, ledger).await.expect("the books of money agree");
            }
        }
        self.shut().await;
    }

    /// Stops everything, without a look at the books: the test has changed them by hand.
    pub(crate) async fn shut(self) {
        self.stop.cancel();
        self.door.db.close().await;
        self.database.close().await;
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.ask(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.ask(Method::POST, path).json(body)
    }

    /// Sends a request to the sandbox gateway, as somebody does who is not the shop.
    pub(crate) async fn outside(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.client.post(format!("{}{path}", self.gateway)).form(form);
        send(request.bearer_auth(GATEWAY_KEY)).await
    }

    /// The lines of the gateway's own book about an order.
    pub(crate) fn ledger_of(&self, order: Uuid) -> Vec<Line> {
        let ledger = self.ledger.as_ref().expect("it has a gateway");
        let lines = ledger::read(ledger).expect("readable");
        lines.into_iter().filter(|line| line.order_id == order.to_string()).collect()
    }

    /// Creates an access key of this role.
    pub(crate) async fn key(&self, role: &str, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
        let new = NewKey { role, name: "a test", scopes: &scopes, lives_days: Some(1) };
        make_key(self.database.pool(), "test", new).await.expect("a key is made")
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("a whole answer") }
}

/// Settings without limits.
fn unlimited() -> DoorSettings {
    DoorSettings { rates: Rates::OFF, ..DoorSettings::default() }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, base)
}

fn client() -> reqwest::Client {
    // This fails only if another test of this process has already installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy();
    builder.build().expect("a plain client")
}

/// The payment gateways that a shop calls.
struct Outside {
    gateway: Arc<dyn PaymentGateway>,
    paypal: Option<PayPal>,
}

impl Outside {
    /// A gateway that never answers.
    fn nobody() -> Self {
        Self { gateway: Arc::new(Nobody), paypal: None }
    }
}

/// Starts the sandbox. Returns the clients for it, its address and its ledger.
async fn sandbox(
    shop: &str,
    paypal_webhooks_to: &str,
    stop: &CancellationToken,
) -> (Outside, String, PathBuf) {
    drop(client());
    let folder = std::env::temp_dir().join(format!("stepwise-door-{}", Uuid::now_v7().simple()));
    std::fs::create_dir(&folder).expect("the temporary directory is writable");
    let api_key = SecretString::from(GATEWAY_KEY);
    let sandbox = Sandbox::bind(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ledger: folder.join("ledger.jsonl"),
        api_key: api_key.clone(),
        public_url: None,
        webhooks: Some(WebhookConfig {
            url: format!("{shop}/v1/webhooks/gateway").parse().expect("an address"),
            secrets: vec![WEBHOOK_SECRET.to_owned().into()],
            events: Vec::new(),
            paypal: Some(paypal_webhooks_to.parse().expect("an address")),
        }),
        timing: Timing::default(),
    })
    .await
    .expect("a free port and a new ledger");
    let address = format!("http://{}", sandbox.address());
    let (ledger, stop) = (folder.join("ledger.jsonl"), stop.clone());
    tokio::spawn(async move {
        let served = sandbox.serve(stop.cancelled_owned()).await;
        // If this fails, files remain in the temporary directory.
        let _ = std::fs::remove_dir_all(folder);
        served
    });
    let url: reqwest::Url = address.parse().expect("an address");
    let mut config = PayPalConfig::new(url.clone(), PAYPAL_CLIENT_ID, api_key.clone());
    PAYPAL_WEBHOOK_ID.clone_into(&mut config.webhook_id);
    let paypal = PayPal::new(config).expect("a client");
    let cards = StripeGateway::new(GatewayConfig::new(url, api_key)).expect("a client");
    let gateway = Providers::new(Arc::new(cards), Some(Arc::new(paypal.clone())));
    (Outside { gateway: Arc::new(gateway), paypal: Some(paypal) }, address, ledger)
}
