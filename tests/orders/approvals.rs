//! Approvals at PayPal on trial: an approval that is given or not, with a crash at every point.

use stepwise_engine::{Engine, Status, testing::Trial};
use stepwise_workflows::{
    customer::paypal::InitiatePayPal,
    money::{Currency, Money},
    sagas::paypal_approval::{PayPalApproval, Signal, initiate_paypal},
    seed,
    shop::{Actor, Cause, Context},
};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, approval_page, of_the_shop},
    unwinding::unwinds,
};

/// Approvals of customers who do what PayPal's page asks.
struct Approvals(Placements);

impl Trial for Approvals {
    of_the_shop!(PayPalApproval);

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let shop = self.0.shop();
        let mut tx = engine.begin().await.expect("begin");
        let demo = seed::demo(&shop, &mut tx).await.expect("the demo shop is there");
        let customer_id = demo.customers[run % demo.customers.len()].customer_id;
        let page = &shop.config.return_origins[0];
        let command = InitiatePayPal {
            customer_id,
            amount: Money::from_minor(2_744, Currency::USD).expect("an amount"),
            return_url: format!("{page}/thanks"),
            cancel_url: format!("{page}/cart"),
        };
        let cause = Cause::of_request(Actor::Customer(customer_id), Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        let initiated = initiate_paypal(&mut ctx, &command).await.expect("an approval");
        tx.commit().await.expect("commit");
        initiated.operation_id
    }

    /// The customer approves, and PayPal says so.
    async fn play(&self, engine: &Engine, id: Uuid) {
        let Some(page) = approval_page(engine.pool(), id).await else { return };
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("a plain client");
        client.post(page).body("decision=approve").send().await.expect("the page answers");
        let mut tx = engine.begin().await.expect("begin");
        engine
            .signal::<PayPalApproval>(&mut tx, id, "approved", Signal::Reported)
            .await
            .expect("there");
        tx.commit().await.expect("commit");
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let (state, is_listed, has_token): (String, bool, bool) = sqlx::query_as(
            "select paypal_approval.state, removed_at is null, token is not null
            from saga.instance join shop.paypal_approval on paypal_approval.payment_method_id = subject::uuid
            join shop.payment_method using (payment_method_id)
            where saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        let ends = if status == Status::Completed { "approved" } else { "expired" };
        if state != ends {
            return Err(format!("the method is {state}"));
        }
        // A method that PayPal never opened is nobody's.
        if is_listed != has_token {
            return Err(format!("listed: {is_listed}, opened: {has_token}"));
        }
        Ok(())
    }
}

#[test]
pub(crate) fn an_approval_survives_a_crash_at_every_point() {
    survives(&Approvals(Placements::paid_by("ok")), Status::Completed, 10);
}

#[test]
pub(crate) fn an_approval_unwinds_from_every_step() {
    unwinds(
        &Approvals(Placements::paid_by("ok")),
        &[
            "cancelled before Open",
            "Open refuses by Refused",
            "Open not done and never heard of",
            "Open done and never heard of",
            "cancelled after Open",
            "cancelled before Offer",
            "cancelled after Offer",
            "cancelled before Ask",
            "Ask refuses by Gone",
            "Ask not done and never heard of",
            "Ask done and never heard of",
            "cancelled after Ask",
            "cancelled before Approve",
        ],
        &[
            "Open repeated",
            "Offer repeated",
            "Ask repeated",
            "Approve repeated",
            "expire repeated, an undo",
        ],
    );
}
