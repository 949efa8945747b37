//! The breaker before a gateway that answers or not, as it is told.

use std::sync::atomic::AtomicUsize;

use stepwise_workflows::{money::Currency, payment::gateway::MethodToken};

use super::*;

/// A gateway that answers or not, as it is told, and counts what it was asked.
#[derive(Default)]
struct Scripted {
    silent: AtomicBool,
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
}

#[async_trait]
impl PaymentGateway for Scripted {
    async fn create(&self, _: &str, charge: &Charge) -> Result<Creation, GatewayError> {
        self.calls.fetch_add(1, Relaxed);
        if charge.method.0 == "silent" {
            return Err(GatewayError::Unknown(Trouble::TimedOut));
        }
        self.says(Creation::Created(Reference("pi".to_owned())))
    }

    async fn confirm(&self, _: &str, _: &Reference) -> Result<Confirmation, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn find(&self, _: &Reference) -> Result<Option<Authorization>, GatewayError> {
        self.questions.fetch_add(1, Relaxed);
        self.says(None)
    }

    async fn find_by_key(&self, _: Uuid, _: &str) -> Result<Option<Authorization>, GatewayError> {
        unreachable!("only creations are called here")
    }

    async fn cancel(&self, _: &str, _: &Reference) -> Result<Cancellation, GatewayError> {
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
}

fn charge(method: &str) -> Charge {
    Charge {
        order_id: Uuid::nil(),
        amount: Money::from_minor(100, Currency::USD).expect("a dollar is an amount"),
        method: MethodToken(method.to_owned()),
    }
}

#[tokio::test]
async fn a_gateway_that_is_down_is_spared_and_called_again_when_it_answers() {
    let gateway = Arc::new(Scripted::default());
    let pauses = (Duration::from_millis(5), Duration::from_millis(50));
    let breaker = Breaker::with_pauses(gateway.clone(), pauses);
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
        assert!(opened.elapsed() < Duration::from_secs(20), "it goes on asking");
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
    for _ in 0..20 {
        let unheard = breaker.create("k", &charge("silent")).await;
        assert!(matches!(unheard, Err(GatewayError::Unknown(Trouble::TimedOut))), "{unheard:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*breaker.line().borrow(), Line::Closed);
    }
    assert!(gateway.questions.load(Relaxed) > 0, "it was asked whether it is there");
}
