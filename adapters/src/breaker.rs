//! A circuit breaker for the payment gateway: while the gateway is down it is not called by every saga, and the waiting sagas learn
//! when it is back.
//!
//! A call that takes longer than the port allows (`OPERATION`) ends here, with an unknown outcome.
//!
//! After three calls in a row without an answer the breaker asks the gateway itself, with calls that change nothing. If they are not
//! answered either, the breaker *opens*: every call fails at once with [`Trouble::Down`], which certainly had no effect. Only the breaker
//! still calls the gateway, first after 0.3 s and in the end every 3 s. The first answer *closes* the breaker. Because the breaker asks
//! before it opens, a card whose calls are never answered, or one slow call, does not open it.
//!
//! Reads and writes are judged separately: a gateway whose database is read-only answers every look-up and fails every payment. In that
//! case only an answer to a write closes the breaker.
//!
//! Every answer counts, refusals included, except a 5xx and an answer that cannot be parsed. Each process has a breaker of its own for each
//! provider, which does not depend on those of other processes.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use stepwise_workflows::{
    money::Money,
    payment::gateway::{
        Attachment, Authorization, Cancellation, Capture, Charge, Confirmation, Creation,
        GatewayError, MadeRefund, MethodToken, PaymentGateway, Reference, Refund, Trouble,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::provider::in_time;

/// The breaker asks the gateway itself after this many calls in a row without an answer.
const SUSPICIOUS: u32 = 3;

/// How long the breaker waits for the answer to its own call.
const QUESTION: Duration = Duration::from_secs(2);

/// The first pause between two calls of the breaker, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));

/// References that no payment has, at Stripe and at PayPal. A gateway that works answers that it does not know it; cancelling it changes
/// nothing.
const NOBODYS: (&str, &str) = ("pi_is_anybody_there", "paypal:0ISANYBODYTHERE0");

/// Whether a call only reads or may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// Whether the gateway answers, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Calls reach the gateway.
    Closed,
    /// Some calls are not answered, so they are not sent.
    Open {
        /// The time since which calls are not answered.
        since: Instant,
        /// Whether writes are answered, so that only reads are not sent.
        only_reads: bool,
    },
}

impl Line {
    fn blocks(&self, kind: Kind) -> bool {
        match self {
            Self::Closed => false,
            Self::Open { only_reads, .. } => kind == Kind::Read || !only_reads,
        }
    }

    /// Whether calls that move money reach the gateway.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        !self.blocks(Kind::Write)
    }
}

/// The circuit breaker, which implements the payment gateway. Clones share its state.
#[derive(Clone)]
pub struct Breaker {
    core: Arc<Core>,
}

struct Core {
    gateway: Arc<dyn PaymentGateway>,
    /// The gateway's name in metrics and logs.
    provider: &'static str,
    /// A reference that no payment has.
    nobodys: &'static str,
    /// The first pause between two calls of the breaker, and the longest.
    pauses: (Duration, Duration),
    line: watch::Sender<Line>,
    /// Reads in a row without an answer.
    unanswered_reads: AtomicU32,
    /// Writes in a row without an answer.
    unanswered_writes: AtomicU32,
    /// Whether the breaker is calling the gateway itself.
    asks: AtomicBool,
}

impl Breaker {
    /// Creates a breaker for this gateway, which takes cards. All calls to the gateway must go through the breaker.
    pub fn before(gateway: Arc<dyn PaymentGateway>) -> Self {
        Self::with_pauses(gateway, ("cards", NOBODYS.0), PAUSES)
    }

    /// Creates a breaker for PayPal, so that an outage of PayPal does not keep the shop from payments by card.
    pub fn before_paypal(gateway: Arc<dyn PaymentGateway>) -> Self {
        Self::with_pauses(gateway, ("paypal", NOBODYS.1), PAUSES)
    }

    fn with_pauses(
        gateway: Arc<dyn PaymentGateway>,
        (provider, nobodys): (&'static str, &'static str),
        pauses: (Duration, Duration),
    ) -> Self {
        let core = Core {
            gateway,
            provider,
            nobodys,
            pauses,
            line: watch::Sender::new(Line::Closed),
            unanswered_reads: AtomicU32::new(0),
            unanswered_writes: AtomicU32::new(0),
            asks: AtomicBool::new(false),
        };
        core.show(1.0);
        Self { core: Arc::new(core) }
    }

    /// The state of the breaker, which changes when it opens and closes.
    #[must_use]
    pub fn line(&self) -> watch::Receiver<Line> {
        self.core.line.subscribe()
    }

    /// Calls the gateway, unless the breaker is open for this kind of call.
    async fn call<T>(
        &self,
        kind: Kind,
        call: impl Future<Output = Result<T, GatewayError>> + Send,
    ) -> Result<T, GatewayError> {
        if self.core.line.borrow().blocks(kind) {
            metrics::counter!("stepwise_gateway_calls_spared_total").increment(1);
            return Err(GatewayError::NotDone(Trouble::Down));
        }
        let outcome = in_time(call).await;
        let unanswered = self.core.unanswered(kind);
        if is_answer(&outcome) {
            unanswered.store(0, Relaxed);
        } else if unanswered.fetch_add(1, Relaxed) + 1 >= SUSPICIOUS
            && !self.core.asks.swap(true, Relaxed)
        {
            // The task ends with the gateway's first answer, or when the breaker is dropped.
            tokio::spawn(ask_until_answered(Arc::downgrade(&self.core)));
        }
        outcome
    }
}

/// Whether the gateway gave an answer that can be parsed.
fn is_answer<T>(outcome: &Result<T, GatewayError>) -> bool {
    let Err(GatewayError::NotDone(trouble) | GatewayError::Unknown(trouble)) = outcome else {
        return true;
    };
    match trouble {
        Trouble::InFlight | Trouble::Misconfigured(_) => true,
        // 429 (too many requests) shows that the gateway works.
        Trouble::Unavailable(status) => *status < 500,
        Trouble::Unreachable
        | Trouble::TimedOut
        | Trouble::ConnectionLost
        | Trouble::ServerError(_)
        | Trouble::Garbled
        | Trouble::Down => false,
    }
}

impl Core {
    /// Sets the gauge that tells whether the gateway answers.
    fn show(&self, answers: f64) {
        metrics::gauge!("stepwise_gateway_answers", "provider" => self.provider).set(answers);
    }

    fn unanswered(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Read => &self.unanswered_reads,
            Kind::Write => &self.unanswered_writes,
        }
    }

    /// Whether calls of this kind are not sent, or none of the last few was answered.
    fn doubts(&self, kind: Kind) -> bool {
        self.line.borrow().blocks(kind) || self.unanswered(kind).load(Relaxed) >= SUSPICIOUS
    }

    /// Makes one call that changes nothing, and returns whether the gateway answers it.
    async fn answers(&self, kind: Kind) -> bool {
        let nobodys = Reference(self.nobodys.to_owned());
        let asking = async {
            match kind {
                Kind::Read => is_answer(&self.gateway.find(&nobodys).await),
                // The key is new each time, because a gateway may repeat an earlier answer for a known key.
                Kind::Write => {
                    let key = format!("is-anybody-there-{}", Uuid::now_v7());
                    is_answer(&self.gateway.cancel(&key, &nobodys).await)
                }
            }
        };
        let answers = timeout(QUESTION, asking).await.unwrap_or(false);
        if answers {
            self.unanswered(kind).store(0, Relaxed);
        }
        answers
    }

    /// Makes calls of the kinds that are in doubt. While writes are not answered, reads are not tried.
    async fn look(&self) -> Found {
        if self.doubts(Kind::Write) && !self.answers(Kind::Write).await {
            Found::NoAnswer
        } else if self.doubts(Kind::Read) && !self.answers(Kind::Read).await {
            Found::OnlyWrites
        } else {
            Found::Answers
        }
    }

    fn set(&self, found: Found) {
        let earlier = *self.line.borrow();
        let since = match earlier {
            Line::Closed => Instant::now(),
            Line::Open { since, .. } => since,
        };
        let now = match found {
            Found::Answers => Line::Closed,
            Found::OnlyWrites => Line::Open { since, only_reads: true },
            Found::NoAnswer => Line::Open { since, only_reads: false },
        };
        if now != earlier {
            self.line.send_replace(now);
        }
        match (earlier, now) {
            (Line::Closed, Line::Open { only_reads, .. }) => {
                self.show(0.0);
                tracing::warn!(
                    provider = self.provider,
                    only_reads,
                    "the payment gateway does not answer; it is not called until it does"
                );
            }
            (Line::Open { .. }, Line::Closed) => {
                self.show(1.0);
                let away_s = since.elapsed().as_secs_f32();
                tracing::info!(
                    provider = self.provider,
                    away_s,
                    "the payment gateway answers again"
                );
            }
            _ => {}
        }
    }
}

/// The result of the breaker's own calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Answers,
    OnlyWrites,
    NoAnswer,
}

/// Calls the gateway with growing pauses until it answers. The first call that is not answered opens the breaker.
async fn ask_until_answered(core: Weak<Core>) {
    let mut pauses = None;
    while let Some(core) = core.upgrade() {
        let found = core.look().await;
        if found == Found::Answers {
            // Reset before the breaker closes, because the next suspicion may arise at once.
            core.asks.store(false, Relaxed);
            return core.set(found);
        }
        core.set(found);
        let (pause, longest) = *pauses.get_or_insert(core.pauses);
        drop(core);
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..=1.0))).await;
        pauses = Some(((pause * 2).min(longest), longest));
    }
}

#[async_trait]
impl PaymentGateway for Breaker {
    async fn create(&self, key: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        self.call(Kind::Write, self.core.gateway.create(key, charge)).await
    }

    async fn confirm(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Confirmation, GatewayError> {
        self.call(Kind::Write, self.core.gateway.confirm(key, reference)).await
    }

    async fn find(&self, reference: &Reference) -> Result<Option<Authorization>, GatewayError> {
        self.call(Kind::Read, self.core.gateway.find(reference)).await
    }

    async fn find_by_key(
        &self,
        order_id: Uuid,
        key: &str,
    ) -> Result<Option<Authorization>, GatewayError> {
        self.call(Kind::Read, self.core.gateway.find_by_key(order_id, key)).await
    }

    async fn cancel(&self, key: &str, reference: &Reference) -> Result<Cancellation, GatewayError> {
        self.call(Kind::Write, self.core.gateway.cancel(key, reference)).await
    }

    async fn find_void(&self, reference: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        self.call(Kind::Read, self.core.gateway.find_void(reference)).await
    }

    async fn capture(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Capture, GatewayError> {
        self.call(Kind::Write, self.core.gateway.capture(key, reference, amount)).await
    }

    async fn refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError> {
        self.call(Kind::Write, self.core.gateway.refund(key, reference, amount)).await
    }

    async fn find_refund(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Option<Refund>, GatewayError> {
        self.call(Kind::Read, self.core.gateway.find_refund(key, reference)).await
    }

    async fn open_customer(&self, key: &str, customer_id: Uuid) -> Result<Creation, GatewayError> {
        self.call(Kind::Write, self.core.gateway.open_customer(key, customer_id)).await
    }

    async fn attach(
        &self,
        key: &str,
        method: &MethodToken,
        customer: &Reference,
    ) -> Result<Attachment, GatewayError> {
        self.call(Kind::Write, self.core.gateway.attach(key, method, customer)).await
    }

    async fn detach(&self, key: &str, method: &MethodToken) -> Result<(), GatewayError> {
        self.call(Kind::Write, self.core.gateway.detach(key, method)).await
    }

    async fn delete_customer(&self, customer: &Reference) -> Result<(), GatewayError> {
        self.call(Kind::Write, self.core.gateway.delete_customer(customer)).await
    }

    async fn refunds(&self, reference: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        self.call(Kind::Read, self.core.gateway.refunds(reference)).await
    }
}

#[cfg(test)]
mod tests;
