//! A placement survives a crash at every point: before and after every claim, call and commit.

use std::{future::Future, path::PathBuf, sync::Arc};

use secrecy::SecretString;
use sqlx::{PgPool, migrate::Migrator};
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
    sandbox::{Sandbox, SandboxConfig, Timing, ledger},
};
use stepwise_engine::{
    Engine, Status, inspect,
    testing::{Trial, survives_every_crash},
};
use stepwise_tests::money;
use stepwise_workflows::{
    Config, Shop,
    cart::{AddItem, add_item},
    order::{commands::place_order, place::PlaceOrder},
    seed,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// A shop whose customers pay by one method, and a gateway that outlives every crash.
struct Placements {
    method: &'static str,
    /// How each placement ends: the instance, the order, and how many live authorizations remain.
    ends: (Status, &'static str, usize),
    folder: PathBuf,
    gateway_url: String,
    _gateway: Runtime,
}

impl Placements {
    fn paid_by(method: &'static str, ends: (Status, &'static str, usize)) -> Self {
        let folder =
            std::env::temp_dir().join(format!("stepwise-crashes-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let gateway = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let config = SandboxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ledger: folder.join("ledger.jsonl"),
            api_key: SecretString::from("sk_test"),
            public_url: None,
            webhooks: None,
            timing: Timing::default(),
        };
        let sandbox = gateway.block_on(Sandbox::bind(config)).expect("the gateway starts");
        let gateway_url = format!("http://{}", sandbox.address());
        gateway.spawn(sandbox.serve(std::future::pending()));
        Self { method, ends, folder, gateway_url, _gateway: gateway }
    }

    fn shop(&self) -> Arc<Shop> {
        let config = GatewayConfig::new(
            self.gateway_url.parse().expect("a URL"),
            "sk_test".to_owned().into(),
        );
        Arc::new(Shop::new(
            Config::default(),
            Arc::new(FileKeyStore::open(&self.folder.join("keys")).expect("keys")),
            Arc::new(StripeGateway::new(config).expect("a client")),
            Arc::new(FileMailer::new(&self.folder.join("mail")).expect("mail")),
        ))
    }

    async fn order(&self, engine: &Engine, run: usize) -> Uuid {
        let (shop, pool) = (self.shop(), engine.pool());
        let mut tx = pool.begin().await.expect("begin");
        let demo = seed::demo(&shop, &mut tx).await.expect("the demo shop is there");
        let customer = &demo.customers[run % demo.customers.len()];
        let item = AddItem {
            customer_id: customer.customer_id,
            product_id: demo.product_ids[0],
            variant_id: None,
            quantity: 2,
        };
        add_item(&shop, &mut tx, &item).await.expect("in the cart");
        tx.commit().await.expect("commit");
        let command = PlaceOrder {
            customer_id: customer.customer_id,
            shipping_address_id: customer.shipping_address_id,
            payment_method_id: customer.payment_methods[self.method],
            accepted_cart: None,
        };
        let mut tx = pool.begin().await.expect("begin");
        let placed = place_order(&shop, engine, &mut tx, &command).await.expect("placing");
        tx.commit().await.expect("commit");
        let id = placed.saga.id;
        placed.saga.hand_over();
        id
    }

    async fn check(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let found = inspect::details(engine.pool(), id)
            .await
            .map_err(|e| e.to_string())?
            .ok_or("it is gone")?;
        let order = found.summary.subject;
        let is: String =
            sqlx::query_scalar(r#"select status from shop."order" where order_id = $1::uuid"#)
                .bind(&order)
                .fetch_one(engine.pool())
                .await
                .map_err(|e| e.to_string())?;
        let live =
            ledger::live_by_order(&self.folder.join("ledger.jsonl")).map_err(|e| e.to_string())?;
        let live = live.get(&order).map_or(0, Vec::len);
        let (reserved, held): (i64, i64) = sqlx::query_as(
            r#"select (select sum(reserved) from shop.inventory)::bigint,
                (select coalesce(sum(item_count), 0) from shop."order" where status = 'pending')::bigint"#,
        )
        .fetch_one(engine.pool())
        .await
        .map_err(|e| e.to_string())?;
        if (status, is.as_str(), live) != self.ends {
            return Err(format!("ended {status:?}, order {is}, {live} live authorizations"));
        }
        if reserved != held {
            return Err(format!("{reserved} are reserved, {held} belong to orders"));
        }
        money::agrees(engine.pool(), &self.folder.join("ledger.jsonl")).await?;
        let ends = if status == Status::Completed {
            ["confirmed", "confirmed"]
        } else {
            ["undone", "refuted"]
        };
        match found.effects.iter().find(|effect| !ends.contains(&effect.status.as_str())) {
            Some(open) => Err(format!("the ledger does not balance: {open:?}")),
            None => Ok(()),
        }
    }
}

impl Trial for Placements {
    fn migrations(&self) -> Vec<Migrator> {
        vec![
            stepwise_engine::migrations::migrations(),
            stepwise_workflows::migrations::migrations(),
        ]
    }

    async fn prepare(&self, pool: &PgPool) {
        let mut tx = pool.begin().await.expect("begin");
        seed::demo(&self.shop(), &mut tx).await.expect("seeded");
        tx.commit().await.expect("commit");
    }

    fn engine(&self, pool: PgPool) -> Engine {
        stepwise_workflows::sagas::explore();
        stepwise_workflows::sagas::engine(&self.shop(), pool)
    }

    fn start(&self, engine: &Engine, run: usize) -> impl Future<Output = Uuid> {
        self.order(engine, run)
    }

    fn balances(
        &self,
        engine: &Engine,
        id: Uuid,
        status: Status,
    ) -> impl Future<Output = Result<(), String>> {
        self.check(engine, id, status)
    }
}

impl Drop for Placements {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_placement_survives_a_crash_at_every_point() {
    let survived =
        survives_every_crash(&Placements::paid_by("ok", (Status::Completed, "pending", 1)));
    let points: usize = survived.at.values().sum();
    assert!(points >= 8, "two calls and their commits alone are 8 points: {survived:?}");
}

#[test]
fn an_unwinding_placement_survives_a_crash_at_every_point() {
    let survived =
        survives_every_crash(&Placements::paid_by("declined", (Status::Unwound, "failed", 0)));
    let points: usize = survived.at.values().sum();
    assert!(points >= 10, "{survived:?}");
}
