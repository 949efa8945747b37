//! `demo.json`, and the commands to try with it.

use std::{collections::BTreeMap, io::Write as _};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::database::Waits;
use stepwise_workflows::{
    Shop,
    seed::{self, DemoCustomer},
};
use uuid::Uuid;

use super::{
    super::{Failure, broker::Broker, database::Database, gateway::LEDGER, shop::GatewayAddress},
    Site,
};
use crate::door::{
    caller::token_hash,
    tokens::{NewKey, make_key},
};

const FILE: &str = "demo.json";
/// A file of shell variables: the first customer, everything needed to place an order, and this process's id (for killing it).
const VARIABLES: &str = "demo.env";
/// All scopes of a service key.
const SCOPES: [&str; 5] =
    ["operations:read", "inventory:write", "inventory:read", "payments:write", "events:read"];

/// The keys, products and customers in `demo.json`.
pub(super) struct Demo {
    tokens: Tokens,
    product_ids: Vec<Uuid>,
    customers: Vec<Customer>,
}

/// The front door's keys, one per role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tokens {
    admin: String,
    operator: String,
    viewer: String,
    service: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Customer {
    customer_id: Uuid,
    email: String,
    token: String,
    shipping_address_id: Uuid,
    payment_methods: BTreeMap<String, Uuid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoFile<'a> {
    base_url: &'a str,
    database_url: &'a str,
    amqp_url: Option<&'a str>,
    gateway_url: String,
    gateway_ledger: String,
    tokens: &'a Tokens,
    product_ids: &'a [Uuid],
    customers: &'a [Customer],
}

impl From<DemoCustomer> for Customer {
    fn from(customer: DemoCustomer) -> Self {
        Self {
            customer_id: customer.customer_id,
            email: customer.email,
            token: customer.token.expose().to_owned(),
            shipping_address_id: customer.shipping_address_id,
            payment_methods: customer.payment_methods,
        }
    }
}

impl Demo {
    /// Creates the keys that are missing, and fills the shop unless `--no-demo` is given.
    pub(super) async fn prepare(
        site: &Site<'_>,
        database: &Database,
        shop: &Shop,
    ) -> Result<Self, Failure> {
        let pool = database.pool("stepwise demo", Waits::COMMAND, 2);
        let tokens = tokens(site, &pool).await?;
        let mut demo = Self { tokens, product_ids: Vec::new(), customers: Vec::new() };
        if !site.settings.no_demo {
            let mut tx = pool.begin().await?;
            let seeded = seed::demo(shop, &mut tx)
                .await
                .map_err(|error| Failure::failed("cannot fill the demo shop", error))?;
            tx.commit().await?;
            demo.product_ids = seeded.product_ids;
            demo.customers = seeded.customers.into_iter().map(Customer::from).collect();
        }
        pool.close().await;
        Ok(demo)
    }

    /// Writes the file atomically.
    pub(super) fn publish(
        &self,
        site: &Site<'_>,
        database_url: &str,
        gateway: &GatewayAddress,
    ) -> Result<(), Failure> {
        let file = DemoFile {
            base_url: &site.base_url,
            database_url,
            amqp_url: site.settings.amqp_url.as_deref(),
            gateway_url: gateway.to_string(),
            gateway_ledger: site.folder.join(LEDGER).display().to_string(),
            tokens: &self.tokens,
            product_ids: &self.product_ids,
            customers: &self.customers,
        };
        site.folder.write_private(FILE, &file)?;
        let Some(customer) = self.customers.first() else { return Ok(()) };
        let variables = [
            ("SHOP", site.base_url.clone()),
            ("CUSTOMER", customer.customer_id.to_string()),
            ("TOKEN", customer.token.clone()),
            ("ADDRESS", customer.shipping_address_id.to_string()),
            ("METHOD", customer.payment_methods["ok"].to_string()),
            ("PRODUCT", self.product_ids.first().map(Uuid::to_string).unwrap_or_default()),
            ("ADMIN", self.tokens.admin.clone()),
            ("OPERATOR", self.tokens.operator.clone()),
            ("SERVICE", self.tokens.service.clone()),
            ("STEPWISE_PID", std::process::id().to_string()),
        ];
        let text: String =
            variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        site.folder.write_private_text(VARIABLES, &text)
    }

    /// Prints the addresses of the running parts and commands to try.
    pub(super) fn print_welcome(&self, site: &Site<'_>, broker: &Broker) {
        let base = &site.base_url;
        let demo = site.folder.join(FILE);
        let events = if broker.is_rabbit { "RabbitMQ and " } else { "" };
        let mut text = format!(
            "\nStepwise is up.\n\n  \
             API and documentation   {base}/docs\n  \
             keys and demo data      {}\n  \
             events                  {events}{base}/v1/events/stream\n",
            demo.display()
        );
        if !self.customers.is_empty() && !self.product_ids.is_empty() {
            text.push_str(&tour(&site.folder.join(VARIABLES)));
        }
        text.push_str("\nCtrl-C stops everything. Or kill -9 the process and start it again.\n\n");
        // The reader of standard output may be gone.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// The commands to paste, which are the same in the README.
fn tour(variables: &std::path::Path) -> String {
    let lines =
        include_str!("tour.sh").replace(".stepwise/demo.env", &variables.display().to_string());
    let indented: String =
        lines.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect();
    format!("\nTry this in another terminal:\n\n{indented}")
}

/// The keys of the last start if this database still accepts all of them, or else new keys.
async fn tokens(site: &Site<'_>, pool: &PgPool) -> Result<Tokens, Failure> {
    #[derive(Deserialize)]
    struct Earlier {
        tokens: Tokens,
    }
    let earlier = std::fs::read(site.folder.join(FILE)).ok();
    let earlier = earlier.and_then(|text| serde_json::from_slice::<Earlier>(&text).ok());
    if let Some(Earlier { tokens }) = earlier
        && are_known(&tokens, pool).await?
    {
        return Ok(tokens);
    }
    let environment = &site.settings.environment;
    let scopes = SCOPES.map(str::to_owned);
    let make = async |role, scopes| {
        let new = NewKey { role, name: "made by `stepwise up`", scopes, lives_days: None };
        make_key(pool, environment, new).await
    };
    Ok(Tokens {
        admin: make("admin", &[]).await?,
        operator: make("operator", &[]).await?,
        viewer: make("viewer", &[]).await?,
        service: make("service", &scopes).await?,
    })
}

async fn are_known(tokens: &Tokens, pool: &PgPool) -> Result<bool, sqlx::Error> {
    let Tokens { admin, operator, viewer, service } = tokens;
    let hashes = [admin, operator, viewer, service].map(|token| token_hash(token).to_vec());
    sqlx::query_scalar(
        "-- access_keys_known
        select count(*) = 4 from shop.access_key
        where key_hash = any($1) and revoked_at is null and expires_at is null
            and (role <> 'service' or scopes @> $2)",
    )
    .bind(&hashes[..])
    .bind(&SCOPES.map(str::to_owned)[..])
    .fetch_one(pool)
    .await
}
