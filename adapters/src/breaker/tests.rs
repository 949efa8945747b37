//! Tests of the breaker with a gateway that the test switches on and off.

use std::sync::atomic::AtomicUsize;

use stepwise_workflows::{
    money::Currency,
    payment::gateway::{MethodToken, OPERATION},
};

use super::*;

/// The pauses between the breaker's own calls.
const QUICK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// A gateway that the test switches on and off, and that counts its calls.
#[derive(Default)]
struct Scripted {
    silent: AtomicBool,
    fails_writes: AtomicBool,
    fails_reads: AtomicBool,
    calls: AtomicUsize,
    questions: AtomicUsize,
}

impl Scripted {
    fn says<T>(&self, answer: T) -> Result<T, GatewayError> {
        if self.silent.load(Relaxed) {
            return Err(GatewayError::Unknown(Trouble::ServerError(502)));
        }
        Ok(answer)
    }

    fn writes<T>(&self, answer: T) -> Result<T, GatewayError> {
        if self.fails_writes.load(Relaxed) {
            return Err(GatewayError::NotDone(Trouble::Unavailable(503)));
        }
        self.says(answer)
    }
}

#[async_trait]
impl PaymentGateway for Scripted {
    async fn create(&self, _: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        self.calls.fetch_add(1, Relaxed);
        if charge.method.0 == "silent" {
            return Err(GatewayError::Unknown(Trouble::TimedOut));
        }
        if charge.method.0 == "endless" {
            std::future::pending::<()>().await;
        }
        self.writes(Creation::Created(Reference("pi".to_owned())))
    }

    async fn confirm(&self, _: &str, _: &Reference) -> Result<Confirmation, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn find(&self, _: &Reference) -> Result<Option<Authorization>, GatewayError> {
        self.questions.fetch_add(1, Relaxed);
        if self.fails_reads.load(Relaxed) {
            return Err(GatewayError::NotDone(Trouble::Unreachable));
        }
        self.says(None)
    }

    async fn find_by_key(&self, _: Uuid, _: &str) -> Result<Option<Authorization>, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn cancel(&self, _: &str, reference: &Reference) -> Result<Cancellation, GatewayError> {
        assert_eq!(reference.0, NOBODYS.0, "the breaker cancels nothing real");
        self.questions.fetch_add(1, Relaxed);
        self.writes(Cancellation::NotFound)
    }

    async fn find_void(&self, _: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn capture(&self, _: &str, _: &Reference, _: Money) -> Result<Capture, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn refund(&self, _: &str, _: &Reference, _: Money) -> Result<Refund, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn find_refund(&self, _: &str, _: &Reference) -> Result<Option<Refund>, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn open_customer(&self, _: &str, _: Uuid) -> Result<Creation, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn attach(
        &self,
        _: &str,
        _: &MethodToken,
        _: &Reference,
    ) -> Result<Attachment, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn detach(&self, _: &str, _: &MethodToken) -> Result<(), GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn delete_customer(&self, _: &Reference) -> Result<(), GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn refunds(&self, _: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        unreachable!("only creations are called here")
    }
}

fn charge(method: &str) -> Charge {
    Charge {
        order_id: Uuid::nil(),
        amount: Money::from_minor(100, Currency::USD).expect("a dollar is an amount"),
        method: MethodToken(method.to_owned()),
        customer: None,
    }
}

#[tokio::test]
async fn a_gateway_that_is_down_is_spared_and_called_again_when_it_answers() {
    let gateway = Arc::new(Scripted::default());
    let breaker = Breaker::with_pauses(gateway.clone(), ("cards", NOBODYS.0), QUICK);
    let mut line = breaker.line();
    gateway.silent.store(true, Relaxed);
    for _ in 0..SUSPICIOUS {
        breaker.create("k", &charge("ok")).await.expect_err("it is silent");
    }
    line.wait_for(|line| *line != Line::Closed).await.expect("the breaker lives");
    for _ in 0..1_000 {
        let spared = breaker.create("k", &charge("ok")).await;
        assert!(matches!(spared, Err(GatewayError::NotDone(Trouble::Down))), "{spared:?}");
    }
    assert_eq!(gateway.calls.load(Relaxed), SUSPICIOUS as usize, "the breaker asks for all");
    let opened = Instant::now();
    while gateway.questions.load(Relaxed) < 12 {
        assert!(opened.elapsed() < Duration::from_secs(20), "the breaker keeps calling");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // At least 0.8 of 5, 10, 20, 40 and then 50 ms.
    assert!(opened.elapsed() > Duration::from_millis(300), "ever more rarely");
    gateway.silent.store(false, Relaxed);
    line.wait_for(|line| *line == Line::Closed).await.expect("the breaker lives");
    breaker.create("k", &charge("ok")).await.expect("it answers");
}

#[tokio::test]
async fn a_card_that_never_answers_opens_nothing() {
    let gateway = Arc::new(Scripted::default());
    let breaker = Breaker::before(gateway.clone());
    let line = breaker.line();
    let begun = Instant::now();
    while gateway.questions.load(Relaxed) < 20 || breaker.core.asks.load(Relaxed) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is asked whether it is there");
        let unheard = breaker.create("k", &charge("silent")).await;
        assert!(matches!(unheard, Err(GatewayError::Unknown(Trouble::TimedOut))), "{unheard:?}");
        tokio::task::yield_now().await;
    }
    let changed = line.has_changed().expect("the breaker lives");
    assert!(!changed, "it has not opened, not even for a moment");
}

#[tokio::test]
async fn a_gateway_that_answers_reads_only_is_spared_until_it_takes_writes() {
    let gateway = Arc::new(Scripted::default());
    let breaker = Breaker::with_pauses(gateway.clone(), ("cards", NOBODYS.0), QUICK);
    let mut line = breaker.line();
    gateway.fails_writes.store(true, Relaxed);
    let known = Reference("pi".to_owned());
    for _ in 0..SUSPICIOUS {
        // Look-ups in between are answered, but they say nothing about writes.
        breaker.create("k", &charge("ok")).await.expect_err("it takes no writes");
        breaker.find(&known).await.expect("it answers reads");
    }
    let opening = line.wait_for(|line| !line.takes_writes());
    timeout(Duration::from_secs(5), opening).await.expect("it opens").expect("the breaker lives");
    for _ in 0..1_000 {
        let spared = breaker.create("k", &charge("ok")).await;
        assert!(matches!(spared, Err(GatewayError::NotDone(Trouble::Down))), "{spared:?}");
    }
    assert_eq!(gateway.calls.load(Relaxed), SUSPICIOUS as usize, "the breaker asks for all");
    gateway.fails_writes.store(false, Relaxed);
    let closing = line.wait_for(|line| *line == Line::Closed);
    timeout(Duration::from_secs(5), closing).await.expect("it closes").expect("the breaker lives");
    breaker.create("k", &charge("ok")).await.expect("it answers");
}

#[tokio::test]
async fn a_gateway_that_answers_writes_only_is_spared_look_ups_only() {
    let gateway = Arc::new(Scripted::default());
    let breaker = Breaker::with_pauses(gateway.clone(), ("cards", NOBODYS.0), QUICK);
    let mut line = breaker.line();
    gateway.fails_reads.store(true, Relaxed);
    let known = Reference("pi".to_owned());
    for _ in 0..SUSPICIOUS {
        breaker.find(&known).await.expect_err("it answers no reads");
        breaker.create("k", &charge("ok")).await.expect("it takes writes");
    }
    let opening = line.wait_for(|line| *line != Line::Closed);
    timeout(Duration::from_secs(5), opening).await.expect("it opens").expect("the breaker lives");
    breaker.create("k", &charge("ok")).await.expect("writes go through");
    let spared = breaker.find(&known).await;
    assert!(matches!(spared, Err(GatewayError::NotDone(Trouble::Down))), "{spared:?}");
    gateway.fails_reads.store(false, Relaxed);
    let closing = line.wait_for(|line| *line == Line::Closed);
    timeout(Duration::from_secs(5), closing).await.expect("it closes").expect("the breaker lives");
    breaker.find(&known).await.expect("it answers");
}

#[tokio::test]
async fn a_call_ends_when_the_time_that_the_port_allows_is_over() {
    let breaker = Breaker::before(Arc::new(Scripted::default()));
    let begun = Instant::now();
    let late = breaker.create("k", &charge("endless")).await;
    assert!(matches!(late, Err(GatewayError::Unknown(Trouble::TimedOut))), "{late:?}");
    assert!((OPERATION..OPERATION * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
