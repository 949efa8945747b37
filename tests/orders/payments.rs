//! The sagas about payments on trial: another payment for an order, and the comparison with the gateway.

use stepwise_engine::{
    Engine, Start, Status,
    testing::{Trial, start},
};
use stepwise_workflows::{
    order::{
        authorize,
        outside::{self, Applied},
    },
    sagas::{
        authorize_payment::{AuthorizePayment, Signal, authorize_payment},
        reconcile_payments::ReconcilePayments,
    },
    shop::{Actor, Cause, Context, cause::KeyRole},
};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, approval_page, of_the_shop},
    unwinding::unwinds,
};

/// Authorizations of payments for orders whose authorization lapsed.
struct Authorizations(Placements, &'static str);

impl Authorizations {
    fn paid_by(method: &'static str) -> Self {
        Self(Placements::paid_by("ok"), method)
    }

    /// Places an order whose authorization lapses, as the books know.
    async fn lapsed(&self, engine: &Engine, run: usize) -> Uuid {
        let (order, _) = self.0.placed(engine.pool(), run).await;
        let reference = self.0.void_outside(engine.pool(), order).await;
        let shop = self.0.shop();
        let truth = outside::ask(&*shop.gateway, &reference).await.expect("it answers");
        let mut tx = engine.begin().await.expect("begin");
        let mut ctx = Context::new(&shop, engine, &mut tx, Cause::of_system(Uuid::now_v7()));
        let applied = outside::apply(&mut ctx, order, &truth).await.expect("applied");
        assert_eq!(applied, Some(Applied::Corrected));
        tx.commit().await.expect("commit");
        order
    }
}

impl Trial for Authorizations {
    of_the_shop!(AuthorizePayment);

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let order_id = self.lapsed(engine, run).await;
        let (payment_method_id, amount, currency) = sqlx::query_as(
            r#"select m.payment_method_id, o.total_amount, o.currency
            from shop."order" o join shop.payment_method m using (customer_id)
            where o.order_id = $1 and m.token = $2"#,
        )
        .bind(order_id)
        .bind(format!("pm_sandbox_{}", self.1))
        .fetch_one(engine.pool())
        .await
        .map(|(method, amount, currency): (Uuid, rust_decimal::Decimal, String)| {
            (method, amount, currency)
        })
        .expect("the customer has such a method");
        let currency = currency.parse().expect("a currency");
        let amount = stepwise_workflows::money::Money::new(amount, currency).expect("an amount");
        let command = authorize::AuthorizePayment { order_id, payment_method_id, amount };
        let shop = self.0.shop();
        let admin = Actor::Key(KeyRole::Admin, Uuid::now_v7());
        let cause = Cause::of_request(admin, Uuid::now_v7(), None);
        let mut tx = engine.begin().await.expect("begin");
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let operation = authorize_payment(&mut ctx, &command).await.expect("it is accepted");
        tx.commit().await.expect("commit");
        operation
    }

    /// If the customer has to approve, they do, and the gateway says so.
    async fn play(&self, engine: &Engine, id: Uuid) {
        if self.1 != "challenge" {
            return;
        }
        let Some(page) = approval_page(engine.pool(), id).await else { return };
        let approved = reqwest::Client::new().post(page).body("decision=approve").send().await;
        approved.expect("the gateway answers");
        let reported = Signal::GatewayReported;
        stepwise_engine::testing::signal::<AuthorizePayment>(engine, id, "approved", reported)
            .await;
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let authorizations = usize::from(status == Status::Completed);
        self.0.check(engine, id, "pending", authorizations).await
    }
}

#[test]
pub(crate) fn an_authorization_unwinds_from_every_step() {
    unwinds(
        &Authorizations::paid_by("ok"),
        &[
            "cancelled before Create",
            "Create refuses by Refused",
            "Create not done and never heard of",
            "Create done and never heard of",
            "cancelled after Create",
            "cancelled before Confirm",
            "Confirm refuses by Refused",
            "Confirm refuses by Voided",
            "Confirm not done and never heard of",
            "Confirm done and never heard of",
            "cancelled after Confirm",
            "cancelled before Book",
            "Book refuses by OrderCancelled",
        ],
        &[
            "Create repeated",
            "Confirm repeated",
            "Book repeated",
            "void repeated, an undo",
            "cancel repeated, an undo",
            "give_up repeated, an undo",
        ],
    );
}

#[test]
pub(crate) fn an_authorization_survives_a_crash_at_every_point() {
    survives(&Authorizations::paid_by("ok"), Status::Completed, 8);
}

#[test]
fn an_unwinding_authorization_survives_a_crash_at_every_point() {
    survives(&Authorizations::paid_by("declined"), Status::Unwound, 10);
}

#[test]
fn an_authorization_that_waits_for_its_approval_survives_a_crash_at_every_point() {
    survives(&Authorizations::paid_by("challenge"), Status::Completed, 12);
}

/// Comparisons of one payment, whose authorization somebody else has voided.
struct Reconciliations(Placements);

impl Trial for Reconciliations {
    of_the_shop!(ReconcilePayments);

    /// The subject is the order, so that it can be found again. Only its payment is due.
    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let (order, _) = self.0.placed(engine.pool(), run).await;
        self.0.void_outside(engine.pool(), order).await;
        sqlx::query(
            "update shop.payment set ask_at = case when order_id <> $1 then saga.now() + interval '1 day' end,
                updated_at = saga.now() - interval '2 hours'",
        )
        .bind(order)
        .execute(engine.pool())
        .await
        .expect("the database is there");
        start::<ReconcilePayments>(engine, Start::new(order.to_string(), 5)).await
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let (state, voids): (String, i64) = sqlx::query_as(
            "select p.state, count(t) filter (where t.kind = 'void' and t.state = 'succeeded')
            from saga.instance i join shop.payment p on p.order_id::text = i.subject
            join shop.payment_transaction t using (payment_id) where i.saga_id = $1 group by p.state",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        match (status, &*state, voids) {
            (_, "voided", 1) => Ok(()),
            // It was called off before it had asked: the next one asks.
            (Status::Unwound, "authorized", 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

#[test]
pub(crate) fn a_reconciliation_has_nothing_to_take_back_and_may_be_repeated() {
    unwinds(
        &Reconciliations(Placements::paid_by("ok")),
        &[
            "cancelled after Choose",
            "cancelled before Ask",
            "Ask not done and never heard of",
            "Ask done and never heard of",
            "cancelled after Ask",
            "cancelled before Apply",
            "cancelled after Apply",
            "cancelled before Choose",
        ],
        &["Choose repeated", "Ask repeated", "Apply repeated", "Choose repeated"],
    );
}

#[test]
pub(crate) fn a_reconciliation_survives_a_crash_at_every_point() {
    survives(&Reconciliations(Placements::paid_by("ok")), Status::Completed, 5);
}
