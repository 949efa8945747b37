//! How payments are chosen, asked about and brought into agreement.

use futures::{StreamExt as _, stream};
use stepwise_engine::{Cause, Key, Outcome, Saga as _, StepError, StepTx, inspect};
use uuid::Uuid;

use super::{Answers, Event, QUESTION, ReconcilePaymentsSteps, SIDE_BY_SIDE};
use crate::{
    order::{
        outside::{self, Truth},
        reconcile::{self, Question},
        refund,
    },
    payment::gateway::{GatewayError, Trouble},
    sagas::{Steps, cancel_order::CancelOrder, refund_payment::RefundPayment},
    shop::Context,
};

/// How many refunds the answers of one page may have together: they are stored. A payment beyond is asked about again later.
const REFUNDS: usize = 500;

/// How many pages in a row may be left out because sagas move their money. After that the next instance goes on.
const PAGES_LEFT_OUT: usize = 20;

async fn ask_one(steps: &Steps, question: &Question) -> Result<Truth, Trouble> {
    let asking = outside::ask(&*steps.shop.gateway, &question.reference);
    match tokio::time::timeout(QUESTION, asking).await {
        Ok(Ok(truth)) => Ok(truth),
        Ok(Err(GatewayError::NotDone(trouble) | GatewayError::Unknown(trouble))) => Err(trouble),
        Err(_) => Err(Trouble::TimedOut),
    }
}

impl ReconcilePaymentsSteps for Steps {
    async fn choose(&self, tx: &mut StepTx<'_>, at_most: &u16) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        for _ in 0..PAGES_LEFT_OUT {
            let due = reconcile::choose(&mut ctx, *at_most).await?;
            if due.is_empty() {
                return Ok(Event::NoneDue);
            }
            let mut page = Vec::with_capacity(due.len());
            for due in due {
                if !due.is_asked || withdraw(&mut ctx, due.question.order_id).await? {
                    page.push(due.question);
                }
            }
            if !page.is_empty() {
                return Ok(Event::Due(page));
            }
        }
        Ok(Event::NoneDue)
    }

    async fn ask(&self, _: &Key, page: &Vec<Question>) -> Outcome<Event> {
        // A list, because a stream of closures that borrow cannot be sent to another thread.
        let asking: Vec<_> = page
            .iter()
            .map(|question| async move { (question, ask_one(self, question).await) })
            .collect();
        let answers: Vec<_> = stream::iter(asking).buffered(SIDE_BY_SIDE.into()).collect().await;
        let is_answered = |answer: &Result<Truth, Trouble>| match answer {
            Ok(_) => true,
            Err(trouble) => is_about_one(*trouble),
        };
        if !answers.iter().any(|(_, answer)| is_answered(answer))
            && let Some((_, Err(trouble))) = answers.first()
        {
            // A question changes nothing, so it may simply be asked again.
            return Outcome::NotDone(Cause::new(trouble));
        }
        let (mut told, mut refunds) = (Answers::default(), 0);
        for (question, answer) in answers {
            match answer {
                Ok(truth) if question.agrees(&truth) => told.agreed.push(question.payment_id),
                Ok(truth) => {
                    refunds += truth.refunds.len();
                    if refunds <= REFUNDS || told.differ.is_empty() {
                        told.differ.push((question.clone(), truth));
                    }
                }
                Err(trouble) => {
                    tracing::warn!(payment = %question.payment_id, order = %question.order_id, %trouble,
                        "the gateway cannot be asked about a payment; it is asked again later");
                    told.unanswered.push(question.clone());
                }
            }
        }
        Outcome::event(Event::Answered(told))
    }

    async fn apply(&self, tx: &mut StepTx<'_>, answers: &Answers) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let mut answered = answers.agreed.clone();
        for (question, truth) in &answers.differ {
            if reconcile::apply(&mut ctx, question, truth).await? {
                answered.push(question.payment_id);
            }
        }
        reconcile::answered(&mut ctx, &answered).await?;
        for question in &answers.unanswered {
            reconcile::put_off(&mut ctx, question).await?;
        }
        Ok(Event::Applied)
    }
}

/// Whether the gateway itself answers, and only what it says about this payment is of no use.
fn is_about_one(trouble: Trouble) -> bool {
    match trouble {
        Trouble::Garbled | Trouble::InFlight => true,
        Trouble::Misconfigured(status) => !matches!(status, 401 | 403),
        Trouble::Unreachable
        | Trouble::TimedOut
        | Trouble::ConnectionLost
        | Trouble::ServerError(_)
        | Trouble::Unavailable(_)
        | Trouble::Down => false,
    }
}

/// Withdraws the voids and refunds of an order that were asked for, unless a saga that settles them runs. Whether none runs. 2 round trips, and 1 to
/// withdraw.
async fn withdraw(ctx: &mut Context<'_>, order: Uuid) -> Result<bool, sqlx::Error> {
    let subject = order.to_string();
    for saga in [CancelOrder::NAME, RefundPayment::NAME] {
        if !inspect::open_about(ctx, saga, &subject).await?.is_empty() {
            return Ok(false);
        }
    }
    refund::withdraw_others(ctx, order, &[]).await?;
    Ok(true)
}
